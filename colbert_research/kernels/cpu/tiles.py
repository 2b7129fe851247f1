"""Dot products of a block of decoded tokens with the integers of LANES query tokens, the way this processor does them best."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.memory import load_bytes, spread_word, store_ints
from colbert_research.kernels.cpu.simd import TIER, WIDTH, add_dots, call_intrinsic, emit, pointer_to, zero_ints

BLOCK = 32
"""Tokens of a block."""

_TILE, _VOID = ir.IntType(8), ir.VoidType()
_ROW_BYTES = 64


@compiled
def _vector_dots(tokens: Any, stride: Any, count: Any, weights: Any, steps: Any, sums: Any) -> None:
    for first in range(0, count, 8):
        t0 = tokens + first * stride
        t1, t2, t3, t4 = t0 + stride, t0 + 2 * stride, t0 + 3 * stride, t0 + 4 * stride
        t5, t6, t7 = t4 + stride, t4 + 2 * stride, t4 + 3 * stride
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zero_ints()
        for step in range(steps):
            w = load_bytes(weights + step * WIDTH)
            s0 = add_dots(s0, spread_word(t0 + 4 * step), w)
            s1 = add_dots(s1, spread_word(t1 + 4 * step), w)
            s2 = add_dots(s2, spread_word(t2 + 4 * step), w)
            s3 = add_dots(s3, spread_word(t3 + 4 * step), w)
            s4 = add_dots(s4, spread_word(t4 + 4 * step), w)
            s5 = add_dots(s5, spread_word(t5 + 4 * step), w)
            s6 = add_dots(s6, spread_word(t6 + 4 * step), w)
            s7 = add_dots(s7, spread_word(t7 + 4 * step), w)
        at = sums + first * WIDTH
        store_ints(at, s0)
        store_ints(at + WIDTH, s1)
        store_ints(at + 2 * WIDTH, s2)
        store_ints(at + 3 * WIDTH, s3)
        store_ints(at + 4 * WIDTH, s4)
        store_ints(at + 5 * WIDTH, s5)
        store_ints(at + 6 * WIDTH, s6)
        store_ints(at + 7 * WIDTH, s7)


@compiled
def _no_tiles(configuration: Any) -> None:
    return


@compiled
def _no_release() -> None:
    return


def _tile(number: int) -> Any:
    return ir.Constant(_TILE, number)


@emit(types.void, types.intp)
def _configure(builder: Any, address: Any) -> Any:
    call_intrinsic(builder, "llvm.x86.ldtilecfg", _VOID, pointer_to(builder, address, _TILE))


@emit(types.void)
def _release(builder: Any) -> Any:
    call_intrinsic(builder, "llvm.x86.tilerelease", _VOID)


def _operation(name: str, *tiles: int) -> Any:
    """A tile intrinsic whose only operands are tiles."""

    @emit(types.void)
    def operation(builder: Any) -> Any:
        call_intrinsic(builder, f"llvm.x86.{name}", _VOID, *(_tile(tile) for tile in tiles))

    return operation


def _memory_operation(name: str, tile: int) -> Any:
    """A tile intrinsic that reads or writes rows `stride` bytes apart."""

    @emit(types.void, types.intp, types.intp)
    def operation(builder: Any, address: Any, stride: Any) -> Any:
        call_intrinsic(builder, f"llvm.x86.{name}", _VOID, _tile(tile), pointer_to(builder, address, _TILE), stride)

    return operation


_zero_0, _zero_1 = _operation("tilezero", 0), _operation("tilezero", 1)
_multiply_0, _multiply_1 = _operation("tdpbusd", 0, 2, 4), _operation("tdpbusd", 1, 3, 4)
_store_0, _store_1 = _memory_operation("tilestored64", 0), _memory_operation("tilestored64", 1)
_load_2, _load_3 = _memory_operation("tileloadd64", 2), _memory_operation("tileloadd64", 3)
_load_4 = _memory_operation("tileloadd64", 4)


@compiled
def _tile_dots(tokens: Any, stride: Any, count: Any, weights: Any, steps: Any, sums: Any) -> None:
    _zero_0()
    if count <= 16:
        for step in range(0, steps, 16):
            _load_2(tokens + 4 * step, stride)
            _load_4(weights + step * WIDTH, _ROW_BYTES)
            _multiply_0()
        _store_0(sums, _ROW_BYTES)
        return
    _zero_1()  # two chains of products at a time: each waits long for its last one
    for step in range(0, steps, 16):
        _load_2(tokens + 4 * step, stride)
        _load_4(weights + step * WIDTH, _ROW_BYTES)
        _multiply_0()
        _load_3(tokens + 16 * stride + 4 * step, stride)
        _multiply_1()
    _store_0(sums, _ROW_BYTES)
    _store_1(sums + 16 * WIDTH, _ROW_BYTES)


@compiled
def _configure_tiles(configuration: Any) -> None:
    _configure(configuration)


@compiled
def _release_tiles() -> None:
    _release()


block_dots = _tile_dots if TIER == "amx" else _vector_dots
"""`(tokens, stride, count, weights, steps, sums)`: int32 `(BLOCK, LANES)` at `sums`; rows from `count` on are arbitrary."""
begin = _configure_tiles if TIER == "amx" else _no_tiles
"""To be called with the address of `TILES` by a thread before its first `block_dots`."""
end = _release_tiles if TIER == "amx" else _no_release
"""To be called after the last."""


def _shapes() -> NDArray[np.uint8]:
    """The shapes of all eight tiles: 16 rows of 64 bytes each."""
    shapes = np.zeros(_ROW_BYTES, np.uint8)
    shapes[0] = 1  # palette
    shapes[16:32].view(np.uint16)[:] = _ROW_BYTES
    shapes[48:56] = 16
    return shapes


TILES = _shapes()
