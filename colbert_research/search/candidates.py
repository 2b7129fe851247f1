"""What strategies with candidates share: score few documents without any, and score candidates exactly."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from colbert_research.index import Index
from colbert_research.search.base import Found, Queries
from colbert_research.search.exhaustive import Exhaustive
from colbert_research.search.stages import best, score
from colbert_research.search.trace import Trace


def is_few(index: Index, subset: NDArray[np.int64] | None, limit: int) -> bool:
    """Whether the documents that may be found are so few that all of them can be scored exactly."""
    return (index.n_documents if subset is None else len(subset)) <= limit


def score_all(index: Index, queries: Queries, k: int, subset: NDArray[np.int64] | None, trace: Trace) -> list[Found]:
    """The best `k` of all documents that may be found, without candidates."""
    return Exhaustive()._search(index, queries, k, subset, trace)


def score_candidates(
    index: Index, queries: Queries, k: int, candidates: Iterable[NDArray[np.int64]], trace: Trace
) -> list[Found]:
    """The best `k` of each query's own candidates, given as rising positions; stage `exact`."""
    return [
        best(positions, score(index, query.vectors, positions, trace, stage="exact")[0], k)
        for query, positions in zip(queries, candidates, strict=True)
    ]
