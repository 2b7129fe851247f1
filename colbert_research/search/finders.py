"""How the nearest centroids of a query's tokens are found: `FINDERS` is the table of the ways.

TACHIOM (Martinico et al. 2026, arXiv 2604.28142) has 2^18 to 2^22 centroids, so many that it finds them through a graph (HNSW).
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.config import Config
from colbert_research.index import Auxiliary, Index
from colbert_research.search.ann import (
    Ann,
    HnswAnn,
    Structure,
    build_faiss,
    nearest,
    one_thread,
    open_faiss,
    training_rows,
)

SEED = 42


class ExactFinder(Config):
    """Every query token is multiplied with every centroid."""

    kind: Literal["exact"] = "exact"


FINDERS: dict[str, type[Config]] = {"exact": ExactFinder, "hnsw": HnswAnn}


class CentroidNeighbours(Auxiliary):
    """A faiss structure over the centroids of an index whose codec has a `table`. Memory: the structure, twice at the end."""

    kind: Literal["centroid_ann"] = "centroid_ann"
    structure: Structure

    def build(self, index: Index) -> Mapping[str, NDArray[Any]]:
        centroids: NDArray[np.float32] = index.codec.table.centroids  # type: ignore[attr-defined]
        sample = centroids[training_rows(len(centroids), self.structure)]
        return {"faiss": build_faiss(self.structure, index.dim, sample=sample, blocks=[centroids])}

    def open(self, index: Index, arrays: Mapping[str, NDArray[Any]]) -> Any:
        return open_faiss(arrays["faiss"])


def neighbours_of(finder: Ann) -> CentroidNeighbours:
    """The structure that a finder other than `exact` searches."""
    return CentroidNeighbours(structure=finder.structure(SEED))


def found_cells(index: Index, finder: Ann, query: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """The `n` nearest centroids of each query token, best first: `(n_query_tokens, n)`, -1 where fewer were found.

    One thread: on a busy machine faiss's threads wait longer for each other than a query takes.
    """
    with one_thread():
        return nearest(index.auxiliary(neighbours_of(finder)), query, n, finder.parameters(None))
