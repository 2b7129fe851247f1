"""Vectors rounded to bfloat16, and their products with centroids on AMX tiles."""

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.memory import load_f32, load_floats, load_i32, store_f32, store_floats, store_i32, store_ints
from colbert_research.kernels.cpu.simd import (
    FLOAT_VECTOR,
    FLOATS,
    INT_VECTOR,
    INTS,
    LANES,
    TIER,
    WIDTH,
    call_intrinsic,
    emit,
    multiply_add,
    pointer_to,
    spread_float,
)

AVAILABLE = TIER == "amx" and bool(binding.get_host_cpu_features().get("amx-bf16"))
"""Whether this processor has such tiles."""
_TILE, _VOID, _I64 = ir.IntType(8), ir.VoidType(), ir.IntType(64)
TILE_BYTES = 1024
STEP = 32  # dimensions that are multiplied at once
BLOCK = 32  # centroids whose products are computed at once


def _call(builder: Any, name: str, tile: int, *values: Any) -> None:
    given = [ir.Constant(_TILE, value) if isinstance(value, int) else value for value in (tile, *values)]
    call_intrinsic(builder, f"llvm.x86.{name}", _VOID, *given)


def _moved(builder: Any, address: Any, distance: Any) -> Any:
    """A tile's place `distance` bytes on."""
    return pointer_to(builder, builder.add(address, distance), _TILE)


def _tile_products(groups: int) -> tuple[Any, Any, Any]:
    """Clearing, adding a step and storing the products of BLOCK centroids with `groups` (1 or 2) groups of 16 vectors.

    Tile `2 a + b` sums centroids of half `a` with vectors of group `b`; tiles 4 and 5 hold centroids, 6 and 7 vectors. They are
    stored as `(groups, BLOCK, 16)` float32.
    """
    sums = [(half, group, 2 * half + group) for half in range(2) for group in range(groups)]

    @emit(types.void)
    def clear(builder: Any) -> Any:
        for _, _, tile in sums:
            _call(builder, "tilezero", tile)

    @emit(types.void, types.intp, types.intp, types.intp, types.intp)
    def multiply(builder: Any, centroids: Any, row_bytes: Any, vectors: Any, group_bytes: Any) -> Any:
        for half in range(2):
            place = _moved(builder, centroids, builder.mul(row_bytes, _I64(16 * half)))
            _call(builder, "tileloadd64", 4 + half, place, row_bytes)
        for group in range(groups):
            place = _moved(builder, vectors, builder.mul(group_bytes, _I64(group)))
            _call(builder, "tileloadd64", 6 + group, place, _I64(WIDTH))
        for half, group, tile in sums:
            _call(builder, "tdpbf16ps", tile, 4 + half, 6 + group)

    @emit(types.void, types.intp)
    def store(builder: Any, address: Any) -> Any:
        for half, group, tile in sums:
            _call(builder, "tilestored64", tile, _moved(builder, address, _I64((2 * group + half) * TILE_BYTES)), _I64(WIDTH))

    return clear, multiply, store


clear_one, multiply_one, store_one = _tile_products(1)
clear_two, multiply_two, store_two = _tile_products(2)


@emit(INTS, FLOATS)
def _rounded(builder: Any, vector: Any) -> Any:
    """The bits of finite float32 lanes rounded to the nearest bfloat16, ties to even, the lower half zero."""

    def constant(value: int) -> Any:
        return ir.Constant(INT_VECTOR, [value] * LANES)

    bits = builder.bitcast(vector, INT_VECTOR)
    odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
    return builder.and_(builder.add(bits, builder.add(odd, constant(0x7FFF))), constant(0xFFFF0000))


@emit(INTS, INTS, INTS)
def _pairs(builder: Any, one: Any, other: Any) -> Any:
    """Two rounded vectors in one, the first in the lower halves."""
    return builder.or_(builder.lshr(one, ir.Constant(INT_VECTOR, [16] * LANES)), other)


@emit(FLOATS, FLOATS, INTS)
def _left_over(builder: Any, vector: Any, rounded: Any) -> Any:
    """What rounding took away, exactly."""
    return builder.fsub(vector, builder.bitcast(rounded, FLOAT_VECTOR))


@compiled
def round_row(row: Any, dim: Any, spare: Any, step_bytes: Any, word_bytes: Any, out: Any, lengths: Any) -> None:
    """A row of float32 as bfloat16: words of two dimensions 16 apart; `lengths`: of the row, and of what rounding took away.

    The words of a step of 32 dimensions lie `word_bytes` apart, its steps `step_bytes`.
    """
    squares = lost = spread_float(np.float32(0))
    for at in range(0, dim, STEP):
        source = row + 4 * at
        if at + STEP > dim:
            for i in range(STEP):
                store_f32(spare + 4 * i, load_f32(source + 4 * i) if at + i < dim else np.float32(0))
            source = spare
        one, other = load_floats(source), load_floats(source + WIDTH)
        low, high = _rounded(one), _rounded(other)
        squares = multiply_add(other, other, multiply_add(one, one, squares))
        one, other = _left_over(one, low), _left_over(other, high)
        lost = multiply_add(other, other, multiply_add(one, one, lost))
        words, place = spare + 2 * WIDTH, out + at // STEP * step_bytes
        store_ints(words, _pairs(low, high))
        for i in range(LANES):
            store_i32(place + i * word_bytes, load_i32(words + 4 * i))
    store_floats(spare, squares)
    store_floats(spare + WIDTH, lost)
    length, missing = np.float32(0), np.float32(0)
    for lane in range(LANES):
        length += load_f32(spare + 4 * lane)
        missing += load_f32(spare + WIDTH + 4 * lane)
    store_f32(lengths, np.sqrt(length))
    store_f32(lengths + 4, np.sqrt(missing))


@compiled
def round_rows(rows: Any, n: Any, dim: Any, out: Any, row_bytes: Any, lengths: Any, spare: Any) -> None:
    for row in range(n):
        round_row(rows + 4 * row * dim, dim, spare, WIDTH, 4, out + row * row_bytes, lengths + 8 * row)


def aligned(n_bytes: int) -> NDArray[np.uint8]:
    """Zeros at an address from which tiles are loaded fastest."""
    array = np.zeros(n_bytes + WIDTH, np.uint8)
    start = -array.ctypes.data % WIDTH
    return array[start : start + n_bytes]
