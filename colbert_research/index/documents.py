"""The document store of a segment: identifiers, titles, texts and metadata, of which a few are read at a time."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from colbert_research.index.damage import REMEDY, IndexCorruptedError
from colbert_research.index.records import Records, RecordWriter

NAME, IDS = "documents", "documents_ids"
PARQUET = "documents.parquet"  # what indexes of version 1 have instead


_encoder = json.JSONEncoder(sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True)
class Document:
    """One document as it was given."""

    id: str
    title: str
    text: str
    metadata: Mapping[str, Any]


class DocumentStore(Protocol):
    """Reads a segment's documents by position."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The identifiers of all documents of the segment, in order."""

    def read(self, positions: Sequence[int]) -> list[Document]:
        """The documents at `positions` within the segment, in that order."""


def write_documents(folder: Path, documents: Iterable[Document]) -> None:
    """Write documents, in order, as JSON in compressed blocks, and their identifiers once more in blocks of their own.

    Memory does not grow with their number, but for 24 bytes per block of 8 KiB.
    """
    with RecordWriter(folder, NAME) as records, RecordWriter(folder, IDS) as ids:
        for document in documents:
            records.append(_encoded([document.id, document.title, document.text, dict(document.metadata)]))
            ids.append(_encoded(document.id))


def open_documents(folder: Path, n: int) -> DocumentStore:
    """The store of `n` documents in a segment's folder. Raises IndexCorruptedError for one of another number."""
    if (folder / PARQUET).is_file():
        return ParquetStore(folder / PARQUET)
    return RecordStore(Records.open(folder, NAME, n), Records.open(folder, IDS, n))


@dataclass(frozen=True, eq=False)
class RecordStore:
    """What `write_documents` writes. A few documents take a block of 8 KiB each; their files stay memory-mapped."""

    documents: Records
    identifiers: Records

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The identifiers of all documents of the segment, in order."""
        return tuple(_decoded(b"[" + b",".join(self.identifiers.read_all()) + b"]", self.identifiers.path))

    def read(self, positions: Sequence[int]) -> list[Document]:
        """The documents at `positions` within the segment, in that order."""
        return [self._document(_decoded(record, self.documents.path)) for record in self.documents.read(positions)]

    def _document(self, fields: Any) -> Document:
        if not isinstance(fields, list) or [type(field) for field in fields] != [str, str, str, dict]:
            raise IndexCorruptedError(f"a record in {self.documents.path} is no document: {fields!r:.60}; {REMEDY}")
        return Document(*fields)


@dataclass(frozen=True, eq=False)
class ParquetStore:
    """The store of indexes of version 1: one Parquet file, of which whole row groups of 4096 documents are read."""

    path: Path

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The identifiers of all documents of the segment, in order."""
        return tuple(self._file.read(columns=["id"])["id"].to_pylist())

    def read(self, positions: Sequence[int]) -> list[Document]:
        """The documents at `positions` within the segment, in that order."""
        chosen, found = np.asarray(positions, np.int64), dict[int, Document]()
        group_of = np.searchsorted(self._starts, chosen, side="right") - 1
        for group in np.unique(group_of).tolist():
            wanted = chosen[group_of == group]
            rows = self._file.read_row_group(group).take(wanted - self._starts[group]).to_pylist()
            for position, row in zip(wanted.tolist(), rows, strict=True):
                found[position] = Document(row["id"], row["title"], row["text"], json.loads(row["metadata"]))
        return [found[position] for position in chosen.tolist()]

    @cached_property
    def _file(self) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self.path, memory_map=True)

    @cached_property
    def _starts(self) -> Any:
        """The first document of each row group: `(n_groups,)`."""
        sizes = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        return np.cumsum([0, *sizes[:-1]])


def _encoded(value: Any) -> bytes:
    return _encoder.encode(value).encode("utf-8", "surrogatepass")


def _decoded(record: bytes, file: Path) -> Any:
    try:
        return json.loads(record.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise IndexCorruptedError(f"a record in {file} is not JSON: {error}; {REMEDY}") from error
