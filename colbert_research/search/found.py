"""`Found`: one query's documents and their scores, and how the best of them are chosen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels import topk

Found = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Positions and scores of one query's documents, in any order."""

NOTHING: Found = (np.empty(0, np.int64), np.empty(0, np.float32))


def joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Arrays of the segments, one after another; not copied where there is one."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def best(positions: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Found:
    """The `k` best of some documents, the best first, ties by position (`positions` rise)."""
    best = topk(scores, k)
    return positions[best], scores[best]


def merged(earlier: Found, later: Found, k: int) -> Found:
    """The `k` best of two `best`, where all positions of the second lie behind those of the first."""
    if not len(earlier[0]):
        return later
    positions, scores = np.concatenate([earlier[0], later[0]]), np.concatenate([earlier[1], later[1]])
    order = np.argsort(-scores, kind="stable")[:k]
    return positions[order], scores[order]
