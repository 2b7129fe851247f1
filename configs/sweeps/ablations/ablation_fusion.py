"""Fusion, for ablation 17: the weighted sum of MaxSim and the score of a first stage, over every document."""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.config import component
from colbert_research.index import DerivedStructure, Index, Scope
from colbert_research.search import FIRST_STAGES, Queries, SearchStrategy, Trace
from colbert_research.search.base import Found
from colbert_research.search.found import best
from colbert_research.search.on_host import HostEngine


class Fused(SearchStrategy):
    """`weight` times MaxSim and 1 - `weight` times the score of the `first_stage`; with 0 the first stage alone.

    Both are scaled to 0 to 1 over the documents of each query; one that the first stage does not find has its least score.
    """

    kind: Literal["ablation_fusion:Fused"] = "ablation_fusion:Fused"
    first_stage: component("first_stage", FIRST_STAGES, default="bm25") = "bm25"  # type: ignore[valid-type]
    weight: float = Field(0.5, ge=0, le=1)

    def exhaustive_equivalent(self, index: Index) -> Self:
        return self.model_copy(update={"weight": 1.0})

    def needs_texts(self) -> bool:
        return bool(self.first_stage.needs_texts())

    def check_here(self) -> None:
        self.first_stage.check_here()

    def _structures(self) -> tuple[DerivedStructure, ...]:
        return self.first_stage.structures()

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        engine, firsts, found = HostEngine(index), self.first_stage.scores(index, queries), []
        for query in queries:
            with trace.stage("first stage") as count:
                positions, scores = next(firsts)
                first = np.full(index.n_positions, -np.inf, np.float32)
                first[positions] = scores
                first = first[scope.positions]
                count.documents += len(first)
            if self.weight == 0:
                there = np.flatnonzero(np.isfinite(first))
                found.append(best(scope.positions[there], first[there], k))
            else:
                (maxsim,) = engine.score(query.vectors, scope.positions, trace, stage="score")
                total = self.weight * scaled(maxsim) + (1 - self.weight) * scaled(first)
                found.append(best(scope.positions, total.astype(np.float32), k))
        return found


def scaled(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores from 0, the least finite one and those at minus infinity, to 1."""
    there = np.isfinite(scores)
    low, high = (float(scores[there].min()), float(scores[there].max())) if there.any() else (0.0, 0.0)
    return np.where(there, scores - low, 0.0) / (high - low or 1.0)
