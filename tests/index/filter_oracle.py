"""What a filter says of a document, told by plain Python of its metadata; and columns of documents without any index."""

import math
import operator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from colbert_research.index.column_files import StoredColumns, derive_columns
from colbert_research.index.columns import Columns
from colbert_research.index.documents import Document

ORDER = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}
LISTS = (list, tuple, set, frozenset)


class InvalidError(Exception):
    """The filter is malformed, or does not fit the metadata."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some documents, as a segment hands them out; its columns are made of them."""

    every: list[Document]

    def __len__(self) -> int:
        return len(self.every)

    @property
    def documents(self) -> "Part":
        return self

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(document.id for document in self.every)

    def read(self, positions) -> list[Document]:
        return [self.every[i] for i in positions]

    @cached_property
    def columns(self) -> StoredColumns:
        return derive_columns(self, len(self))


def documents_of(metadata: list[dict[str, Any]]) -> list[Document]:
    return [Document(f"d{i}", "", "", each) for i, each in enumerate(metadata)]


def columns_of(*parts: list[Document]) -> Columns:
    return Columns(tuple(Part(each) for each in parts))


def admitted(given: Any, documents: list[Document]) -> list[int]:
    """The places of the documents that a filter admits, one after the other. Raises InvalidError."""
    check(given, {**_types(documents), "$id": str})
    return [i for i, document in enumerate(documents) if _truth(given, document) is True]


def _types(documents: list[Document]) -> dict[str, Any]:
    """The one type of each field's values; None where there is none."""
    values: dict[str, list[Any]] = {}
    for document in documents:
        for name, value in document.metadata.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: _type(found) for name, found in values.items()}


def _type(values: list[Any]) -> Any:
    kinds = {type(value) for value in values}
    if kinds <= {int, float}:
        whole = [value for value in values if isinstance(value, int)]
        limit = 2**53 if float in kinds else 2**63 - 1
        return float if all(abs(value) <= limit or (value == -limit - 1 and kinds == {int}) for value in whole) else None
    if kinds == {list}:
        return list if all(isinstance(each, str) for value in values for each in value) else None
    return next(iter(kinds)) if len(kinds) == 1 and kinds <= {str, bool} else None


def check(given: Any, types: dict[str, Any]) -> None:
    if not isinstance(given, dict) or not given:
        raise InvalidError
    for name, value in given.items():
        if name in ("$and", "$or"):
            if not isinstance(value, LISTS) or not value:
                raise InvalidError
            for each in value:
                check(each, types)
        elif name == "$not":
            check(value, types)
        elif types.get(name) is None:
            raise InvalidError
        else:
            _check_operators(value if isinstance(value, dict) else {"$eq": value}, types[name])


def _check_operators(given: dict[str, Any], type_: Any) -> None:
    if not given:
        raise InvalidError
    for name, value in given.items():
        if name == "$not":
            if not isinstance(value, dict):
                raise InvalidError
            _check_operators(value, type_)
        elif name == "$exists":
            if not isinstance(value, bool):
                raise InvalidError
        elif name in ("$in", "$nin"):
            if not isinstance(value, LISTS) or type_ is list or not all(_fits(each, type_) for each in value):
                raise InvalidError
        else:
            allowed = {
                list: ("$contains",),
                bool: ("$eq", "$ne"),
                float: ("$eq", "$ne", *ORDER),
                str: ("$eq", "$ne", *ORDER, "$prefix"),
            }[type_]
            if name not in allowed or not _fits(value, str if type_ is list else type_) or (name, value) == ("$prefix", ""):
                raise InvalidError


def _fits(value: Any, type_: Any) -> bool:
    if type_ is float:
        return type(value) in (int, float) and math.isfinite(value) if isinstance(value, float) else type(value) is int
    return type(value) is type_


def _truth(given: dict[str, Any], document: Document) -> bool | None:
    return _all([_entry(name, value, document) for name, value in given.items()])


def _entry(name: str, value: Any, document: Document) -> bool | None:
    if name == "$and":
        return _all([_truth(each, document) for each in value])
    if name == "$or":
        return _negated(_all([_negated(_truth(each, document)) for each in value]))
    if name == "$not":
        return _negated(_truth(value, document))
    held = document.id if name == "$id" else document.metadata.get(name)
    return _operators(value if isinstance(value, dict) else {"$eq": value}, held)


def _operators(given: dict[str, Any], held: Any) -> bool | None:
    return _all([_operator(name, value, held) for name, value in given.items()])


def _operator(name: str, value: Any, held: Any) -> bool | None:
    if name == "$not":
        return _negated(_operators(value, held))
    if name == "$exists":
        return (held is not None) == value
    if held is None:
        return None
    if name in ORDER:
        return ORDER[name](held, value)
    if name == "$prefix":
        return held.startswith(value)
    if name == "$contains":
        return value in held
    equal = held in (value if name in ("$in", "$nin") else [value])
    return equal if name in ("$eq", "$in") else not equal


def _all(truths: list[bool | None]) -> bool | None:
    return False if False in truths else None if None in truths else True


def _negated(truth: bool | None) -> bool | None:
    return None if truth is None else not truth
