"""Which centroids could be the nearest of a vector: products in bfloat16, and a proof that the others are farther.

A vector is rounded to bfloat16, `x = xh + xl`, so that `x.y - xh.yh = x.yl + xl.yh` is at most `|x| |yl| + |xl| |yh|`, of which
the lengths are computed. Sums in float32, here and in `floats.dots`, err by `dim 2^-24 |x| |y|` each; the bound takes twice
that, for what lies below the smallest normal number. A centroid whose product is more than two bounds below the greatest is not
the one that float32 chooses. One or two of 8192 are left; where there are more than one, they are scored in float32 by the
operations of `floats.dots` in the same order. So the answer is that of all products in float32, bit for bit.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from colbert_research.kernels.cpu.bfloat import (
    BLOCK,
    STEP,
    TILE_BYTES,
    aligned,
    clear_one,
    clear_two,
    multiply_one,
    multiply_two,
    round_row,
    round_rows,
    store_one,
    store_two,
)
from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.memory import (
    load_f32,
    load_floats,
    load_i32,
    load_i64,
    store_f32,
    store_floats,
    store_i32,
    store_i64,
)
from colbert_research.kernels.cpu.simd import F32, FLOATS, LANES, WIDTH, add, call_intrinsic, emit, max_floats
from colbert_research.kernels.cpu.team import Job, arguments_of, in_team
from colbert_research.kernels.cpu.tiles import TILES, begin, end

ROWS = 256  # vectors that one pass over all centroids is for
HELD = 16  # centroids that are noted for one vector
SLACK = 1.01  # for the rounding of the bound itself, and |yh| above |y|
SHORTEST, LONGEST = 2.0**-30, 2.0**30
"""Lengths of vectors for which the bound holds: none of their squares and products leaves the range of float32."""


@emit(types.int64, FLOATS, FLOATS)
def _reaching(builder: Any, one: Any, other: Any) -> Any:
    """One bit per lane: whether `one >= other`."""
    bits = builder.bitcast(builder.fcmp_ordered(">=", one, other), ir.IntType(LANES))
    return builder.zext(bits, ir.IntType(64))


@emit(types.int64, types.int64)
def _lowest_bit(builder: Any, bits: Any) -> Any:
    """The place of the lowest bit that is set; some bit is."""
    return call_intrinsic(builder, "llvm.cttz.i64", ir.IntType(64), bits, ir.Constant(ir.IntType(1), 1))


@emit(types.float32, types.float32, types.float32, types.float32)
def _fma(builder: Any, one: Any, other: Any, third: Any) -> Any:
    """`one * other + third`, rounded once, as in a lane of `multiply_add`."""
    return call_intrinsic(builder, "llvm.fma.f32", F32, one, other, third)


@compiled
def _greatest(products: Any) -> Any:
    """The greatest of BLOCK products, for each of 16 vectors."""
    a, b = load_floats(products), load_floats(products + WIDTH)
    for i in range(2, BLOCK, 2):
        a = max_floats(a, load_floats(products + i * WIDTH))
        b = max_floats(b, load_floats(products + i * WIDTH + WIDTH))
    return max_floats(a, b)


@compiled
def _remember(products: Any, first: Any, last: Any, least: Any, counts: Any, held: Any) -> None:
    """Note, for each of 16 vectors, the centroids `first` to `last` whose products reach its `least`."""
    limits = load_floats(least)
    for i in range(last - first):
        lanes = _reaching(load_floats(products + i * WIDTH), limits)
        while lanes:
            lane = _lowest_bit(lanes)
            lanes &= lanes - 1
            count = load_i64(counts + 8 * lane)
            if 0 <= count < HELD:
                store_i32(held + 4 * (lane * HELD + count), first + i)
            store_i64(counts + 8 * lane, count + 1 if 0 <= count < HELD else -1)


@compiled
def _search_group(
    vectors: Any, steps: Any, rounded: Any, n_centroids: Any, greatest: Any, least: Any, products: Any, counts: Any, held: Any
) -> None:
    """Note the centroids that could be nearest to each of 16 vectors, in the blocks whose `greatest` product says so."""
    row_bytes = steps * WIDTH
    for block in range(0, n_centroids, BLOCK):
        if _reaching(load_floats(greatest + block // BLOCK * WIDTH), load_floats(least)):
            clear_one()
            for step in range(steps):
                multiply_one(rounded + block * row_bytes + step * WIDTH, row_bytes, vectors + step * TILE_BYTES, 0)
            store_one(products)
            _remember(products, block, min(block + BLOCK, n_centroids), least, counts, held)


@compiled
def _choose(row: Any, dim: Any, centroids: Any, held: Any, count: Any) -> Any:
    """Of the noted centroids the nearest in float32, ties to the smaller id, which comes first; -1 where they are not known."""
    if count <= 1:
        return load_i32(held) if count == 1 else -1
    best, chosen = np.float32(-np.inf), -1
    for i in range(0, count, 2):  # two sums side by side: each waits for its own additions
        one, other = load_i32(held + 4 * i), load_i32(held + 4 * min(i + 1, count - 1))
        a, b = centroids + 4 * one * dim, centroids + 4 * other * dim
        product, another = np.float32(0), np.float32(0)
        for d in range(dim):
            value = load_f32(row + 4 * d)
            product, another = _fma(value, load_f32(a + 4 * d), product), _fma(value, load_f32(b + 4 * d), another)
        if product > best:
            best, chosen = product, one
        if another > best:
            best, chosen = another, other
    return chosen


@compiled
def _assign(
    low: Any, high: Any, scratch: Any, vectors: Any, n: Any, dim: Any, rounded: Any, centroids: Any, n_centroids: Any,
    lengths: Any, ids: Any, tiles: Any,
) -> None:  # fmt: skip
    """Passes `low` to `high`, each for ROWS vectors. `lengths`: the longest centroid, and the most that rounding took away."""
    steps, longest, lost = -(-dim // STEP), load_f32(lengths), load_f32(lengths + 4)
    row_bytes, group_bytes, greatest_bytes = steps * WIDTH, steps * TILE_BYTES, -(-n_centroids // BLOCK) * WIDTH
    rounding, own = np.float32(4 * (dim + 4) * 2.0**-24), scratch + 4 * TILE_BYTES
    packed = own + TILE_BYTES
    greatest = packed + ROWS // LANES * group_bytes
    least = greatest + ROWS // LANES * greatest_bytes
    below, counts, held = least + 4 * ROWS, least + 8 * ROWS, least + 16 * ROWS
    begin(tiles)
    for first in range(low * ROWS, min(high * ROWS, n), ROWS):
        count = min(ROWS, n - first)
        groups = -(-count // LANES)
        for row in range(ROWS):
            store_f32(least + 4 * row, np.float32(-np.inf))
            store_f32(below + 4 * row, np.float32(np.inf))
            store_i64(counts + 8 * row, -1)
        for row in range(count):
            place = packed + row // LANES * group_bytes + row % LANES * 4
            round_row(vectors + 4 * (first + row) * dim, dim, scratch, TILE_BYTES, WIDTH, place, own)
            length, missing = load_f32(own), load_f32(own + 4)
            if SHORTEST <= length <= LONGEST:
                bound = length * lost + missing * longest + rounding * length * longest
                store_f32(below + 4 * row, np.float32(-2 * SLACK) * bound)
                store_i64(counts + 8 * row, 0)
        for block in range(0, n_centroids, BLOCK):
            for group in range(0, groups, 2):
                clear_two()
                for step in range(steps):
                    multiply_two(
                        rounded + block * row_bytes + step * WIDTH, row_bytes,
                        packed + group * group_bytes + step * TILE_BYTES, group_bytes,
                    )  # fmt: skip
                store_two(scratch)
                for one in range(2):
                    found, best = _greatest(scratch + 2 * one * TILE_BYTES), least + (group + one) * WIDTH
                    store_floats(greatest + (group + one) * greatest_bytes + block // BLOCK * WIDTH, found)
                    store_floats(best, max_floats(load_floats(best), found))
        for group in range(groups):
            best, row = least + group * WIDTH, group * LANES
            store_floats(best, add(load_floats(best), load_floats(below + group * WIDTH)))
            _search_group(
                packed + group * group_bytes, steps, rounded, n_centroids, greatest + group * greatest_bytes, best, scratch,
                counts + 8 * row, held + 4 * HELD * row,
            )  # fmt: skip
        for row in range(count):
            chosen = _choose(
                vectors + 4 * (first + row) * dim, dim, centroids, held + 4 * HELD * row, load_i64(counts + 8 * row)
            )  # fmt: skip
            store_i32(ids + 4 * (first + row), chosen)
    end()


_arguments = arguments_of(9)


@Job
def _assign_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    _assign(low, high, scratch, *_arguments(arguments))


def _scratch(steps: int, n_centroids: int) -> int:
    """Bytes that `_assign` lays out: products and a row, packed vectors, greatest products, what is noted of each vector."""
    a_group = steps * TILE_BYTES + -(-n_centroids // BLOCK) * WIDTH
    return 5 * TILE_BYTES + ROWS // LANES * a_group + ROWS * (16 + 4 * HELD)


def assign(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int32]:
    """The nearest centroids `(n,)` of `vectors` `(n, dim)` as float32 has them; -1 for a vector where this cannot tell.

    That is a vector too short, too long or not finite, or with more than HELD centroids that are all but equally near; and all
    of them where a centroid is too long or not finite.
    """
    n, dim = vectors.shape
    n_centroids, steps = len(centroids), -(-dim // STEP)
    rounded = aligned(-(-n_centroids // BLOCK) * BLOCK * steps * WIDTH).reshape(-1, steps * WIDTH)
    lengths, spare = np.empty((n_centroids, 2), np.float32), np.empty(3 * WIDTH, np.uint8)
    round_rows(
        centroids.ctypes.data, n_centroids, dim, rounded.ctypes.data, steps * WIDTH, lengths.ctypes.data, spare.ctypes.data
    )
    # beyond the last centroid the first one, which reaches nothing that it has not reached
    rounded[n_centroids:] = rounded[0]
    most, ids = lengths.max(axis=0), np.full(n, -1, np.int32)
    if not SHORTEST <= most[0] <= LONGEST:
        return ids
    arguments = (
        vectors.ctypes.data, n, dim, rounded.ctypes.data, centroids.ctypes.data, n_centroids, most.ctypes.data, ids.ctypes.data,
        TILES.ctypes.data,
    )  # fmt: skip
    starts = np.minimum(np.arange(-(-n // ROWS) + 1) * ROWS, n) * n_centroids
    in_team(_assign_job, starts, None, arguments, scratch=_scratch(steps, n_centroids))
    return ids
