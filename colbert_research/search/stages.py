"""Pure functions that strategies share."""

import numpy as np
from numpy.typing import NDArray

from colbert_research.index import Index
from colbert_research.kernels import topk
from colbert_research.ragged import Ragged
from colbert_research.search.base import Found
from colbert_research.search.trace import Trace


def score(index: Index, queries: Ragged, positions: NDArray[np.int64], trace: Trace, *, stage: str) -> NDArray[np.float32]:
    """MaxSim of queries with the documents at rising `positions`, on the index's own codes: `(n_queries, n_positions)`."""
    with trace.stage(stage) as count:
        codes, offsets = index.codes_of(positions)
        scores = index.codec.maxsim(queries, codes, offsets)
        count.documents += len(queries) * len(positions)
        count.tokens += len(queries) * int(offsets[-1])
    return scores


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
