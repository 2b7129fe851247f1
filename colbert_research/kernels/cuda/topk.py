"""The greatest scores in order: of one row of many, and of each of several rows.

A histogram of digits finds the score that the last of them has, without a sort; what lies above it is collected in order of
place, with as many of its equals as there is room for, and sorted. So ties go to the smaller place, and the result is the same
at every call. A row of `ONE_BLOCK` scores or fewer is chosen from by one launch; a longer one is read five times.
"""

from typing import Any

import numpy as np

from colbert_research.kernels.cuda.arrays import Array, check, empty, place_of, to_numpy
from colbert_research.kernels.cuda.launch import Kernel, device_of, grid_of

THREADS = 512
SCRATCH = 4 * (THREADS // 32 + 2)
BINS = 2048
MOST = 8192
"""How many can be chosen: they are sorted in a block's shared memory."""
ONE_BLOCK = 32768
"""Scores that one block chooses from alone (by arithmetic, not measured)."""
FINITE = 0x00800000  # the least key of a number above minus infinity

_GREATEST = Kernel("topk.cu", "greatest")
_COUNT_DIGITS = [Kernel("topk.cu", f"count_digits<{number}>") for number in range(3)]
_COUNT, _GATHER, _SORT = (Kernel("topk.cu", f"{name}_chosen") for name in ("count", "gather", "sort"))
KERNELS = (_GREATEST, *_COUNT_DIGITS, _COUNT, _GATHER, _SORT)


def topk(scores: Array, k: int) -> Array:
    """Positions of the `k` best of `scores` `(n,)` float32, as `kernels.topk` has them: `(at most k,)` int64, the best first.

    Waits for the device. Raises ValueError for k < 1 or above `MOST` where there are as many scores, and for a NaN.
    """
    positions, state = topk_padded(scores, k)
    found, nans = to_numpy(state)
    if nans:
        raise ValueError(f"{nans} of {len(scores)} scores are not numbers (NaN); look for NaN or infinite token vectors")
    return positions[: int(found)]


def topk_padded(scores: Array, k: int) -> tuple[Array, Array]:
    """As `topk` without a wait: positions `(min(k, n),)`, -1 after the last, and `(2,)` int32: how many, and how many NaN.

    What is not a number is never among the best.
    """
    place = place_of(scores)
    check(scores, "scores", types=("float32",), ndim=1)
    n = len(scores)
    if n >= 2**31:
        raise ValueError(f"{n} scores are too many; choose from parts of fewer than 2**31")
    k = fitting(k, n)
    positions, state = empty((k,), "int64", place), empty((2,), "int32", place)
    state[...] = 0
    if n == 0:
        return positions, state
    device = device_of(place)
    if n <= ONE_BLOCK:
        device.launch(_GREATEST, (1,), (THREADS,), _shared(k), _row_arguments(scores, 1, k, FINITE, positions, state))
        return positions, state
    blocks = grid_of(n, 4 * THREADS, device, waves=4)
    histograms, counts = empty((3, BINS), "int32", place), empty((2, blocks), "int32", place)
    ranks = empty((k,), "int64", place)
    histograms[...] = 0
    row = [scores, np.int64(n), np.int64(-(-n // blocks)), np.int32(k), histograms]
    for kernel in _COUNT_DIGITS:
        device.launch(kernel, (blocks,), (THREADS,), SCRATCH + 4 * BINS, [*row, state])
    device.launch(_COUNT, (blocks,), (THREADS,), SCRATCH, [*row, counts])
    device.launch(_GATHER, (blocks,), (THREADS,), SCRATCH, [*row, counts, ranks])
    arguments = [ranks, counts, np.int32(blocks), np.int32(k), np.int32(power(k)), positions, state]
    device.launch(_SORT, (1,), (THREADS,), 8 * power(k) + SCRATCH, arguments)
    return positions, state


def greatest(scores: Array, n: int) -> Array:
    """Positions of the `n` greatest of each row of `scores` `(n_rows, width)` float32, as `kernels.greatest`: `(n_rows, n)`.

    What is not a number comes after minus infinity. Raises ValueError unless 1 <= n <= width and n is at most `MOST`.
    """
    place = place_of(scores)
    check(scores, "scores", types=("float32",), ndim=2)
    n_rows, width = (int(size) for size in scores.shape)
    if not 1 <= n <= width:
        raise ValueError(f"n must lie between 1 and the {width} scores of a row; given {n}")
    if width >= 2**31:
        raise ValueError(f"{width} scores are too many for a row; give fewer than 2**31")
    n = fitting(n, width)
    positions = empty((n_rows, n), "int64", place)
    if n_rows:
        device = device_of(place)
        arguments = _row_arguments(scores, n_rows, n, 0, positions, None)
        device.launch(_GREATEST, (grid_of(n_rows, 1, device, waves=16),), (THREADS,), _shared(n), arguments)
    return positions


def fitting(k: int, n: int) -> int:
    """How many of `n` there are to choose; ValueError for k < 1, and for more than the device chooses."""
    if k < 1:
        raise ValueError(f"k must be at least 1; given {k}")
    if min(k, n) > MOST:
        raise ValueError(f"the device chooses at most {MOST} of a row; given {min(k, n)}. Bring the scores to the CPU (numpy)")
    return min(k, n)


def _row_arguments(scores: Array, n_rows: int, k: int, least: int, positions: Array, state: Array | None) -> list[Any]:
    width = np.int64(scores.shape[-1])
    return [scores, np.int64(n_rows), width, np.int32(k), np.int32(power(k)), np.uint32(least), positions, state]


def power(k: int) -> int:
    """The least power of two that is not below k."""
    return 1 << (k - 1).bit_length()


def _shared(k: int) -> int:
    return 8 * power(k) + SCRATCH + 4 * BINS
