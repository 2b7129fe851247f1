"""What the front door returns, and what adapters ask it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from colbert_research.data.passages import source_of
from colbert_research.search import Hit

Result = dict[str, Any]


class Searchable(Protocol):
    """What `Asked` asks."""

    def hits(
        self, queries: list[str], *, index_name: str | None, k: int, force_fast: bool, doc_ids: Any, filter: Any
    ) -> list[list[Hit]]: ...


@dataclass(frozen=True, eq=False)
class Asked:
    """A model's index in the place of a `Retriever`, as that index is whenever it is asked; `ids` are those of documents."""

    model: Searchable
    index_name: str | None
    force_fast: bool

    def search(self, text: str, k: int = 10, ids: Iterable[str] | None = None, filter: Any = None) -> list[Hit]:
        """The best `k` passages, as `Retriever.search` gives them."""
        (hits,) = self.model.hits(
            [text], index_name=self.index_name, k=k, force_fast=self.force_fast, doc_ids=ids, filter=filter
        )
        return hits


def result_of(hit: Hit, position: int, rank: int) -> Result:
    """A hit as RAGatouille's `search` gives it."""
    source = source_of(hit.document_id, hit.metadata)
    found = {"content": hit.text, "score": hit.score, "rank": rank, "document_id": source.document_id, "passage_id": position}
    return {**found, "document_metadata": dict(source.metadata)} if source.metadata else found
