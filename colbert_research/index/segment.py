"""A segment: some documents' codes, offsets, inverted lists, texts and metadata in one folder that is never changed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.artifacts import checksums
from colbert_research.codecs import Codec
from colbert_research.index.column_files import FILE, StoredColumns, derive_columns, open_columns, write_columns
from colbert_research.index.damage import check_range, open_array, open_offsets
from colbert_research.index.documents import Document, DocumentStore, open_documents, write_documents
from colbert_research.index.fields import Fields
from colbert_research.index.inverted import InvertedLists
from colbert_research.ragged import NpyWriter, Ragged, float_rows, item_at, load_npy, save_npy, unfit_row

FileSums = dict[str, dict[str, Any]]
"""File name -> {"bytes": int, "sha256": hex}."""


@dataclass(frozen=True, eq=False)
class Segment:
    """An open segment. `codes`: the codec's arrays, memory-mapped; `offsets`: `(n_documents + 1,)` int64."""

    path: Path
    offsets: NDArray[np.int64]
    codes: dict[str, NDArray[Any]]
    inverted: InvertedLists | None
    documents: DocumentStore

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def centroid_ids(self) -> Ragged:
        """The centroid of each document's tokens, where the codec has centroids."""
        return Ragged(self.codes["centroid_ids"], self.offsets)

    @cached_property
    def columns(self) -> StoredColumns:
        """The metadata of its documents by field; made of the documents where an earlier version wrote the segment."""
        own = (self.path / FILE).is_file()
        return open_columns(self.path, len(self)) if own else derive_columns(self.documents, len(self))

    @classmethod
    def open(cls, path: Path, codec: Codec, *, n_documents: int, n_tokens: int) -> "Segment":
        """The segment in a folder, memory-mapped. Raises IndexCorruptedError for files that are not those of such a segment.

        What compiled code takes on trust is looked at: shapes, dtypes, offsets, centroid ids and inverted lists; for the last
        two their files are read once, piece by piece.
        """
        offsets = open_offsets(path / "offsets.npy", n_documents, n_tokens)
        layout = codec.layout.items()
        codes = {name: open_array(path / f"{name}.npy", dtype, (n_tokens, *shape)) for name, (dtype, shape) in layout}
        inverted = None
        if codec.centroids is not None:
            n_centroids = len(codec.centroids)
            check_range(path / "centroid_ids.npy", n_centroids)
            inverted = InvertedLists.open(path, n_centroids=n_centroids, n_documents=n_documents)
        return cls(path, offsets, codes, inverted, open_documents(path, n_documents))


def opened_segment(path: Path, codec: Codec, entry: Mapping[str, Any]) -> Segment:
    """The segment of an entry in the manifest."""
    return Segment.open(path / entry["name"], codec, n_documents=entry["n_documents"], n_tokens=entry["n_tokens"])


def write_segment(
    folder: Path,
    documents: Iterable[Document],
    offsets: NDArray[np.int64],
    codes: Iterable[Mapping[str, NDArray[Any]]],
    codec: Codec,
) -> FileSums:
    """Write documents and the `codes` of their tokens, chunk by chunk, into `folder`; returns sizes and checksums of its files.

    The documents are written first, so that the codes may be of vectors that are encoded now and name a document that is wrong.
    Memory: one chunk of codes, and about 24 bytes per token of the segment for the inverted lists.
    """
    folder.mkdir(parents=True)
    fields = Fields()
    write_documents(folder, fields.watched(documents))
    write_columns(folder, fields, len(offsets) - 1)
    save_npy(folder / "offsets.npy", offsets)
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(NpyWriter(folder / f"{name}.npy", dtype, shape))
            for name, (dtype, shape) in codec.layout.items()
        }
        for chunk in codes:
            for name, writer in writers.items():
                writer.append(chunk[name])
    if codec.centroids is not None:
        ids = Ragged(load_npy(folder / "centroid_ids.npy", mmap=True), offsets)
        InvertedLists.build(ids, len(codec.centroids)).save(folder)
    return checksums(folder)


def encoded(
    vectors: Ragged,
    codec: Codec,
    identifier_of: Callable[[int], str],
    *,
    chunk_tokens: int,
    look: Callable[[NDArray[np.float32], Mapping[str, NDArray[Any]]], None],
) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The codes of token vectors, chunk by chunk; `look` sees each chunk's vectors and codes. Raises as `finite_rows` does."""
    for low in range(0, vectors.n_rows, chunk_tokens):
        chunk = finite_rows(vectors, slice(low, low + chunk_tokens), identifier_of)
        codes = codec.encode(chunk)
        look(chunk, codes)
        yield codes


def finite_rows(vectors: Ragged, rows: slice | NDArray[np.int64], identifier_of: Callable[[int], str]) -> NDArray[np.float32]:
    """Some token vectors as float32. Raises ValueError that names the document with one that is not finite."""
    values = float_rows(vectors.values, rows)
    unfit = unfit_row(values)
    if unfit is not None:
        document = item_at(vectors.offsets, int(np.arange(vectors.n_rows)[rows][unfit]))
        raise ValueError(
            f"document {identifier_of(document)!r} has a token vector that is not finite (NaN, infinite or too long for "
            "float32); look at what the encoder gives for it"
        )
    return values
