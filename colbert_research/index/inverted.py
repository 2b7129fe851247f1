"""Inverted lists: for each centroid, the documents that have a token there (PLAID, section 4.1: documents, not tokens)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.index.damage import check_range, open_array, open_offsets
from colbert_research.ragged import Ragged, interleaved, item_of_row, offsets_of, save_npy

FILES = ("inverted_offsets.npy", "inverted_documents.npy")


@dataclass(frozen=True, eq=False)
class InvertedLists:
    """`documents` `(n_entries,)` int32, ascending within each list; `offsets` `(K + 1,)` int64."""

    offsets: NDArray[np.int64]
    documents: NDArray[np.int32]

    @classmethod
    def build(cls, centroid_ids: Ragged, n_centroids: int) -> "InvertedLists":
        """The lists of a segment from the centroid ids of its documents' tokens. Memory: about 24 bytes per token."""
        documents = item_of_row(centroid_ids.offsets)
        key = np.asarray(centroid_ids.values, np.int64) * max(1, len(centroid_ids)) + documents
        unique = np.unique(key)
        centroids, documents = np.divmod(unique, max(1, len(centroid_ids)))
        return cls(offsets_of(np.bincount(centroids, minlength=n_centroids)), documents.astype(np.int32))

    @classmethod
    def joined(cls, parts: Sequence["InvertedLists"], starts: NDArray[np.int64]) -> "InvertedLists":
        """The lists of parts together, of which the first documents are at `starts`."""
        offsets, places = interleaved([part.offsets for part in parts])
        documents = np.empty(offsets[-1], np.int32)
        for start, place, part in zip(starts, places, parts, strict=False):
            documents[place] = part.documents + np.int32(start)
        return cls(offsets, documents)

    @cached_property
    def _lists(self) -> Ragged:
        return Ragged(self.documents, self.offsets)

    def documents_of(self, centroids: NDArray[np.int64], n_documents: int) -> NDArray[np.int64]:
        """The documents, of the segment's `n_documents`, in any of the lists, ascending, each once."""
        return kernels.union(self._lists, centroids, n_documents)

    def save(self, folder: Path) -> None:
        save_npy(folder / FILES[0], self.offsets)
        save_npy(folder / FILES[1], self.documents)

    @classmethod
    def open(cls, folder: Path, *, n_centroids: int, n_documents: int) -> "InvertedLists":
        """The lists in a segment's folder; raises IndexCorruptedError for others than of so many centroids and documents."""
        offsets = open_offsets(folder / FILES[0], n_centroids)
        documents = open_array(folder / FILES[1], np.dtype(np.int32), (int(offsets[-1]),))
        check_range(folder / FILES[1], n_documents)
        return cls(offsets, documents)
