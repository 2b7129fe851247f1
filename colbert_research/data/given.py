"""A collection that is written out in a config: some texts of one's own, and what is asked of them."""

from typing import Any, Literal

from pydantic import Field

from colbert_research.data.collection import Collection
from colbert_research.data.records import DataError, DatasetConfig


class TextsConfig(DatasetConfig):
    """Documents by id -> text, `titles` and `queries` likewise, `qrels` as query id -> document id -> grade.

    What an experiment over a few texts needs; a larger collection is better kept in a folder (kind: beir).
    """

    kind: Literal["texts"] = "texts"
    name: str = "texts"
    texts: dict[str, str] = Field(min_length=1)
    titles: dict[str, str] = Field(default_factory=dict)
    queries: dict[str, str] = Field(default_factory=dict)
    qrels: dict[str, dict[str, int]] = Field(default_factory=dict)

    def load(self) -> Collection:
        """The collection; raises `DataError` for titles or judgements of what is not there."""
        unknown = sorted(set(self.titles) - set(self.texts))
        if unknown:
            raise DataError(f"titles name documents that are not among the {len(self.texts)} texts, such as {unknown[:3]}")
        strange = sorted(set(self.qrels) - set(self.queries))
        if strange:
            raise DataError(f"qrels name queries that are not among the {len(self.queries)} given, such as {strange[:3]}")
        judged: dict[str, Any] = {
            "query_ids": tuple(q for q in self.queries if q in self.qrels or not self.qrels),
            "qrels": self.qrels,
        }
        try:
            return Collection(
                name=self.name,
                document_ids=tuple(self.texts),
                titles=tuple(self.titles.get(document, "") for document in self.texts),
                texts=tuple(self.texts.values()),
                metadata=tuple({} for _ in self.texts),
                query_texts=tuple(self.queries[query] for query in judged["query_ids"]),
                exclude_self=self.exclude_self,
                text_fields=self.text_fields,
                **judged,
            )
        except ValueError as error:
            raise DataError(f"dataset {self.name!r}: {error}") from error
