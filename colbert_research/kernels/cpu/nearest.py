"""The nearest centroid of each vector by dot product, and the bucket of each value: what building an index is made of."""

from typing import Any

import numpy as np
from numba import carray, types
from numpy.typing import NDArray

from colbert_research.kernels.cpu import bfloat, shortlist
from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.floats import columns_of, dots
from colbert_research.kernels.cpu.memory import (
    bytes_at,
    floats_at,
    load_f32,
    load_floats,
    load_i32,
    load_ints,
    store_floats,
    store_i32,
    store_ints,
)
from colbert_research.kernels.cpu.simd import LANES, WIDTH, emit, max_floats, spread_float, spread_int, where_greater
from colbert_research.kernels.cpu.team import Job, arguments_of, in_team

ROWS = 256  # vectors that one pass over all centroids is for
BLOCK = 8
SHORTLISTED = 128  # fewer centroids are all scored in float32 at once
COUNTED = 15  # cutoffs that are all compared with, many values at once; more are searched


@compiled
def _keep(similarities: Any, panel: Any, best: Any, which: Any, row: Any) -> None:
    before = load_floats(best + row * WIDTH)
    number = spread_int(panel)
    store_ints(which + row * WIDTH, where_greater(similarities, before, number, load_ints(which + row * WIDTH)))
    store_floats(best + row * WIDTH, max_floats(before, similarities))


@compiled
def _assign(
    low: Any, high: Any, best: Any, vectors: Any, n: Any, dim: Any, columns: Any, n_panels: Any, n_centroids: Any, ids: Any
) -> None:
    """Passes `low` to `high`, each for ROWS vectors."""
    which, step = best + ROWS * WIDTH, 4 * dim
    for first in range(low * ROWS, min(high * ROWS, n), ROWS):
        count = min(ROWS, n - first)
        for row in range(count):
            store_floats(best + row * WIDTH, spread_float(np.float32(-np.inf)))
            store_ints(which + row * WIDTH, spread_int(0))
        for panel in range(n_panels):
            for row in range(0, count, BLOCK):
                # the last block may take vectors twice, which changes nothing
                at = max(0, min(row, count - BLOCK))
                end = min(BLOCK, count) - 1
                x0 = vectors + (first + at) * step
                x1, x2, x3 = x0 + min(1, end) * step, x0 + min(2, end) * step, x0 + min(3, end) * step
                x4, x5 = x0 + min(4, end) * step, x0 + min(5, end) * step
                x6, x7 = x0 + min(6, end) * step, x0 + min(7, end) * step
                s0, s1, s2, s3, s4, s5, s6, s7 = dots(x0, x1, x2, x3, x4, x5, x6, x7, columns + panel * dim * WIDTH, dim)
                _keep(s0, panel, best, which, at)
                _keep(s1, panel, best, which, at + min(1, end))
                _keep(s2, panel, best, which, at + min(2, end))
                _keep(s3, panel, best, which, at + min(3, end))
                _keep(s4, panel, best, which, at + min(4, end))
                _keep(s5, panel, best, which, at + min(5, end))
                _keep(s6, panel, best, which, at + min(6, end))
                _keep(s7, panel, best, which, at + min(7, end))
        for row in range(count):
            greatest, chosen = np.float32(-np.inf), n_centroids
            for lane in range(LANES):
                similarity = load_f32(best + row * WIDTH + 4 * lane)
                centroid = load_i32(which + row * WIDTH + 4 * lane) * LANES + lane
                if centroid < n_centroids and (similarity > greatest or (similarity == greatest and centroid < chosen)):
                    greatest, chosen = similarity, centroid
            store_i32(ids + 4 * (first + row), min(chosen, n_centroids - 1))


_assign_arguments = arguments_of(7)


@Job
def _assign_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    _assign(low, high, scratch, *_assign_arguments(arguments))


def assign(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int32]:
    """See `kernels.assign`: by all products in float32, or with the same answer from `shortlist` where that is faster."""
    vectors, centroids = np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(centroids, np.float32)
    if not bfloat.AVAILABLE or len(centroids) < SHORTLISTED:
        return assign_by_all(vectors, centroids)
    ids = shortlist.assign(vectors, centroids)
    unknown = np.flatnonzero(ids < 0)
    if len(unknown):
        ids[unknown] = assign_by_all(vectors[unknown], centroids)
    return ids


def assign_by_all(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int32]:
    """The nearest centroids by all products in float32, each summed in the order of the dimensions."""
    n, dim = vectors.shape
    columns, ids = columns_of(centroids), np.empty(n, np.int32)
    # lanes beyond the last centroid repeat the first one, which never wins against itself
    if len(centroids) % LANES:
        columns[-1, :, len(centroids) % LANES :] = centroids[0][:, None]

    # in pieces of whole passes: each costs as much as scoring all centroids
    starts = np.minimum(np.arange(-(-n // ROWS) + 1) * ROWS, n) * len(centroids)
    arguments = vectors.ctypes.data, n, dim, columns.ctypes.data, len(columns), len(centroids), ids.ctypes.data
    in_team(_assign_job, starts, None, arguments, scratch=2 * ROWS * WIDTH)
    return ids


@emit(types.float32, types.float32, types.float32)
def _quotient(builder: Any, one: Any, other: Any) -> Any:
    """`one / other` without Python's question whether `other` is zero, which keeps a loop from becoming vector code."""
    return builder.fdiv(one, other)


@compiled
def _bucket_numbers(low: Any, high: Any, quotients: Any, values: Any, scales: Any, cutoffs: Any, numbers: Any) -> None:
    dim = values.shape[1]
    for row in range(low, high):
        for d in range(dim):
            quotients[d], numbers[row, d] = _quotient(values[row, d], scales[d]), 0
        if cutoffs.shape[0] > COUNTED:
            # all values at once: those found to lie above some cutoffs try half as many more
            step = 128
            while step > 0:
                for d in range(dim):
                    last = min(numbers[row, d] + step, cutoffs.shape[0])
                    above = (last == numbers[row, d] + step) & (quotients[d] > cutoffs[last - 1])
                    numbers[row, d] += np.uint8(step * above)
                step //= 2
            continue
        for i in range(cutoffs.shape[0]):
            cutoff = cutoffs[i]
            for d in range(dim):
                numbers[row, d] += np.uint8(quotients[d] > cutoff)


_bucket_arguments = arguments_of(7)


@Job
def _bucket_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    values, n, dim, scales, cutoffs, n_cutoffs, numbers = _bucket_arguments(arguments)
    _bucket_numbers(
        low, high, carray(floats_at(scratch), dim), carray(floats_at(values), (n, dim)), carray(floats_at(scales), dim),
        carray(floats_at(cutoffs), n_cutoffs), carray(bytes_at(numbers), (n, dim)),
    )  # fmt: skip


def bucket_numbers(values: NDArray[np.float32], scales: NDArray[np.float32], cutoffs: NDArray[np.float32]) -> NDArray[np.uint8]:
    """See `kernels.bucket_numbers`."""
    values = np.ascontiguousarray(values, np.float32)
    numbers = np.empty(values.shape, np.uint8)

    scales, cutoffs = np.ascontiguousarray(scales, np.float32), np.ascontiguousarray(cutoffs, np.float32)
    arguments = (
        values.ctypes.data, *values.shape, scales.ctypes.data, cutoffs.ctypes.data, len(cutoffs), numbers.ctypes.data,
    )  # fmt: skip
    in_team(_bucket_job, np.arange(len(values) + 1), None, arguments, scratch=4 * values.shape[1])
    return numbers
