"""IGP's candidates: clusters are opened the nearest first, and documents scored by the centroids of those that have them.

Source: IGP (Bian, Yiu and Tang, SIGIR 2025) and its authors' code. Each query token opens clusters until their inverted lists
hold as many documents as `nprobe` lists of mean length, so that a token among small clusters opens more of them. There, a walk
through a graph over the centroids is resumed for the next cluster; here, one that found too few begins again for twice as many.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research import kernels
from colbert_research.config import Config, component
from colbert_research.index import Index
from colbert_research.ragged import rows_of
from colbert_research.search.candidates import centroids_of
from colbert_research.search.cells import coded, sums_in_order
from colbert_research.search.finders import FINDERS, found_cells
from colbert_research.search.probe import nearest_cells

Int64s = NDArray[np.int64]
Float32s = NDArray[np.float32]


class IgpSettings(Config):
    """`nprobe`: how many inverted lists of mean length each query token reads. `finder`: how the nearest centroids are found.

    More lists need more candidates behind them, or find less: the paper pairs 4 with 100, 8 with 600, 32 with 1000.
    With `hnsw`, `ef_search` is the least number of candidates of a walk: one for more clusters has as many as it looks for, and
    one for all clusters that have documents passes through all.
    """

    nprobe: int = Field(8, ge=1)
    finder: component("finder", FINDERS, default="exact") = "exact"  # type: ignore[valid-type]

    def scores_of(self, index: Index, query: Float32s) -> tuple[Int64s, Float32s]:
        """Ascending positions of the documents in the clusters that a query `(n_tokens, dim)` opens, and their scores.

        A score is the sum over query tokens of 1 + the product with the nearest centroid that the token opened and the document
        has, 0 where there is none: between L2-normalised vectors, at most the centroid interaction plus the number of tokens.
        Of vectors that are not, products below -1 count as -1. What clusters hold are all live documents, in a subset too.
        """
        tokens, cells, products = self._opened(index, query)
        gains, contents = products + np.float32(1), index.contents
        found, scores = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for start, block in zip(contents.block_starts, contents.blocks, strict=False):
            lists = block.inverted
            assert lists is not None
            documents, sizes = lists.documents[rows_of(lists.offsets, cells)], np.diff(lists.offsets)[cells]
            present = np.zeros(len(block), np.bool_)
            present[documents] = True
            places = np.cumsum(present) - 1
            best = np.zeros((np.count_nonzero(present), len(query)), np.float32)
            entries = places[documents] * len(query) + np.repeat(tokens, sizes)
            np.maximum.at(best.reshape(-1), entries, np.repeat(gains, sizes))
            found.append(start + np.flatnonzero(present))
            scores.append(sums_in_order(best))
        return np.concatenate(found), np.concatenate(scores)

    def _opened(self, index: Index, query: Float32s) -> tuple[Int64s, Int64s, Float32s]:
        """Each pair of a query token and a cluster that it opens, and their product."""
        held = index.contents.documents_by_cell
        if not (occupied := int(np.count_nonzero(held))):
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        enough = max(1, self.nprobe * int(held.sum()) // len(held))
        nearest, n = self._nearest(index, query, occupied), min(2 * self.nprobe, occupied)
        left, opened = np.arange(len(query)), []
        while len(left):
            cells, products = nearest(left, n)
            read = np.where(cells >= 0, held[cells], 0)
            before = np.cumsum(read, axis=1) - read
            done = (before + read)[:, -1] >= enough if n < occupied else np.ones(len(left), np.bool_)
            rows, ranks = np.nonzero((cells >= 0) & (before < enough) & done[:, None])
            opened.append((left[rows], cells[rows, ranks], products[rows, ranks]))
            left, n = left[~done], min(2 * n, occupied)
        tokens, clusters, found = zip(*opened, strict=True)
        return np.concatenate(tokens), np.concatenate(clusters), np.concatenate(found)

    def _nearest(self, index: Index, query: Float32s, occupied: int) -> Callable[[Int64s, int], tuple[Int64s, Float32s]]:
        """What finds the `n` nearest clusters of some tokens, `(n_tokens, n)`, -1 where there are fewer; and their products."""
        centroids = centroids_of(index, "igp")
        if self.finder.kind == "exact":
            every = kernels.dot_products(query, centroids)

            def nearest(tokens: Int64s, n: int) -> tuple[Int64s, Float32s]:
                products = every if len(tokens) == len(query) else every[tokens]
                cells = nearest_cells(products, n, index.empty_cells)
                return cells, np.take_along_axis(products, cells, axis=1)

            return nearest
        rotated = coded(index, "igp").rotated(query)

        def walked(tokens: Int64s, n: int) -> tuple[Int64s, Float32s]:
            passed = len(centroids) if n == occupied else n  # empty clusters, too, lie on the way to the last
            finder = self.finder.model_copy(update={"ef_search": max(passed, self.finder.ef_search)})
            cells = found_cells(index, finder, rotated[tokens], n)
            near = np.unique(cells[cells >= 0])
            if not len(near):
                return cells, np.zeros(cells.shape, np.float32)
            products = kernels.dot_products(query[tokens], centroids[near])
            return cells, np.take_along_axis(products, np.searchsorted(near, cells), axis=1)

        return walked
