"""MaxSim and a first stage's scores together: a convex combination of the two, over every document.

Sources: Bruch et al. 2023, an analysis of fusion functions (min-max normalisation, convex combination); SMART (2026,
arXiv 2605.24938) adds MaxSim over the hidden states of a single-vector model to that model's own score.
"""

from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.index import Index, Scope
from colbert_research.search.base import Found, Opens, Queries
from colbert_research.search.candidates import score_all
from colbert_research.search.found import best
from colbert_research.search.on_host import HostEngine
from colbert_research.search.staged import Staged
from colbert_research.search.trace import Trace

Floats = NDArray[np.float32]


class Weighted(Staged):
    """Every document scored by (1 - `weight`) MaxSim + `weight` times the `first_stage`, each from 0 to 1 over the documents
    that may be found.

    With `weight` 0 that is MaxSim, with 1 the first stage alone, as it scores; a document that it does not find counts there as
    its worst, and is not found where it is alone.
    """

    opens: ClassVar[Opens] = {"first stage": ("weight",), "sum": ("weight",)}
    kind: Literal["weighted"] = "weighted"
    weight: float = Field(0.5, ge=0, le=1)

    def exhaustive_equivalent(self, index: Index) -> Self:
        return self.model_copy(update={"weight": 0.0})

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        if self.weight == 0:
            return score_all(index, queries, k, scope, trace)
        engine, first, found = HostEngine(index), self.first_stage.scores(index, queries), []
        for query in queries:
            with trace.stage("first stage") as count:
                positions, scored = next(first)
                other = np.full(index.n_positions, -np.inf, np.float32)
                other[positions] = scored
                other = other[scope.positions]
                count.documents += int(np.isfinite(other).sum())
            trace.keep("first stage", scope.positions, other)
            if self.weight == 1:
                some = np.isfinite(other)
                found.append(best(scope.positions[some], other[some], k))
                continue
            (own,) = engine.score(query.vectors, scope.positions, trace, stage="score")
            with trace.stage("sum"):
                scores = np.float32(1 - self.weight) * _scaled(own) + np.float32(self.weight) * _scaled(other)
                found.append(best(scope.positions, scores, k))
            trace.keep("sum", scope.positions, scores)
        return found


def _scaled(scores: Floats) -> Floats:
    """From 0 to 1; 0 for what has no score, and where all that have one have the same."""
    some = np.isfinite(scores)
    if not some.any():
        return np.zeros_like(scores)
    low, high = scores[some].min(), scores[some].max()
    scaled: Floats = (np.where(some, scores, low) - low) / (high - low if high > low else np.float32(1))
    return scaled
