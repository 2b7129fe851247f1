"""What strategies with candidates share: checks of their sizes, few documents scored without any, candidates scored exactly."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from colbert_research.index import Index, Scope
from colbert_research.search.base import Found, Queries
from colbert_research.search.exhaustive import Exhaustive
from colbert_research.search.on_host import HostEngine
from colbert_research.search.trace import Trace


def centroids_of(index: Index, strategy: str) -> NDArray[np.float32]:
    """The centroids `(K, dim)` of an index's codec; ValueError for a codec without any."""
    if index.codec.centroids is None:
        raise ValueError(
            f"{strategy} needs an index whose codec has centroids, such as residual; this one has {index.codec.config!r}. "
            "Build one with such a codec, or choose search.kind=exhaustive"
        )
    return index.codec.centroids


def check_cells(setting: str, cells: int, n_centroids: int) -> None:
    """Raise ValueError when more `cells` are to be opened for each query token than there are."""
    if cells > n_centroids:
        raise ValueError(
            f"{setting}={cells}, but the index has {n_centroids} centroids; lower search.{setting} to at most {n_centroids}"
        )


def check_reach(setting: str, documents: int, n_documents: int, k: int) -> None:
    """Raise ValueError when `k` results of `n_documents` cannot come from the number of `documents` that a stage leaves."""
    if min(k, n_documents) > documents:
        raise ValueError(f"k={k} results cannot come from {setting}={documents} documents; raise search.{setting} or lower k")


def largest_segment(index: Index) -> tuple[int, int]:
    """Documents of the segment with most of them, and tokens of that with most of these."""
    return max(map(len, index.segments)), max(int(segment.offsets[-1]) for segment in index.segments)


def score_all(index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
    """The best `k` of all documents that may be found, without candidates."""
    return Exhaustive()._search(index, queries, k, scope, trace)


def score_candidates(
    index: Index, queries: Queries, k: int, candidates: Iterable[NDArray[np.int64]], trace: Trace
) -> list[Found]:
    """The best `k` of each query's own candidates, given as ascending positions; stage `exact`."""
    engine, found = HostEngine(index), []
    for query, positions in zip(queries, candidates, strict=True):
        scores = engine.score(query.vectors, positions, trace, stage="exact")
        found += engine.best(positions, scores, k)
    return found
