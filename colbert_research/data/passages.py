"""How the passages of documents are named and kept in a collection, and how a document is told from one of them."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from colbert_research.data.collection import Collection
from colbert_research.data.splitting import Passage

START, END = "_start", "_end"
"""The fields of a passage's metadata that hold its place in its document, in characters; null where that is not known."""
RESERVED = (START, END)
SEPARATOR = "#"
MOST_DIGITS = 12


@dataclass(frozen=True)
class Source:
    """Where a stored passage comes from: its document, its number and its place there, and the document's own metadata.

    A document that was stored whole, by somebody else, is its own source, without a number.
    """

    document_id: str
    number: int | None
    start: int | None
    end: int | None
    metadata: Mapping[str, Any]


def source_of(stored_id: str, metadata: Mapping[str, Any]) -> Source:
    """The source of what an index holds under an id, as `collection_of` wrote it."""
    document, number = parsed(stored_id)
    if number is None or START not in metadata:
        return Source(stored_id, None, None, None, metadata)
    own = {name: value for name, value in metadata.items() if name not in RESERVED}
    return Source(document, number, metadata[START], metadata[END], own)


def parsed(stored_id: str) -> tuple[str, int | None]:
    """The document and the number that a passage's id is made of; None for an id that is no passage's."""
    document, _, number = stored_id.rpartition(SEPARATOR)
    is_number = number.isascii() and number.isdigit() and len(number) <= MOST_DIGITS
    return (document, int(number)) if document and is_number else (stored_id, None)


def collection_of(
    passages: Iterable[tuple[str, Sequence[Passage]]], metadata: Mapping[str, Mapping[str, Any]], *, name: str
) -> Collection:
    """The passages of documents, `(document id, its passages)` in order, as a collection: `doc#0`, `doc#1`, …

    `metadata`: by document id, where there is any; each passage has its document's. Raises ValueError for a reserved field.
    """
    for document, fields in metadata.items():
        if taken := [field for field in RESERVED if field in fields]:
            raise ValueError(f"metadata of {document!r}: the field {taken[0]!r} is kept for a passage's place; rename it")
    ids, texts, fields_of = [], [], []
    for document, parts in passages:
        for number, passage in enumerate(parts):
            ids.append(f"{document}{SEPARATOR}{number}")
            texts.append(passage.text)
            fields_of.append({**metadata.get(document, {}), START: passage.start, END: passage.end})
    return Collection.from_texts(texts, ids=ids, metadata=fields_of, name=name)


def is_blank(text: str) -> bool:
    """Whether a text holds nothing but blanks, control characters and marks that nobody sees."""
    return all(unicodedata.category(each) in ("Zs", "Zl", "Zp", "Cc", "Cf") for each in text)
