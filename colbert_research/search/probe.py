"""Which cells a query token probes: the nearest ones that have tokens."""

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels


def nearest_cells(products: NDArray[np.float32], n: int, empty: NDArray[np.int64]) -> NDArray[np.int64]:
    """The `n` cells with the greatest products, of those that are not `empty`: `(n_query_tokens, n)` int64, greatest first.

    `products` `(n_query_tokens, K)`: of each query token with each centroid. -1 where fewer than `n` cells have tokens.
    """
    if not len(empty):
        return kernels.greatest(products, n)
    occupied = np.ones(products.shape[1], np.bool_)
    occupied[empty] = False
    enough, width = min(n, len(occupied) - len(empty)), n
    while True:  # empty cells are few: mostly, once will do
        found = kernels.greatest(products, width)
        kept = occupied[found]
        rank = np.cumsum(kept, axis=1)
        if rank[:, -1].min(initial=enough) >= enough:
            break
        width = min(2 * width, len(occupied))
    nearest = np.full((len(found), n), -1, np.int64)
    rows, columns = np.nonzero(kept & (rank <= n))
    nearest[rows, rank[rows, columns] - 1] = found[rows, columns]
    return nearest
