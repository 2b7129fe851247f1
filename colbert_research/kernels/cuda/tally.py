"""The best of many scores, chosen by counts that were made with the scores: one more read of them instead of topk's five.

A kernel that scores counts, if it is given a `Tally`, each score in one of `BINS` steps, 256 for each power of two. So it is
known which step the k-th best is in, and what reaches it is read out, sorted, and cut after k. Where too many scores share a
step to be sorted, as equal ones do, or those of vectors far from norm one, one block chooses as `topk` does. Ties go to the
smaller position, and the result is the same at every call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from colbert_research.kernels.cuda.arrays import Array, Place, check, common_place, empty, full
from colbert_research.kernels.cuda.launch import Kernel, device_of, grid_of
from colbert_research.kernels.cuda.topk import BINS, MOST, SCRATCH, THREADS, fitting, power

STEP_BITS = 15  # of a score's 32, that its step leaves out
ROOM = 8  # the last step is that of so many times the number of query tokens, which unit vectors cannot pass
ONE_BLOCK = 32768
"""Scores that one block reads alone (by arithmetic, not measured)."""
LEAST_HELD = 2048
"""Scores that can always be sorted; else four times k, up to `MOST`."""

_GATHER, _BEST = Kernel("tally.cu", "gather_reaching"), Kernel("tally.cu", "best_of_tally")
KERNELS = (_GATHER, _BEST)


@dataclass(frozen=True, eq=False)
class Tally:
    """How many of each query's scores are in each step: `counts` `(n_queries, BINS)` int32; `first`: the number of step 0."""

    counts: Array
    first: int

    def all_are(self, score: float, n: int) -> None:
        """Each query has `n` scores, all of them `score`."""
        self.counts[:, min(max(_step(score) - self.first, 0), BINS - 1)] = n

    def of_query(self, i: int) -> "Tally":
        return Tally(self.counts[i : i + 1], self.first)


def tally_for(n_queries: int, longest_query: int, place: Place) -> Tally:
    """Counts of nothing yet, for queries of at most `longest_query` tokens."""
    counts = full((n_queries, BINS), "int32", place, 0)
    return Tally(counts, _step(ROOM * max(longest_query, 1)) - BINS + 1)


def _step(score: float) -> int:
    """The step of a score that is not negative, from 0 on: the first bits of `key_of` in select.cuh."""
    return (int(np.float32(score).view(np.uint32)) | 0x80000000) >> STEP_BITS


def arguments(tally: Tally | None, queries: slice = slice(None)) -> list[Any]:
    """What kernels that score take last: the counts of some of the queries, or none, and the number of step 0."""
    return [None, np.int32(0)] if tally is None else [tally.counts[queries], np.int32(tally.first)]


def best(scores: Array, tally: Tally, k: int) -> tuple[Array, Array, Array]:
    """The `k` best of each row of `scores` `(n_queries, n)` float32, which `tally` has counted; it does not wait.

    Positions `(n_queries, min(k, n))` int64, the best first, -1 after the last above minus infinity; their scores, float32; and
    `(n_queries, 2)` int32: how many were found, and how many scores are not numbers, which never are among the best. Raises
    ValueError for k < 1 or above `MOST` where there are as many scores.
    """
    place = common_place(scores=scores, tally=tally.counts)
    check(scores, "scores", types=("float32",), ndim=2)
    check(tally.counts, "tally", types=("int32",), ndim=2)
    rows, n = (int(size) for size in scores.shape)
    if tuple(tally.counts.shape) != (rows, BINS):
        raise ValueError(f"the tally must have shape {(rows, BINS)}, a row for each query; given {tuple(tally.counts.shape)}")
    if n >= 2**31:
        raise ValueError(f"{n} scores are too many; choose from parts of fewer than 2**31")
    k = fitting(k, n)
    positions, values, state = (
        empty((rows, width), kind, place) for width, kind in ((k, "int64"), (k, "float32"), (2, "int32"))
    )
    if rows == 0 or n == 0:
        state[...] = 0
        return positions, values, state
    device = device_of(place)
    held = min(MOST, max(LEAST_HELD, 4 * power(k)))
    counted = [tally.counts, np.int32(tally.first), np.int32(held)]
    ranks, counts = None, None
    if n > ONE_BLOCK:
        ranks, counts = empty((rows, held), "int64", place), full((rows, 2), "int32", place, 0)
        blocks = grid_of(n, 4 * THREADS, device, waves=4)
        part: Sequence[Any] = [np.int64(rows), np.int64(n), np.int64(-(-n // blocks)), np.int32(k)]
        device.launch(_GATHER, (blocks, min(rows, 65535)), (THREADS,), SCRATCH, [scores, *part, *counted, ranks, counts])
    row: Sequence[Any] = [np.int64(rows), np.int64(n), np.int32(k), np.int32(power(k))]
    shared = 8 * held + SCRATCH + 4 * BINS
    blocks = grid_of(rows, 1, device, waves=16)
    device.launch(_BEST, (blocks,), (THREADS,), shared, [scores, *row, *counted, ranks, counts, positions, values, state])
    return positions, values, state
