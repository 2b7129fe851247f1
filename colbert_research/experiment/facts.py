"""What is known of a collection without reading it again: fingerprints and counts."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from colbert_research import data
from colbert_research.config import content_hash
from colbert_research.data import Collection
from colbert_research.experiment.imports import PACKAGE
from colbert_research.experiment.live import Live
from colbert_research.experiment.sources import check_loaded, significant
from colbert_research.fingerprints import remembered
from colbert_research.texts import TextFields


@dataclass(frozen=True)
class CollectionFacts:
    """`fingerprint`: of all that a result can depend on. `documents`, `queries`: of the texts that are encoded. `store`: of
    what an index keeps of documents. `query_ids`: of the identifiers. `greatest_grade`: of the judgements.
    """

    name: str
    fingerprint: str
    documents: str
    queries: str
    store: str
    query_ids: str
    n_documents: int
    n_queries: int
    n_judgements: int
    greatest_grade: int
    exclude_self: bool
    text_fields: TextFields

    @classmethod
    def of(cls, collection: Collection) -> "CollectionFacts":
        grades = [grade for judged in collection.qrels.values() for grade in judged.values()]
        return cls(
            name=collection.name,
            fingerprint=collection.fingerprint(),
            documents=collection.documents_fingerprint(),
            queries=collection.queries_fingerprint(),
            store=content_hash(collection.document_ids, collection.titles, collection.texts, collection.metadata),
            query_ids=content_hash(collection.query_ids),
            n_documents=len(collection),
            n_queries=len(collection.query_ids),
            n_judgements=len(grades),
            greatest_grade=max(grades, default=0),
            exclude_self=collection.exclude_self,
            text_fields=collection.text_fields,
        )


def facts_of(dataset: Any, load: Any) -> CollectionFacts:
    """The facts of a dataset config's collection; `load()` gives the collection, if it is not known from its files.

    Only a config that names its files (`files()`) is remembered.
    """
    files = dataset.files() if hasattr(dataset, "files") else None
    if files is None:
        return CollectionFacts.of(load())
    settings = [dataset.model_dump(mode="json"), _readers(type(dataset))]
    return CollectionFacts(**remembered("collection/1", settings, files, lambda: asdict(CollectionFacts.of(load()))))


def _readers(cls: type) -> str:
    """A hash of the code that reads collections: this package's, and of a class from outside what it is now."""
    room = Path(data.__file__).parent
    files = {f"{data.__name__}.{file.stem}": file for file in sorted(room.glob("*.py"))}
    files[f"{PACKAGE}.texts"] = room.parent / "texts.py"
    for name, file in files.items():
        check_loaded(name.removesuffix(".__init__"), file)
    own = [] if cls.__module__.startswith(f"{PACKAGE}.") else [Live.of([cls]).digest]
    return content_hash([significant(file) for file in files.values()], own)
