"""Collections through the ir_datasets package, which is an extra: MS MARCO, TREC, LoTTE, BEIR and more."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from colbert_research.data.collection import Collection
from colbert_research.data.records import DataError, DatasetConfig, Records, assemble

EXTRA = 'pip install "colbert-research[ir-datasets]"'


class IrDatasetsConfig(DatasetConfig):
    """A dataset of ir_datasets by its name there, which includes the split: `beir/scifact/test`.

    The text of a document is its `default_text()`. Where that is its `title` and its `text` and nothing else, the two are kept
    apart; otherwise it is taken whole and the rule "text" cannot leave a title out. All other fields become metadata, and so
    do those of a query besides its `default_text()`.
    """

    kind: Literal["ir_datasets"] = "ir_datasets"
    name: str = "beir/scifact/test"

    def load(self) -> Collection:
        """Download (on first use) and read; raises `DataError` for an unknown name, missing parts or bad records, and
        `ImportError` where ir_datasets is not installed."""
        try:
            import ir_datasets
        except ModuleNotFoundError as error:
            raise ImportError(f"dataset kind 'ir_datasets' needs a package that is not installed: {EXTRA}") from error
        try:
            dataset = ir_datasets.load(self.name)
        except KeyError:
            raise DataError(f"ir_datasets has no dataset {self.name!r}; https://ir-datasets.com lists the names") from None
        for part in ("docs", "queries", "qrels"):
            if not hasattr(dataset, f"{part}_iter"):
                advice = "name one with documents, queries and judgements, which often ends in a split: beir/scifact/test"
                raise DataError(f"the dataset {self.name!r} of ir_datasets has no {part}; {advice}")
        return assemble(
            self.name,
            self._records("docs", map(_document, dataset.docs_iter())),
            self._records("queries", map(_query, dataset.queries_iter())),
            self._records("qrels", map(_judgement, dataset.qrels_iter())),
            settings=self,
        )

    def _records(self, part: str, rows: Iterable[dict[str, Any]]) -> Records:
        return Records(f"ir_datasets {self.name} {part}", "record", _numbered(rows))


def _numbered(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate(rows, start=1)


def _document(document: Any) -> dict[str, Any]:
    fields = document._asdict()
    document_id, title, text, whole = fields.pop("doc_id"), fields.get("title"), fields.get("text"), _default_text(document)
    if isinstance(title, str) and whole in (f"{title} {text}", f"{title}\n{text}"):
        return {"_id": document_id, "title": fields.pop("title"), "text": fields.pop("text"), "metadata": fields}
    if whole == text:
        del fields["text"]
    return {"_id": document_id, "text": whole, "metadata": fields}


def _query(query: Any) -> dict[str, Any]:
    fields, whole = query._asdict(), _default_text(query)
    query_id = fields.pop("query_id")
    return {"_id": query_id, "text": whole, "metadata": {name: value for name, value in fields.items() if value != whole}}


def _judgement(judgement: Any) -> dict[str, Any]:
    return {"query-id": judgement.query_id, "corpus-id": judgement.doc_id, "score": judgement.relevance}


def _default_text(record: Any) -> Any:
    """What ir_datasets calls the text of a document or query; a type registered without that method gives its field `text`."""
    return record.default_text() if hasattr(record, "default_text") else getattr(record, "text", None)
