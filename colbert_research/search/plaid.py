"""PLAID: candidates from centroids, centroid interaction with pruning, then exact scoring of what is left.

Source: PLAID (Santhanam et al. 2022), section 4. This is the dialect of Stanford's engine, with every stage's size an argument
of its own. There, the settings depend on k (k <= 10: ncells 1, threshold 0.5, ndocs 256; k <= 100: 2, 0.45, 1024; else 4, 0.4,
4096) and the last stage scores ndocs / 4; here nothing depends on k and nothing is remembered.
"""

from functools import reduce
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from colbert_research import kernels
from colbert_research.config import Threshold
from colbert_research.index import Index, Scope
from colbert_research.ragged import Ragged
from colbert_research.search.base import Found, Queries, SearchStrategy
from colbert_research.search.candidates import centroids_of, check_cells, check_reach
from colbert_research.search.stages import best, interaction, score
from colbert_research.search.trace import Trace

_THRESHOLDS = ("centroid_score_threshold", "cell_score_threshold")
NO_SCORES = np.empty(0, np.float32)


class PlaidSettings(SearchStrategy):
    """`ncells` centroids a query token give candidates; the best `ndocs` by centroids alone; `n_exact` of them scored exactly.

    `centroid_score_threshold`: in the first interaction, tokens of centroids whose best score over the query's tokens lies
    below it are left out; as a cosine `value` (0.4 to 0.5 suits ColBERTv2's) or as a `quantile` of the query's centroid scores.
    Without it both interactions are the same, and computed once. `cell_score_threshold`: cells whose best score lies below it
    are not opened at all.
    A subset of at most `n_exact` documents is scored exactly, without candidates.
    """

    kind: str
    ncells: int = Field(4, ge=1)
    centroid_score_threshold: Threshold | None = None
    cell_score_threshold: Threshold | None = None
    ndocs: int = Field(4096, ge=1)
    n_exact: int = Field(1024, ge=1)

    @model_validator(mode="after")
    def _stages_narrow(self) -> Self:
        if self.n_exact > self.ndocs:
            raise ValueError(f"n_exact={self.n_exact} is more than the ndocs={self.ndocs} that reach that stage")
        return self

    @property
    def has_threshold(self) -> bool:
        return any(getattr(self, name) is not None for name in _THRESHOLDS)

    def widest(self, index: Index) -> Self:
        n = index.n_documents
        opened = {"ncells": len(centroids_of(index, self.kind)), "ndocs": n, "n_exact": n} | dict.fromkeys(_THRESHOLDS)
        return self.model_copy(update=opened)

    def check(self, index: Index, k: int) -> None:
        check_cells("ncells", self.ncells, len(centroids_of(index, self.kind)))
        check_reach("n_exact", self.n_exact, index, k)


class Plaid(PlaidSettings):
    """See `PlaidSettings`; on the processor."""

    kind: Literal["plaid"] = "plaid"

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        if not scope.is_all and scope.size <= self.n_exact:
            scores = score(index, queries.vectors, scope.positions, trace, stage="exact")
            return [best(scope.positions, row, k) for row in scores]
        return [self._one(index, query.vectors, k, scope, trace) for query in queries]

    def _one(self, index: Index, query: Ragged, k: int, scope: Scope, trace: Trace) -> Found:
        centroids = centroids_of(index, self.kind)
        with trace.stage("probe") as count:
            scores = kernels.dot_products(query.values, centroids)
            cells = np.unique(kernels.greatest(scores, self.ncells))
            highest = reduce(np.maximum, scores) if self.has_threshold else NO_SCORES  # scores lie column by column
            opened = reaching(highest, self.cell_score_threshold)
            if opened is not None:
                cells = cells[opened[cells]]
            count.centroids += len(cells)
        with trace.stage("candidates") as count:
            candidates = scope.intersect(candidates_of(index, cells))
            count.documents += len(candidates)
        kept = reaching(highest, self.centroid_score_threshold)
        if kept is not None and len(candidates) > self.ndocs:
            pruned = interaction(index, scores, candidates, trace, stage="pruned interaction", kept=kept)
            candidates = narrow(candidates, pruned, self.ndocs)
        if len(candidates) > self.n_exact:
            candidates = narrow(candidates, interaction(index, scores, candidates, trace, stage="interaction"), self.n_exact)
        return best(candidates, score(index, query, candidates, trace, stage="exact")[0], k)


def reaching(highest: NDArray[np.float32], threshold: Threshold | None) -> NDArray[np.bool_] | None:
    """Which centroids, of these highest scores with any of the query's tokens, reach the threshold; None without one."""
    if threshold is None:
        return None
    limit: Any = threshold.value if threshold.quantile is None else np.quantile(highest, threshold.quantile)
    reached: NDArray[np.bool_] = highest >= limit
    return reached


def candidates_of(index: Index, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rising positions of the documents with a token in any of the cells."""
    found = [
        start + segment.inverted.documents_of(cells, len(segment))
        for start, segment in zip(index.starts, index.segments, strict=False)
        if segment.inverted is not None
    ]
    return np.concatenate(found)


def narrow(positions: NDArray[np.int64], scores: NDArray[np.float32], size: int) -> NDArray[np.int64]:
    """The `size` positions with the best scores, rising."""
    return positions[kernels.among_best(scores, size)]
