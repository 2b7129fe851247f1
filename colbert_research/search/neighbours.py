"""faiss structures of the parts of an index, one per segment, searched as if they were one."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.index import IndexCorruptedError
from colbert_research.ragged import offsets_of
from colbert_research.search.ann import Ann, FlatAnn, open_faiss, searched, selector_of


@dataclass(frozen=True, eq=False)
class Neighbours:
    """`parts`: faiss indexes over consecutive rows; `starts` `(n_parts + 1,)` int64: the first row of each."""

    parts: tuple[Any, ...]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, arrays: Sequence[NDArray[np.uint8]], sizes: Sequence[int], dim: int) -> "Neighbours":
        """From what `build_faiss` gave for each part. Raises IndexCorruptedError for other than `sizes` vectors of `dim`."""
        parts = tuple(map(_opened, arrays))
        given = [(part.ntotal, part.d) for part in parts]
        expected = [(size, dim) for size in sizes]
        if given != expected:
            raise IndexCorruptedError(f"faiss structures hold {given} vectors and dimensions, the index says {expected}")
        return cls(parts, offsets_of(sizes))

    def search(
        self, vectors: NDArray[np.float32], k: int, ann: Ann | None = None, allowed: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """Rows of the `k` vectors with the largest inner products, best first: `(n_vectors, k)`, -1 where fewer were found.

        `ann`: with what parameters; parts too small for its structure are flat. `allowed` `(n_rows,)`: which rows may be found.
        Of equal products over several parts, those of lower rows come first.
        """
        found = []
        for part, start, stop in zip(self.parts, self.starts[:-1], self.starts[1:], strict=True):
            if part.ntotal:
                selector = None if allowed is None else selector_of(allowed[start:stop])
                own = None if ann is None else (ann if ann.structure(0).fits(part.ntotal) else FlatAnn())
                products, rows = searched(part, vectors, k, None if own is None else own.parameters(selector))
                found.append((products, np.where(rows < 0, -1, rows + start)))
        return found[0][1] if len(found) == 1 else _merged(found, len(vectors), k)


_open: dict[int, tuple["weakref.ref[NDArray[np.uint8]]", Any]] = {}
"""The faiss index of each array that is alive, which generations of an index share."""


def _opened(array: NDArray[np.uint8]) -> Any:
    known, key = _open.get(id(array)), id(array)
    if known is None or known[0]() is not array:
        known = weakref.ref(array, lambda _: _open.pop(key, None)), open_faiss(array)
        _open[key] = known
    return known[1]


def _merged(found: list[tuple[NDArray[np.float32], NDArray[np.int64]]], n_vectors: int, k: int) -> NDArray[np.int64]:
    """The rows of the `k` best products of each vector, from those of the parts."""
    if not found:
        return np.full((n_vectors, k), -1, np.int64)
    products, rows = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    products = np.where(rows < 0, -np.inf, products)
    order = np.lexsort((rows, -products), axis=1)[:, :k]
    return np.take_along_axis(rows, order, axis=1)
