"""The best of many scores on a device: the places and the order of `kernels.topk` and `kernels.greatest`, always the same.

Nothing waits for the device: what was found is counted there.
"""

import numpy as np

from colbert_research.kernels.cuda.arrays import Array, Place, check, empty, place_of
from colbert_research.kernels.cuda.launch import Device, Kernel, device_of, grid_of

THREADS = 256
BINS = 2048
MOST_BLOCKS = 1024  # of a row, whose counts every block adds up

CLEAR, DIGITS = Kernel("select.cu", "clear"), Kernel("select.cu", "count_digits")
COUNT, COLLECT = Kernel("select.cu", "count_best"), Kernel("select.cu", "collect_best")
ORDER = Kernel("select.cu", "order_best")
KERNELS = (CLEAR, DIGITS, COUNT, COLLECT, ORDER)


def topk(scores: Array, k: int) -> tuple[Array, Array]:
    """The `k` best of each row of `scores` `(n_rows, width)` float32: places `(n_rows, k)` and how many `(n_rows,)`, int64.

    By score descending, then place ascending. What scores minus infinity is not among them: rows of places then end with -1.
    The number is -1 for a row with a score that is not a number, and its places are of no use. Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1; given {k}")
    return _best(scores, k, above=True)


def greatest(scores: Array, n: int) -> Array:
    """Places of the `n` greatest of each row of `scores` `(n_rows, width)` float32: `(n_rows, n)` int64, greatest first.

    Ties go to the smaller place; what is not a number comes after everything else. Raises ValueError unless 1 <= n <= width.
    """
    check(scores, "scores", types=("float32",), ndim=2)
    if not 1 <= n <= scores.shape[1]:
        raise ValueError(f"n must lie between 1 and the {scores.shape[1]} scores of a row; given {n}")
    return _best(scores, n, above=False)[0]


def clear(array: Array, n: int, device: Device) -> None:
    """Zeros into the first `n` numbers of four bytes."""
    device.launch(CLEAR, (grid_of(n, THREADS, device, waves=8),), (THREADS,), 0, [array, np.int64(n)])


def _best(scores: Array, k: int, *, above: bool) -> tuple[Array, Array]:
    check(scores, "scores", types=("float32",), ndim=2)
    place, (n_rows, width) = place_of(scores), (int(n) for n in scores.shape)
    if width >= 2**31 or k >= 2**31:
        raise ValueError(f"a row may have 2^31 - 1 scores; given {width}, of which {k}. Select in parts")
    ordered, found = empty((n_rows, k), "int64", place), empty((n_rows,), "int64", place)
    if n_rows:
        _select(scores, n_rows, width, k, above, ordered, found, place)
    return ordered, found


def _select(scores: Array, n_rows: int, width: int, k: int, above: bool, ordered: Array, found: Array, place: Place) -> None:
    device = device_of(place)
    rows = min(n_rows, 65535)
    blocks = min(grid_of(width, 8 * THREADS, device, waves=max(1, 4 // rows)), MOST_BLOCKS)
    n_bins = n_rows * 3 * BINS
    counted = empty((n_bins + n_rows,), "int32", place)
    bins, nan = counted[:n_bins], counted[n_bins:]
    states, counts = empty((n_rows, 3, 2), "int32", place), empty((n_rows, blocks, 2), "int32", place)
    keys, places = empty((n_rows, k), "int32", place), empty((n_rows, k), "int64", place)
    clear(counted, n_bins + n_rows, device)
    given = [scores, np.int64(n_rows), np.int64(width), np.int32(k), np.int32(above)]
    grid, block = (blocks, rows), (THREADS,)
    for number in range(3):
        arguments = [*given, np.int32(number), bins, states, nan]
        device.launch(DIGITS, grid, block, (BINS + THREADS + 2) * 4, arguments)
    device.launch(COUNT, grid, block, (THREADS + 2) * 4, [*given, bins, states, counts])
    device.launch(COLLECT, grid, block, THREADS // 32 * 4, [*given, states, counts, nan, keys, places, found])
    order = [keys, places, found, np.int64(n_rows), np.int32(k), ordered]
    grid = (grid_of(k, THREADS, device, waves=8), rows)
    device.launch(ORDER, grid, block, THREADS * 4, order)
