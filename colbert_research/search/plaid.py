"""PLAID: candidates from centroids, centroid interaction with pruning, then exact scoring of what is left.

Source: PLAID (Santhanam et al. 2022), section 4. This is the dialect of Stanford's engine, with every stage's size an argument
of its own. There, the settings depend on k (k <= 10: ncells 1, threshold 0.5, ndocs 256; k <= 100: 2, 0.45, 1024; else 4, 0.4,
4096) and the last stage scores ndocs / 4; here nothing depends on k and nothing is remembered.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from colbert_research.config import Threshold
from colbert_research.index import Index, Scope
from colbert_research.ragged import Ragged
from colbert_research.search.base import UNSEEN, Found, Opens, Queries, SearchStrategy
from colbert_research.search.candidates import centroids_of, check_cells, check_reach
from colbert_research.search.engine import Engine
from colbert_research.search.exhaustive import best_of_all
from colbert_research.search.on_host import HostEngine
from colbert_research.search.trace import Trace

_THRESHOLDS = ("centroid_score_threshold", "cell_score_threshold")
NO_SCORES = np.empty(0, np.float32)


class PlaidSearch(SearchStrategy):
    """`ncells` centroids per query token give candidates; the best `ndocs` by centroids alone; `n_exact` of these in full.

    `centroid_score_threshold`: in the first interaction, tokens of centroids whose best score over the query's tokens lies
    below it are left out; as a cosine `value` (0.4 to 0.5 suits ColBERTv2's) or as a `quantile` of the query's centroid scores.
    Without it both interactions are the same, and computed once. `cell_score_threshold`: cells whose best score lies below it
    are not opened at all.
    A subset of at most `n_exact` documents is scored exactly, without candidates.
    """

    opens: ClassVar[Opens] = {
        UNSEEN: ("ncells",),
        "probe": ("cell_score_threshold",),
        "pruned interaction": ("centroid_score_threshold", "ndocs"),
        "interaction": ("n_exact",),
    }
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

    def exhaustive_equivalent(self, index: Index) -> Self:
        n = index.n_documents
        opened = {"ncells": len(centroids_of(index, self.kind)), "ndocs": n, "n_exact": n, "cell_score_threshold": None}
        every = None if self.centroid_score_threshold is None else Threshold(quantile=0.0)
        return self.model_copy(update={**opened, "centroid_score_threshold": every})

    def needs_centroids(self) -> bool:
        return True

    def _most(self, index: Index) -> Mapping[str, int]:
        return {"ncells": len(centroids_of(index, self.kind))}

    def check_size(self, n_documents: int, k: int) -> None:
        check_reach("n_exact", self.n_exact, n_documents, k)

    def check(self, index: Index, k: int) -> None:
        check_cells("ncells", self.ncells, len(centroids_of(index, self.kind)))

    @abstractmethod
    def engine(self, index: Index) -> Engine:
        """What computes the steps of a search over this index."""

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        engine = self.engine(index)
        if scope.is_subset and scope.size <= self.n_exact:
            return best_of_all(engine, queries.vectors, k, scope, trace, stage="exact")
        return [self._one(engine, query.vectors, k, scope, trace) for query in queries]

    def _one(self, engine: Engine, query: Ragged, k: int, scope: Scope, trace: Trace) -> Found:
        with engine.stage(trace, "probe") as count:
            products = engine.products(query.values)
            cells = engine.cells(products, self.ncells)
            highest = engine.highest(products) if self.has_threshold else NO_SCORES
            opened = reaching(highest, self.cell_score_threshold)
            if opened is not None:
                if trace.kept is not None:
                    engine.keep(trace, "probe", engine.candidates(cells, scope))
                cells = cells[opened[cells]]
            count.centroids += len(cells)
        with engine.stage(trace, "candidates") as count:
            documents = engine.candidates(cells, scope)
            count.documents += len(documents)
        engine.keep(trace, "candidates", documents)
        kept = reaching(highest, self.centroid_score_threshold)
        if kept is not None and len(documents) > self.ndocs:
            pruned = engine.interaction(products, documents, trace, stage="pruned interaction", kept=kept)
            documents = engine.narrow(documents, pruned, self.ndocs)
        if len(documents) > self.n_exact:
            unpruned = engine.interaction(products, documents, trace, stage="interaction")
            documents = engine.narrow(documents, unpruned, self.n_exact)
        (found,) = engine.best(documents, engine.score(query, documents, trace, stage="exact"), k)
        return found


class Plaid(PlaidSearch):
    """See `PlaidSearch`; on the processor."""

    kind: Literal["plaid"] = "plaid"

    def engine(self, index: Index) -> Engine:
        return HostEngine(index)


def reaching(highest: NDArray[np.float32], threshold: Threshold | None) -> NDArray[np.bool_] | None:
    """Which centroids, of these highest scores with any of the query's tokens, reach the threshold; None without one."""
    if threshold is None:
        return None
    reached: NDArray[np.bool_] = highest >= limit_of(highest, threshold)
    return reached


def limit_of(highest: NDArray[np.float32], threshold: Threshold) -> float:
    """The value of a threshold on scores; a quantile is one of these scores."""
    return float(np.quantile(highest, threshold.quantile)) if threshold.value is None else threshold.value  # type: ignore[arg-type]
