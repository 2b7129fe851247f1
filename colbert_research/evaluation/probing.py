"""What a query's tokens find among the centroids: query-centroid scores, and the cells that they probe.

Source: PLAID (Santhanam et al. 2022), sections 4.1 (candidates from the nearest centroids) and 4.3 (centroid pruning).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from colbert_research.config import Threshold
from colbert_research.evaluation.alignment import WIDTH
from colbert_research.index import Index
from colbert_research.search.candidates import centroids_of, check_cells
from colbert_research.search.on_host import HostEngine
from colbert_research.search.plaid import limit_of
from colbert_research.search.probe import nearest_cells

if TYPE_CHECKING:
    import pandas as pd

MOST_FREQUENT = 3


class Cell(NamedTuple):
    """How many tokens have this centroid, how many documents its inverted list names, and its most frequent tokens."""

    tokens: int
    documents: int
    most_frequent: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Probe:
    """What `probe` found.

    `scores` `(n_query_tokens, K)` float32: query-centroid scores. `probed` `(n_query_tokens, ncells)`: the cells with the
    greatest, the greatest first; -1 where fewer cells have tokens. `cells`: those that are probed. `threshold`: centroids whose
    best score lies below it are left out of the pruned centroid interaction; None where all count.
    """

    query_tokens: tuple[str, ...]
    scores: NDArray[np.float32]
    probed: NDArray[np.int64]
    cells: Mapping[int, Cell]
    threshold: float | None

    @property
    def highest(self) -> NDArray[np.float32]:
        """`(K,)`: the best score of each centroid over the query's tokens."""
        return self.scores.max(axis=0)

    def table(self) -> "pd.DataFrame":
        """One row for each query token and cell that it probes: score, what is in the cell, its number, and its size."""
        import pandas as pd

        rows = []
        for i, (token, own) in enumerate(zip(self.query_tokens, self.probed.tolist(), strict=True)):
            for number in (number for number in own if number >= 0):
                cell, score = self.cells[number], round(float(self.scores[i, number]), 2)
                rows.append((i + 1, token, score, " ".join(cell.most_frequent), number, cell.tokens, cell.documents))
        columns = ["", "query token", "score", "most frequent tokens", "cell", "tokens", "documents"]
        return pd.DataFrame(rows, columns=columns).set_index(["", "query token"])

    def plot(self) -> Any:
        """A matplotlib figure: how many centroids have which best score, those that are probed, and the threshold."""
        from matplotlib.figure import Figure

        highest, probed = self.highest, np.unique(self.probed[self.probed >= 0])
        figure = Figure(figsize=(WIDTH, 2.6), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        axes.hist(highest, bins=40, color="lightsteelblue", label=f"all {len(highest)} centroids")
        axes.plot(
            highest[probed], np.zeros(len(probed)), "|", color="crimson", markersize=14, label=f"{len(probed)} probed cells"
        )
        if self.threshold is not None:
            label = f"threshold {self.threshold:.2f}, reached by {int(np.sum(highest >= self.threshold))}"
            axes.axvline(self.threshold, color="black", linestyle="--", linewidth=1, label=label)
        axes.set_xlabel("best score of a centroid over the query's tokens", fontsize=8)
        axes.set_ylabel("centroids", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
        return figure


def probe(
    index: Index,
    query: NDArray[np.float32],
    ncells: int,
    *,
    query_tokens: Sequence[str],
    token_ids: NDArray[np.int32],
    names: Callable[[NDArray[np.int32]], Sequence[str]],
    threshold: Threshold | None = None,
) -> Probe:
    """The query-centroid scores of one query `(n, dim)` and its `ncells` nearest cells for each token, as PLAID computes them.

    `token_ids` `(n_tokens,)`: of the tokens in the index, in its order; `names`: what they are called. Raises ValueError for an
    index without centroids, or with fewer than `ncells`.
    """
    check_cells("ncells", ncells, len(centroids_of(index, "plaid")))
    scores = HostEngine(index).products(np.asarray(query, np.float32))
    probed = nearest_cells(scores, ncells, index.empty_cells)
    lists = [np.diff(segment.inverted.offsets) for segment in index.segments if segment.inverted is not None]
    centroid_ids = np.concatenate([segment.centroid_ids.values for segment in index.segments])
    cells = {}
    for cell in np.unique(probed[probed >= 0]).tolist():
        ids, counts = np.unique(token_ids[centroid_ids == cell], return_counts=True)
        most_frequent = ids[np.argsort(-counts, kind="stable")[:MOST_FREQUENT]]
        cells[cell] = Cell(int(counts.sum()), sum(int(sizes[cell]) for sizes in lists), tuple(names(most_frequent)))
    limit = None if threshold is None else limit_of(scores.max(axis=0), threshold)
    return Probe(tuple(query_tokens), scores, probed, cells, limit)
