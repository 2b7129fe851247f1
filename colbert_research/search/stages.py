"""Pure functions that strategies share."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.index import Index, Segment
from colbert_research.kernels import topk
from colbert_research.ragged import Ragged
from colbert_research.search.base import Found
from colbert_research.search.trace import Trace


def score(index: Index, queries: Ragged, positions: NDArray[np.int64], trace: Trace, *, stage: str) -> NDArray[np.float32]:
    """MaxSim of queries with the documents at rising `positions`, on the index's own codes: `(n_queries, n_positions)`."""
    scores = np.empty((len(queries), len(positions)), np.float32)
    with trace.stage(stage) as count:
        for place, segment, local in by_segment(index, positions):
            scores[:, place] = index.codec.maxsim(queries, segment.codes, segment.offsets, local)
            tokens = len(queries) * int((segment.offsets[local + 1] - segment.offsets[local]).sum())
            count.tokens += tokens
            count.bytes += tokens * index.bytes_per_token
        count.documents += len(queries) * len(positions)
    return scores


def interaction(
    index: Index,
    centroid_scores: NDArray[np.float32],
    positions: NDArray[np.int64],
    trace: Trace,
    *,
    stage: str,
    kept: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Centroid interaction of one query with the documents at rising `positions`: `(n_positions,)`.

    `centroid_scores` `(n_query_tokens, K)`; `kept` `(K,)`: tokens of other centroids are left out.
    """
    scores = np.empty(len(positions), np.float32)
    with trace.stage(stage) as count:
        for place, segment, local in by_segment(index, positions):
            ids = segment.centroid_ids
            scores[place] = kernels.centroid_interaction(centroid_scores, ids, kept=kept, only=local)
            tokens = int((segment.offsets[local + 1] - segment.offsets[local]).sum())
            count.tokens += tokens
            count.bytes += tokens * ids.values.itemsize
        count.documents += len(positions)
    return scores


def by_segment(index: Index, positions: NDArray[np.int64]) -> Iterator[tuple[slice, Segment, NDArray[np.int64]]]:
    """`(which of the positions, segment, their places in it)` for rising `positions`, segments without any left out."""
    for start, segment in zip(index.starts, index.segments, strict=False):
        low, high = np.searchsorted(positions, [start, start + len(segment)])
        if high > low:
            yield slice(low, high), segment, positions[low:high] - start


def joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Arrays of the segments, one after another; not copied where there is one."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def best(positions: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Found:
    """The `k` best of some documents, ties by position (`positions` rise)."""
    places = topk(scores, k)
    return positions[places], scores[places]


def merge_best(parts: list[Found], k: int) -> Found:
    """The `k` best of one query's results over several segments, in the order of the segments."""
    positions = np.concatenate([p for p, _ in parts])
    scores = np.concatenate([s for _, s in parts])
    order = np.argsort(positions, kind="stable")
    return best(positions[order], scores[order], k)
