"""The greatest scores of each of several rows, in order.

A histogram of digits finds the score that the last of them has, without a sort; what lies above it is collected in order of
position, with as many of its equals as there is room for, and sorted. So ties go to the smaller position, and the result is the
same at every call. One block takes a row and reads it five times: for long rows of scores that a kernel makes, see `tally.py`.
"""

import numpy as np

from colbert_research.kernels.cuda.arrays import Array, check, empty, full, place_of, to_numpy
from colbert_research.kernels.cuda.launch import Kernel, device_of, grid_of

THREADS = 512
SCRATCH = 4 * (THREADS // 32 + 2)
BINS = 2048
MOST = 8192
"""How many can be chosen: they are sorted in a block's shared memory."""
FINITE = 0x00800000  # the least key of a number above minus infinity

_GREATEST = Kernel("topk.cu", "greatest")
KERNELS = (_GREATEST,)


def topk(scores: Array, k: int) -> Array:
    """Positions of the `k` best of `scores` `(n,)` float32, as `kernels.topk` has them: `(at most k,)` int64, the best first.

    Waits for the device. Raises ValueError for k < 1 or above `MOST` where there are as many scores, and for a NaN.
    """
    check(scores, "scores", types=("float32",), ndim=1)
    state = full((2,), "int32", place_of(scores), 0)
    positions = _greatest(scores[None], fitting(k, len(scores)), FINITE, state)[0]
    found, nans = to_numpy(state)
    if nans:
        raise ValueError(f"{nans} of {len(scores)} scores are not numbers (NaN); look for NaN or infinite token vectors")
    return positions[: int(found)]


def greatest(scores: Array, n: int) -> Array:
    """Positions of the `n` greatest of each row of `scores` `(n_rows, width)` float32, as `kernels.greatest`: `(n_rows, n)`.

    What is not a number comes after minus infinity. Raises ValueError unless 1 <= n <= width and n is at most `MOST`.
    """
    check(scores, "scores", types=("float32",), ndim=2)
    if not 1 <= n <= int(scores.shape[1]):
        raise ValueError(f"n must lie between 1 and the {scores.shape[1]} scores of a row; given {n}")
    return _greatest(scores, fitting(n, int(scores.shape[1])), 0, None)


def _greatest(scores: Array, k: int, least: int, state: Array | None) -> Array:
    """Positions `(n_rows, k)`, -1 after the last whose key is not below `least`; `state`: how many, and how many are NaN."""
    place, (n_rows, width) = place_of(scores), (int(size) for size in scores.shape)
    if width >= 2**31:
        raise ValueError(f"{width} scores are too many for a row; choose from parts of fewer than 2**31")
    positions = empty((n_rows, k), "int64", place)
    if n_rows and width:
        device, shared = device_of(place), 8 * power(k) + SCRATCH + 4 * BINS
        arguments = [scores, np.int64(n_rows), np.int64(width), np.int32(k), np.int32(power(k)), np.uint32(least)]
        grid = (grid_of(n_rows, 1, device, waves=16),)
        device.launch(_GREATEST, grid, (THREADS,), shared, [*arguments, positions, state])
    return positions


def fitting(k: int, n: int) -> int:
    """How many of `n` there are to choose; ValueError for k < 1, and for more than the device chooses."""
    if k < 1:
        raise ValueError(f"k must be at least 1; given {k}")
    if min(k, n) > MOST:
        raise ValueError(f"the device chooses at most {MOST} of a row; given {min(k, n)}. Bring the scores to the CPU (numpy)")
    return min(k, n)


def power(k: int) -> int:
    """The least power of two that is not below k."""
    return 1 << (k - 1).bit_length()
