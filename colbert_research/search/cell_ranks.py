"""How near the cells of a document's tokens are to a query's: which of them a search that probes so many cells would open."""

import numpy as np
from numpy.typing import NDArray

from colbert_research.index import Index
from colbert_research.ragged import Ragged
from colbert_research.search.candidates import centroids_of
from colbert_research.search.on_host import HostEngine


def cells_of(index: Index, position: int) -> NDArray[np.int64]:
    """The centroid of each token of the document at a position of the index: `(n_tokens,)`."""
    segment = int(np.searchsorted(index.starts, position, side="right")) - 1
    return index.segments[segment].centroid_ids[position - int(index.starts[segment])].astype(np.int64)


def cell_ranks(index: Index, query: Ragged, position: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cells of a document's tokens `(n,)`, ascending, and their ranks for each query token `(n_query_tokens, n)`, from 1.

    A cell's rank is how many cells with tokens score as much with the query token or more, those of equal score with a higher
    number left out: a search with `ncells` at least that opens it. Raises ValueError for an index without centroids.
    """
    centroids_of(index, "the rank of a cell")
    scores = HostEngine(index).products(query.values).copy()
    scores[:, index.empty_cells] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(1, order.shape[1] + 1)[None], axis=1)
    cells = np.unique(cells_of(index, position))
    return cells, ranks[:, cells]
