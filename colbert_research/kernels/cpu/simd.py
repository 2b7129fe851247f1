"""SIMD vectors inside Numba functions: a handful of operations, each emitted as LLVM vector instructions.

Numba's own vectoriser does not find byte shuffles, byte maxima and integer dot products, which is all that compressed MaxSim is
made of; written as vector IR they run as fast as C intrinsics and need no compiler at installation. The width and the few
instructions without a portable form are chosen once by the features of this processor, `TIER`: `amx` (tiles of integers, beside
AVX-512), `avx512` (with VNNI), `avx2`, or `generic`, which any processor can run. `COLBERT_RESEARCH_SIMD` forces a lower one.
Integer operations give the same numbers in all of them.

Memory is addressed by plain integers (`array.ctypes.data` plus a byte offset): callers check shapes, types and bounds.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

WIDTHS = {"amx": 64, "avx512": 64, "avx2": 32, "generic": 16}
_FEATURES = {"avx512": ("avx512bw", "avx512vl", "avx512vnni"), "avx2": ("avx2", "fma"), "generic": ()}


def _choose_tier() -> str:
    features = binding.get_host_cpu_features()
    possible = [tier for tier, needed in _FEATURES.items() if all(features.get(name) for name in needed)]
    if possible[0] == "avx512" and features.get("amx-tile") and features.get("amx-int8") and _tiles_permitted():
        possible.insert(0, "amx")
    asked = os.environ.get("COLBERT_RESEARCH_SIMD") or possible[0]
    if asked not in possible:
        raise ValueError(f"COLBERT_RESEARCH_SIMD={asked!r}, but this processor has {', '.join(possible)}")
    return asked


def _tiles_permitted() -> bool:
    """Ask Linux for the state of the tile registers, which it gives to processes that ask (arch_prctl, XTILEDATA)."""
    if sys.platform != "linux":
        return False
    system_call, request, tile_data = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(system_call, request, tile_data) == 0


TIER = _choose_tier()
WIDTH = WIDTHS[TIER]
"""Bytes of a vector."""
LANES = WIDTH // 4
"""32-bit lanes of a vector."""
LOOKS_UP_256 = TIER in ("amx", "avx512") and bool(binding.get_host_cpu_features().get("avx512vbmi"))
"""Whether a table of 256 bytes can be looked up by vectors."""
STEP_BLOCK = 16 if TIER == "amx" else 1
"""Steps of four bytes that are multiplied at once."""

I8, I16, I32, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
BYTE_VECTOR, SHORT_VECTOR = ir.VectorType(I8, WIDTH), ir.VectorType(I16, WIDTH // 2)
INT_VECTOR, FLOAT_VECTOR = ir.VectorType(I32, LANES), ir.VectorType(F32, LANES)


class _Vector(types.Type):  # type: ignore[misc]
    def __init__(self, name: str, element: Any) -> None:
        self.element = element
        super().__init__(name=f"{name}x{WIDTH}bytes")


class _ByteVector(_Vector):
    pass


class _IntVector(_Vector):
    pass


class _FloatVector(_Vector):
    pass


BYTES, INTS, FLOATS = _ByteVector("bytes", BYTE_VECTOR), _IntVector("ints", INT_VECTOR), _FloatVector("floats", FLOAT_VECTOR)


@register_model(_ByteVector)
@register_model(_IntVector)
@register_model(_FloatVector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: _Vector) -> None:
        super().__init__(manager, vector, vector.element)


def emit(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make an intrinsic of this signature from `function(builder, *values)`, which writes its LLVM instructions."""

    def declare(function: Callable[..., Any]) -> Any:
        made = result(*arguments), lambda context, builder, signature, values: function(builder, *values)
        definitions: list[Any] = [
            lambda typing: made,
            lambda typing, a: made,
            lambda typing, a, b: made,
            lambda typing, a, b, c: made,
            lambda typing, a, b, c, d: made,
            lambda typing, a, b, c, d, e: made,
        ]
        definition = definitions[len(arguments)]
        definition.__name__, definition.__doc__ = function.__name__, function.__doc__
        return intrinsic(definition)

    return declare


def pointer_to(builder: Any, address: Any, pointee: Any) -> Any:
    return builder.inttoptr(address, pointee.as_pointer())


def splat(builder: Any, value: Any, vector: Any) -> Any:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, I32(0))
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(I32, vector.count), None))


def call_intrinsic(builder: Any, name: str, result: Any, *values: Any) -> Any:
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), values)


@emit(FLOATS, types.float32)
def spread_float(builder: Any, value: Any) -> Any:
    """A float32 in every lane."""
    return splat(builder, value, FLOAT_VECTOR)


@emit(BYTES, types.uint8)
def spread_byte(builder: Any, value: Any) -> Any:
    """A byte in every place."""
    return splat(builder, value, BYTE_VECTOR)


@emit(INTS)
def zero_ints(builder: Any) -> Any:
    """Zeros."""
    return ir.Constant(INT_VECTOR, None)


@emit(BYTES, BYTES, types.int64, types.uint8)
def bits_of_bytes(builder: Any, vector: Any, shift: Any, mask: Any) -> Any:
    """Every byte shifted right by `shift` < 8 bits, then masked with at most 8 - shift bits."""
    distance = splat(builder, builder.trunc(shift, I16), SHORT_VECTOR)
    shifted = builder.lshr(builder.bitcast(vector, SHORT_VECTOR), distance)  # the mask removes what crosses from the next byte
    return builder.and_(builder.bitcast(shifted, BYTE_VECTOR), splat(builder, mask, BYTE_VECTOR))


@emit(BYTES, BYTES, BYTES)
def max_bytes(builder: Any, one: Any, other: Any) -> Any:
    """The larger of two unsigned bytes, place by place."""
    return builder.select(builder.icmp_unsigned(">", one, other), one, other)


@emit(BYTES, BYTES, BYTES)
def look_up(builder: Any, table: Any, positions: Any) -> Any:
    """`table[place]` for every byte of `positions` below 16; `table` holds its 16 bytes in each 16-byte part."""
    if TIER != "generic":
        name = "llvm.x86.avx2.pshuf.b" if TIER == "avx2" else "llvm.x86.avx512.pshuf.b.512"
        return call_intrinsic(builder, name, BYTE_VECTOR, table, positions)
    found = ir.Constant(BYTE_VECTOR, ir.Undefined)
    for place in range(WIDTH):
        byte = builder.extract_element(table, builder.extract_element(positions, I32(place)))
        found = builder.insert_element(found, byte, I32(place))
    return found


@emit(BYTES, BYTES, BYTES, BYTES, BYTES, BYTES)
def look_up_256(builder: Any, first: Any, second: Any, third: Any, fourth: Any, positions: Any) -> Any:
    """For every byte of `positions` what lies there in a table of four vectors; only where `LOOKS_UP_256`."""
    name = "llvm.x86.avx512.vpermi2var.qi.512"
    low = call_intrinsic(builder, name, BYTE_VECTOR, first, positions, second)
    high = call_intrinsic(builder, name, BYTE_VECTOR, third, positions, fourth)
    return builder.select(builder.icmp_signed("<", positions, ir.Constant(BYTE_VECTOR, None)), high, low)


@emit(INTS, INTS, BYTES, BYTES)
def add_dots(builder: Any, sums: Any, unsigned: Any, signed: Any) -> Any:
    """`sums` plus, lane by lane, the dot product of four unsigned bytes with four signed ones.

    Exact in every tier as long as two neighbouring products stay below 2^15: unsigned <= 255 with -64 < signed < 64.
    """
    if TIER in ("amx", "avx512"):
        taken = (unsigned, signed)
        if binding.llvm_version_info[0] < 22:
            taken = tuple(builder.bitcast(vector, INT_VECTOR) for vector in taken)
        return call_intrinsic(builder, "llvm.x86.avx512.vpdpbusd.512", INT_VECTOR, sums, *taken)
    if TIER == "avx2":
        pairs = call_intrinsic(builder, "llvm.x86.avx2.pmadd.ub.sw", SHORT_VECTOR, unsigned, signed)
        ones = ir.Constant(SHORT_VECTOR, [1] * SHORT_VECTOR.count)
        return builder.add(sums, call_intrinsic(builder, "llvm.x86.avx2.pmadd.wd", INT_VECTOR, pairs, ones))
    wide = ir.VectorType(I16, WIDTH)
    products = builder.sext(builder.mul(builder.zext(unsigned, wide), builder.sext(signed, wide)), ir.VectorType(I32, WIDTH))
    for part in range(4):
        positions = ir.Constant(ir.VectorType(I32, LANES), [4 * lane + part for lane in range(LANES)])
        sums = builder.add(sums, builder.shuffle_vector(products, ir.Constant(products.type, ir.Undefined), positions))
    return sums


@emit(FLOATS, INTS)
def floats_of(builder: Any, vector: Any) -> Any:
    """int32 lanes as float32."""
    return builder.sitofp(vector, FLOAT_VECTOR)


@emit(FLOATS, FLOATS, FLOATS)
def add(builder: Any, one: Any, other: Any) -> Any:
    """Sums, lane by lane."""
    return builder.fadd(one, other)


@emit(FLOATS, FLOATS, FLOATS)
def multiply(builder: Any, one: Any, other: Any) -> Any:
    """Products, lane by lane."""
    return builder.fmul(one, other)


@emit(FLOATS, FLOATS, FLOATS, FLOATS)
def multiply_add(builder: Any, one: Any, other: Any, third: Any) -> Any:
    """`one * other + third`, lane by lane, rounded once where the processor can."""
    return call_intrinsic(
        builder, f"llvm.{'fmuladd' if TIER == 'generic' else 'fma'}.v{LANES}f32", FLOAT_VECTOR, one, other, third
    )


@emit(FLOATS, FLOATS, FLOATS)
def max_floats(builder: Any, one: Any, other: Any) -> Any:
    """The larger, lane by lane; `one` where either is not a number. This comparison is one instruction of x86."""
    return builder.select(builder.fcmp_ordered("<", one, other), other, one)


SIXTEEN_VECTOR = ir.VectorType(I8, 16)
SIXTEEN = _ByteVector("sixteen", SIXTEEN_VECTOR)


@emit(SIXTEEN, SIXTEEN, SIXTEEN)
def max_16_bytes(builder: Any, one: Any, other: Any) -> Any:
    """The larger of two unsigned bytes, place by place."""
    return builder.select(builder.icmp_unsigned(">", one, other), one, other)


@emit(INTS, types.int64)
def spread_int(builder: Any, value: Any) -> Any:
    """An int32 in every lane."""
    return splat(builder, builder.trunc(value, I32), INT_VECTOR)


@emit(INTS, FLOATS, FLOATS, INTS, INTS)
def where_greater(builder: Any, one: Any, other: Any, yes: Any, no: Any) -> Any:
    """`yes` in the lanes where `one > other`, `no` elsewhere."""
    return builder.select(builder.fcmp_ordered(">", one, other), yes, no)


@emit(types.int64, FLOATS, FLOATS)
def lanes_greater(builder: Any, one: Any, other: Any) -> Any:
    """One bit per lane, the first lowest: whether `one > other`."""
    bits = builder.bitcast(builder.fcmp_ordered(">", one, other), ir.IntType(LANES))
    return builder.zext(bits, ir.IntType(64))


@emit(FLOATS, FLOATS)
def negative(builder: Any, vector: Any) -> Any:
    """Lane by lane with the other sign."""
    return builder.fneg(vector)


@emit(INTS, FLOATS)
def truncated(builder: Any, vector: Any) -> Any:
    """float32 lanes as int32, rounded towards zero."""
    return builder.fptosi(vector, INT_VECTOR)


@emit(INTS, INTS)
def add_one(builder: Any, vector: Any) -> Any:
    """One more in every lane."""
    return builder.add(vector, ir.Constant(INT_VECTOR, [1] * LANES))
