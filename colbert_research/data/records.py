"""Records of any origin -> `Collection`: the one place that judges raw data and says where a bad record is."""

import logging
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from colbert_research.config import Config
from colbert_research.data.collection import Collection, unfit_metadata
from colbert_research.texts import TextFields

logger = logging.getLogger(__name__)


class DataError(ValueError):
    """Data that cannot be used: says in which file and line, what was found, what was expected and what to do."""


class DatasetConfig(Config):
    """What every origin of a collection can be told; `load` fetches it.

    `text_fields`: how a document becomes one text. `exclude_self`: queries are documents, as in ArguAna.
    `unknown_judgements`: whether a judgement of a query or document that does not exist (some sets, as distributed, have a few)
    is an error or is dropped, counted and logged. `duplicates`: whether a document that is there twice, word for word, is an
    error or counts once; two documents of one id are an error in any case.
    """

    text_fields: TextFields = "title text"
    exclude_self: bool = False
    unknown_judgements: Literal["error", "drop"] = "error"
    duplicates: Literal["error", "first"] = "error"

    @abstractmethod
    def load(self) -> Collection:
        """The collection; raises `DataError` where it cannot be read or is not what it should be."""


@dataclass(frozen=True)
class Records:
    """A stream of numbered mappings and the words for where each came from: `source`, `unit` number."""

    source: str
    unit: Literal["line", "row", "record"]
    rows: Iterable[tuple[int, Mapping[str, Any]]]

    def at(self, number: int) -> str:
        return f"{self.source}, {self.unit} {number}"


def assemble(
    name: str, documents: Records, queries: Records | None, judgements: Records | None, *, settings: DatasetConfig
) -> Collection:
    """The collection of documents, of the queries that have a judgement, and of the judgements; without judgements, of all
    queries.

    Documents have the fields `_id`, `text` and possibly `title` and `metadata`; what else they hold joins the metadata. Queries
    have `_id`, `text` and possibly `metadata`; what else they hold, a title too, joins that. Judgements have `query-id`,
    `corpus-id` and `score`. An id is a string, or a whole number, which stands for its digits; a score is a whole number,
    however it is written. Order is kept.
    Raises `DataError` for the first record that is not so.
    """
    texts, titles, metadata = [], [], []
    document_numbers: dict[str, int] = {}
    contents: dict[str, tuple[str, str]] = {}
    repeated = 0
    for number, fields in documents.rows:
        place = documents.at(number)
        title, text = _text(fields, "title", place, optional=True), _text(fields, "text", place)
        if settings.duplicates == "first" and contents.get(_id(fields, "_id", place)) == (title, text):
            repeated += 1
            continue
        contents[_add_id(document_numbers, fields, documents, number)] = title, text
        titles.append(title)
        texts.append(text)
        metadata.append(_metadata(fields, place, own=("_id", "title", "text")))
    if not texts:
        raise DataError(f"{documents.source} holds no documents; expected at least one")

    if repeated:
        logger.warning("%s: %d documents are there again, word for word: each counts once", documents.source, repeated)

    query_numbers: dict[str, int] = {}
    query_texts: dict[str, str] = {}
    query_metadata: dict[str, dict[str, Any]] = {}
    for number, fields in queries.rows if queries is not None else ():
        assert queries is not None
        place = queries.at(number)
        query = _add_id(query_numbers, fields, queries, number)
        query_texts[query] = _text(fields, "text", place)
        query_metadata[query] = _metadata(fields, place, own=("_id", "text"))

    qrels: dict[str, dict[str, int]] = {}
    if judgements is not None and queries is not None:
        qrels = _qrels(judgements, query_texts, document_numbers, documents, queries, settings.unknown_judgements)
    judged = [query for query in query_texts if query in qrels or judgements is None]
    return Collection(
        name=name,
        document_ids=tuple(document_numbers),
        titles=tuple(titles),
        texts=tuple(texts),
        metadata=tuple(metadata),
        query_ids=tuple(judged),
        query_texts=tuple(query_texts[query] for query in judged),
        query_metadata=tuple(query_metadata[query] for query in judged),
        qrels=qrels,
        exclude_self=settings.exclude_self,
        text_fields=settings.text_fields,
    )


def _qrels(
    judgements: Records,
    known_queries: Mapping[str, Any],
    known_documents: Mapping[str, Any],
    documents: Records,
    queries: Records,
    unknown: Literal["error", "drop"],
) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    total = dropped = 0
    for number, fields in judgements.rows:
        place = judgements.at(number)
        total += 1
        query, document = _id(fields, "query-id", place), _id(fields, "corpus-id", place)
        grade = _grade(fields, place)
        for what, each, known, origin in (
            ("query", query, known_queries, queries),
            ("document", document, known_documents, documents),
        ):
            if each not in known and unknown == "error":
                advice = "to leave such judgements out, set unknown_judgements: drop"
                raise DataError(f"{place}: the {what} id {each!r} is not in {origin.source}; {advice}")
        if query not in known_queries or document not in known_documents:
            dropped += 1
            continue
        before = qrels.setdefault(query, {}).setdefault(document, grade)
        if before != grade:
            pair = f"query {query!r} and document {document!r}"
            raise DataError(f"{place}: {pair} have the grade {grade} here and {before} further up; keep one of them")
    if dropped:
        logger.warning("%s: %d of %d judgements name unknown queries or documents: dropped", judgements.source, dropped, total)
    if not qrels:
        raise DataError(f"{judgements.source} judges no query of {queries.source}; {total} judgements read, {dropped} dropped")
    return qrels


def _add_id(numbers: dict[str, int], fields: Mapping[str, Any], records: Records, number: int) -> str:
    each = _id(fields, "_id", records.at(number))
    if each in numbers:
        advice = "; to keep the first of documents that are the same word for word, set dataset.duplicates=first"
        raise DataError(f"{records.at(number)}: the id {each!r} was already given in {records.unit} {numbers[each]}{advice}")
    numbers[each] = number
    return each


def _id(fields: Mapping[str, Any], key: str, place: str) -> str:
    given = fields.get(key)
    each = str(given) if isinstance(given, int) and not isinstance(given, bool) else _text(fields, key, place)
    if not each:
        raise DataError(f"{place}: {key!r} is empty; expected a non-empty id")
    return each


def _text(fields: Mapping[str, Any], key: str, place: str, *, optional: bool = False) -> str:
    value = fields.get(key)
    if value is None and optional:
        return ""
    if key not in fields:
        raise DataError(f"{place}: no field {key!r}; its fields are {', '.join(map(repr, fields)) or 'none'}")
    if not isinstance(value, str):
        raise DataError(f"{place}: {key!r} must be a string; given {value!r:.60} ({type(value).__name__})")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{place}: {key!r} holds half a character (a lone surrogate); write it as valid Unicode") from None
    return value


def _metadata(fields: Mapping[str, Any], place: str, *, own: tuple[str, ...]) -> dict[str, Any]:
    """What a record holds beside its `own` fields; an empty title, which tables of queries have, is none."""
    metadata = fields.get("metadata")
    if not isinstance(metadata, Mapping | None):
        raise DataError(f"{place}: 'metadata' must be a mapping; given {metadata!r:.60} ({type(metadata).__name__})")
    merged = dict(metadata or {})
    for key, value in fields.items():
        if key in (*own, "metadata") or (key == "title" and not value):
            continue
        if key in merged and merged[key] != value:
            raise DataError(f"{place}: the field {key!r} and the one of that name in 'metadata' differ; keep one of them")
        merged[key] = value
    for key, value in merged.items():
        if (reason := unfit_metadata(key, value)) is not None:
            raise DataError(f"{place}: the field {key!r} {reason}")
    return merged


def _grade(fields: Mapping[str, Any], place: str) -> int:
    value = fields.get("score")
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}(\.0*)?", value):
        return int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise DataError(f"{place}: the score must be an integer, above 0 when relevant; given {value!r:.60}")
