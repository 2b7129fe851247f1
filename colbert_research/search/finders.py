"""How the nearest centroids of a query's tokens are found: `FINDERS` is the table of the ways.

TACHIOM (Martinico et al. 2026, arXiv 2604.28142) has 2^18 to 2^22 centroids, so many that it finds them through a graph (HNSW).
"""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import Codec
from colbert_research.config import Config
from colbert_research.index import Arrays, CodecStructure, Index
from colbert_research.index.damage import open_rows
from colbert_research.search.ann import Ann, FaissStructure, HnswAnn, build_faiss, one_thread, training_rows
from colbert_research.search.neighbours import Neighbours

SEED = 42


class ExactFinder(Config):
    """Every query token is multiplied with every centroid."""

    kind: Literal["exact"] = "exact"


FINDERS: dict[str, type[Config]] = {"exact": ExactFinder, "hnsw": HnswAnn}


class CentroidNeighbours(CodecStructure):
    """A faiss structure over the centroids of a codec that has a `table`. Memory: the structure, twice at the end."""

    kind: Literal["centroid_ann"] = "centroid_ann"
    opaque: ClassVar[frozenset[str]] = frozenset({"faiss"})
    structure: FaissStructure

    def build(self, codec: Codec) -> Arrays:
        centroids = _centroids(codec)
        sample = centroids[training_rows(len(centroids), self.structure)]
        return {"faiss": build_faiss(self.structure, codec.dim, sample=sample, blocks=[centroids])}

    def read(self, folder: Path, codec: Codec) -> Arrays:
        return {"faiss": open_rows(folder / "faiss.npy", np.dtype(np.uint8), mmap=True)}

    def open(self, codec: Codec, arrays: Arrays) -> Neighbours:
        return Neighbours.of([arrays["faiss"]], [len(_centroids(codec))], codec.dim)


def _centroids(codec: Codec) -> NDArray[np.float32]:
    centroids: NDArray[np.float32] = codec.table.centroids  # type: ignore[attr-defined]
    return centroids


def neighbours_of(finder: Ann) -> CentroidNeighbours:
    """The structure that a finder other than `exact` searches."""
    return CentroidNeighbours(structure=finder.structure(SEED))


def found_cells(index: Index, finder: Ann, query: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """The `n` nearest centroids of each query token, best first: `(n_query_tokens, n)`, -1 where fewer were found.

    One thread: on a busy machine faiss's threads wait longer for each other than a query takes.
    """
    occupied = None
    if len(index.empty_cells):
        occupied = np.ones(len(_centroids(index.codec)), np.bool_)
        occupied[index.empty_cells] = False
    with one_thread():
        neighbours: Neighbours = index.structure(neighbours_of(finder))
        return neighbours.search(query, n, finder, occupied)
