"""`Collection`: the documents, queries and relevance judgements of one retrieval task, with fingerprints."""

import hashlib
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from colbert_research.texts import TextFields, document_text

GREATEST_GRADE = 10_000
"""Measures' C code keeps a count for every grade up to the highest; far beyond this it runs out of memory or counts wrong."""


@dataclass(frozen=True, repr=False)
class Collection:
    """Documents and queries as parallel tuples, in a fixed order, and the grades that judges gave to pairs of them.

    `titles`, `texts` and `metadata` are parallel to `document_ids`; `query_texts` and `query_metadata`, which may be left out,
    to `query_ids`. `qrels` maps query id -> document id -> grade, where a grade above 0 means relevant; it is kept in the order
    of the queries, without empty entries.
    `exclude_self` says that queries are documents, as in ArguAna: the document with the query's own id is never a result.
    `text_fields` is the rule by which a document becomes one text (see `texts.document_text`). Raises `ValueError` for tuples
    of different lengths, ids that are not unique non-empty strings, text that cannot be written as UTF-8, and judgements of
    unknown queries or documents.
    """

    name: str
    document_ids: tuple[str, ...]
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    metadata: tuple[Mapping[str, Any], ...]
    query_ids: tuple[str, ...] = ()
    query_texts: tuple[str, ...] = ()
    qrels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    exclude_self: bool = False
    text_fields: TextFields = "title text"
    query_metadata: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.text_fields not in get_args(TextFields):
            raise ValueError(f"text_fields is one of {get_args(TextFields)}; given {self.text_fields!r}")
        if not self.query_metadata:
            object.__setattr__(self, "query_metadata", tuple({} for _ in self.query_ids))
        for kind, columns in (
            ("document", ("document_ids", "titles", "texts", "metadata")),
            ("query", ("query_ids", "query_texts", "query_metadata")),
        ):
            for column in columns:
                object.__setattr__(self, column, _column(column, getattr(self, column)))
            lengths = {column: len(getattr(self, column)) for column in columns}
            if len(set(lengths.values())) > 1:
                raise ValueError(f"{columns} hold one entry per {kind}; given {lengths}")
            _check_ids(kind, getattr(self, columns[0]))
        for column, ids in (("metadata", self.document_ids), ("query_metadata", self.query_ids)):
            for each, entries in zip(ids, getattr(self, column), strict=True):
                for key, value in entries.items():
                    if (reason := unfit_metadata(key, value)) is not None:
                        raise ValueError(f"{column} of {each!r}: the field {key!r} {reason}")
        for column, ids in (("titles", self.document_ids), ("texts", self.document_ids), ("query_texts", self.query_ids)):
            _check_texts(column, ids, getattr(self, column))
        object.__setattr__(self, "qrels", _checked_qrels(self.qrels, self.query_ids, self.document_ids))

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        *,
        ids: Sequence[str] | None = None,
        titles: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        name: str = "texts",
        queries: Mapping[str, str] | Sequence[str] | None = None,
        qrels: Mapping[str, Mapping[str, int]] | None = None,
    ) -> "Collection":
        """A collection of plain lists; ids left out are positions: "0", "1", …

        `queries` is a mapping of query id -> text or a list of texts. Raises `ValueError` as the class does.
        """
        texts = _column("texts", texts)
        if not isinstance(queries, Mapping):
            listed = _column("queries", queries or ())
            queries = {str(i): text for i, text in enumerate(listed)}
        return cls(
            name=name,
            document_ids=tuple(str(i) for i in range(len(texts))) if ids is None else _column("ids", ids),
            titles=("",) * len(texts) if titles is None else _column("titles", titles),
            texts=texts,
            metadata=tuple({} for _ in texts) if metadata is None else _column("metadata", metadata),
            query_ids=tuple(queries),
            query_texts=tuple(queries.values()),
            qrels=qrels or {},
        )

    def __len__(self) -> int:
        return len(self.document_ids)

    def __repr__(self) -> str:
        judgements = sum(map(len, self.qrels.values()))
        counts = f"{len(self)} documents, {len(self.query_ids)} queries, {judgements} judgements"
        return f"Collection({self.name!r}, {counts})"

    def document_texts(self) -> list[str]:
        """The one text of each document; see `texts.document_text`."""
        return [document_text(title, text, self.text_fields) for title, text in zip(self.titles, self.texts, strict=True)]

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of everything that a result can depend on; the name and the metadata are not among it.

        The order of documents and of queries counts; the order in which judgements were given does not.
        """
        judged = [(q, d, str(grade)) for q, grades in self.qrels.items() for d, grade in sorted(grades.items())]
        rules = (str(self.exclude_self), self.text_fields)
        columns = (self.document_ids, self.titles, self.texts, self.query_ids, self.query_texts)
        return _digest(*columns, [part for judgement in judged for part in judgement], rules)

    def documents_fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of `document_texts()` in order: what an encoding of the documents depends on."""
        return _digest(("documents",), self.document_texts())

    def queries_fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the query texts in order: what an encoding of the queries depends on."""
        return _digest(("queries",), self.query_texts)

    def subset(self, document_ids: Iterable[str]) -> "Collection":
        """The collection restricted to some documents, in the order of the collection.

        Judgements of absent documents are dropped, and so is every query that then has no judged document with a grade above
        0: nothing could be found for it. A collection without any judgements keeps all its queries. Raises `ValueError` for
        ids that are not in the collection.
        """
        wanted = set(_column("document_ids", document_ids))
        unknown = sorted(map(repr, wanted.difference(self.document_ids)))
        if unknown:
            shown = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
            raise ValueError(f"a subset takes ids of documents in {self!r}; {len(unknown)} are not: {shown}")
        kept = [i for i, document in enumerate(self.document_ids) if document in wanted]
        qrels = {q: {d: g for d, g in grades.items() if d in wanted} for q, grades in self.qrels.items()}
        answerable = {q for q, grades in qrels.items() if any(grade > 0 for grade in grades.values())}
        queries = [i for i, query in enumerate(self.query_ids) if query in answerable or not self.qrels]
        return replace(
            self,
            document_ids=tuple(self.document_ids[i] for i in kept),
            titles=tuple(self.titles[i] for i in kept),
            texts=tuple(self.texts[i] for i in kept),
            metadata=tuple(self.metadata[i] for i in kept),
            query_ids=tuple(self.query_ids[i] for i in queries),
            query_texts=tuple(self.query_texts[i] for i in queries),
            query_metadata=tuple(self.query_metadata[i] for i in queries),
            qrels={q: grades for q, grades in qrels.items() if q in answerable},
        )


def _column(name: str, values: Iterable[Any]) -> tuple[Any, ...]:
    if isinstance(values, str):
        raise ValueError(f"{name} must be a list; given one string, {values!r:.60}. Put it in a list")
    return tuple(values)


def unfit_metadata(key: Any, value: Any) -> str | None:
    """Why an entry of metadata cannot be stored as JSON in UTF-8; None where it can."""
    if not isinstance(key, str):
        return f"is named by {type(key).__name__}; names of fields are strings"
    try:
        json.dumps({key: value}, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate); write it as valid Unicode"
    except (TypeError, ValueError, RecursionError) as error:
        return f"cannot be written as JSON ({error}); given {value!r:.60}"
    return None


def _check_ids(kind: str, ids: tuple[str, ...]) -> None:
    for i, each in enumerate(ids):
        if not isinstance(each, str) or not each:
            raise ValueError(f"a {kind} id is a non-empty string; number {i} is {each!r}")
        if "\0" in each:
            raise ValueError(f"a {kind} id holds no NUL, at which measures would end it; number {i} is {each!r}")
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(each for each in ids if each in seen or seen.add(each))  # type: ignore[func-returns-value]
        raise ValueError(f"{kind} ids must be unique; {twice!r} is there more than once")
    _check_texts(f"{kind} ids", ids, ids)


def _check_texts(column: str, ids: tuple[str, ...], texts: tuple[str, ...]) -> None:
    for each, text in zip(ids, texts, strict=True):
        if not isinstance(text, str):
            raise ValueError(f"{column} must be strings; that of {each!r} is {text!r:.60}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{column}: that of {each!r} holds half a character (a lone surrogate), {error}") from None


def _checked_qrels(
    qrels: Mapping[str, Mapping[str, int]], query_ids: tuple[str, ...], document_ids: tuple[str, ...]
) -> dict[str, dict[str, int]]:
    """A copy in the order of the queries, so that a later change of what was given changes nothing here."""
    documents = set(document_ids)
    unknown = set(qrels).difference(query_ids)
    if unknown:
        raise ValueError(f"qrels name the query {min(map(repr, unknown))}, which is not among the {len(query_ids)} queries")
    checked: dict[str, dict[str, int]] = {}
    for query in query_ids:
        grades = {document: _grade(query, document, grade) for document, grade in qrels.get(query, {}).items()}
        for document in grades:
            if document not in documents:
                raise ValueError(f"qrels of query {query!r} name the document {document!r}, which is not in the collection")
        if grades:
            checked[query] = grades
    return checked


def _grade(query: str, document: str, grade: Any) -> int:
    try:
        number = operator.index(grade)
    except TypeError:
        number = None
    if number is None or abs(number) > GREATEST_GRADE:
        given = f"query {query!r} and document {document!r} have {grade!r}"
        raise ValueError(f"a grade is an integer of at most {GREATEST_GRADE}, above 0 when relevant; {given}")
    return number


def _digest(*columns: Sequence[str]) -> str:
    """SHA-256 of columns of text; counts and lengths go first, so that no two different inputs feed it the same bytes."""
    digest = hashlib.sha256()
    for column in columns:
        digest.update(len(column).to_bytes(8, "little"))
        for text in column:
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
