"""The fields of documents' metadata: the kinds of values that each was seen with, and the type that follows from them."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from colbert_research.index.documents import Document

FieldType = Literal["boolean", "integer", "number", "string", "list of strings"]
Kind = Literal[
    "a boolean",
    "an integer",
    "an integer beyond 2^53",
    "an integer beyond 64 bits",
    "a number",
    "a number that is not finite",
    "a string",
    "a string with half a character",
    "a list of strings",
    "a list of other values than strings",
    "a nested value",
]
TYPES: Mapping[frozenset[Kind], FieldType] = {
    frozenset(["a boolean"]): "boolean",
    frozenset(["an integer"]): "integer",
    frozenset(["an integer beyond 2^53"]): "integer",
    frozenset(["an integer", "an integer beyond 2^53"]): "integer",
    frozenset(["a number"]): "number",
    frozenset(["an integer", "a number"]): "number",
    frozenset(["a string"]): "string",
    frozenset(["a list of strings"]): "list of strings",
}
"""The type of a field that was seen with some kinds of values; where there is none, no column holds them all exactly."""

EXACT = 2**53  # up to here every integer is a float64
GREATEST_FIELDS = 1000  # of one segment; those that it meets later are no columns
_PLAIN = {str, int, float, bool, type(None), list, dict}


class FilterError(ValueError):
    """A filter that cannot be used: says what was given, what was expected and what to do."""


def kind_of(value: Any) -> Kind | None:
    """The kind of a value, as the document store gives it back; None for null, which is as if the field were not there."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        if abs(value) <= EXACT:
            return "an integer"
        return "an integer beyond 2^53" if -(2**63) <= value < 2**63 else "an integer beyond 64 bits"
    if isinstance(value, float):
        return "a number" if math.isfinite(value) else "a number that is not finite"
    if isinstance(value, str):
        return "a string" if _is_unicode(value) else "a string with half a character"
    if isinstance(value, list):
        strings = all(isinstance(each, str) and _is_unicode(each) for each in value)
        return "a list of strings" if strings else "a list of other values than strings"
    return "a nested value"


@dataclass(eq=False)
class Fields:
    """For each field, the kinds of values it was seen with, and the id of the first document with each.

    `more`: whether there are fields beyond the first `GREATEST_FIELDS`, which are not among these.
    """

    seen: dict[str, dict[Kind, str]] = field(default_factory=dict)
    more: bool = False

    def watched(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The same documents; what their metadata hold is noted as they pass."""
        for document in documents:
            self._see(document)
            yield document

    def _see(self, document: Document) -> None:
        for name, value in _as_stored(document.metadata).items():
            kind = kind_of(value)
            if kind is None:
                continue
            if name not in self.seen and len(self.seen) == GREATEST_FIELDS:
                self.more = True
                continue
            self.seen.setdefault(name, {}).setdefault(kind, document.id)

    def types(self) -> dict[str, FieldType]:
        """The fields that a column can hold, in the order of their names."""
        found = ((name, TYPES.get(frozenset(kinds))) for name, kinds in sorted(self.seen.items()))
        return {name: type_ for name, type_ in found if type_ is not None}

    def to_json(self) -> str:
        return json.dumps({"fields": self.seen, "more": self.more})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """What `to_json` wrote."""
        given = json.loads(text)
        return cls(given["fields"], given["more"])


def why_not(name: str, kinds: Mapping[Kind, str]) -> str:
    """Why no column holds a field, and what to do."""
    given = " and ".join(f"{kind} (document {document!r})" for kind, document in kinds.items())
    return (
        f"the field {name!r} cannot be filtered by: it holds {given}. All documents that have it should hold numbers (integers "
        "beyond 2^53 only where all are integers), or all strings, or booleans, or lists of strings; change these documents, "
        "and compact the index, which then forgets what they held"
    )


def _as_stored(metadata: Mapping[Any, Any]) -> Mapping[str, Any]:
    """Metadata as the document store gives it back: keys are strings, tuples are lists."""
    if all(type(name) is str and type(value) in _PLAIN for name, value in metadata.items()):
        return metadata
    stored: dict[str, Any] = json.loads(json.dumps(dict(metadata)))
    return stored


def _is_unicode(text: str) -> bool:
    """Whether a string can be written as UTF-8."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
