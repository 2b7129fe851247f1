"""Loads and stores of vectors and numbers, at addresses that are plain integers; see `simd`."""

from typing import Any

from llvmlite import ir
from numba import types

from colbert_research.kernels.cpu.simd import (
    BYTE_VECTOR,
    BYTES,
    F32,
    FLOAT_VECTOR,
    FLOATS,
    I8,
    I16,
    I32,
    INT_VECTOR,
    INTS,
    LANES,
    SIXTEEN,
    SIXTEEN_VECTOR,
    TIER,
    call_intrinsic,
    emit,
    pointer_to,
    splat,
)


@emit(BYTES, types.intp)
def load_bytes(builder: Any, address: Any) -> Any:
    """WIDTH bytes from memory."""
    return builder.load(pointer_to(builder, address, BYTE_VECTOR), align=1)


@emit(types.void, types.intp, BYTES)
def store_bytes(builder: Any, address: Any, vector: Any) -> Any:
    """WIDTH bytes to memory."""
    builder.store(vector, pointer_to(builder, address, BYTE_VECTOR), align=1)


@emit(FLOATS, types.intp)
def load_floats(builder: Any, address: Any) -> Any:
    """LANES float32 from memory."""
    return builder.load(pointer_to(builder, address, FLOAT_VECTOR), align=4)


@emit(types.void, types.intp, FLOATS)
def store_floats(builder: Any, address: Any, vector: Any) -> Any:
    """LANES float32 to memory."""
    builder.store(vector, pointer_to(builder, address, FLOAT_VECTOR), align=4)


@emit(BYTES, types.intp)
def spread_word(builder: Any, address: Any) -> Any:
    """The four bytes at an address, repeated over a vector."""
    return builder.bitcast(splat(builder, builder.load(pointer_to(builder, address, I32), align=1), INT_VECTOR), BYTE_VECTOR)


@emit(types.float32, types.intp)
def load_half(builder: Any, address: Any) -> Any:
    """A finite, not negative float16 from memory, as float32, without the instruction that older processors lack."""
    bits = builder.zext(builder.load(pointer_to(builder, address, I16), align=2), I32)
    return builder.fmul(builder.bitcast(builder.shl(bits, I32(13)), F32), ir.Constant(F32, 2.0**112))


def _loader(result: Any, stored: Any) -> Any:
    @emit(result, types.intp)
    def load(builder: Any, address: Any) -> Any:
        value = builder.load(pointer_to(builder, address, stored), align=1)
        return value if stored.width == result.bitwidth else builder.zext(value, ir.IntType(result.bitwidth))

    return load


load_u8, load_u16 = _loader(types.int64, I8), _loader(types.int64, I16)
load_i32, load_i64 = _loader(types.int64, I32), _loader(types.int64, ir.IntType(64))
load_f32 = emit(types.float32, types.intp)(lambda builder, address: builder.load(pointer_to(builder, address, F32), align=4))


def _pointer(element: Any, stored: Any) -> Any:
    """An intrinsic that makes of an address what `numba.carray` takes for the start of an array."""
    return emit(types.CPointer(element), types.intp)(lambda builder, address: pointer_to(builder, address, stored))


bytes_at, ids_at, floats_at = _pointer(types.uint8, I8), _pointer(types.int32, I32), _pointer(types.float32, F32)


@emit(types.void, types.intp, types.uint8)
def store_u8(builder: Any, address: Any, value: Any) -> Any:
    """One byte to memory."""
    builder.store(value, pointer_to(builder, address, I8), align=1)


@emit(types.void, types.intp, types.int64)
def store_i64(builder: Any, address: Any, value: Any) -> Any:
    """One int64 to memory."""
    builder.store(value, pointer_to(builder, address, ir.IntType(64)), align=1)


@emit(types.void, types.intp, types.float32)
def store_f32(builder: Any, address: Any, value: Any) -> Any:
    """One float32 to memory."""
    builder.store(value, pointer_to(builder, address, F32), align=4)


@emit(INTS, types.intp)
def load_ints(builder: Any, address: Any) -> Any:
    """LANES int32 from memory."""
    return builder.load(pointer_to(builder, address, INT_VECTOR), align=4)


@emit(types.void, types.intp, INTS)
def store_ints(builder: Any, address: Any, vector: Any) -> Any:
    """LANES int32 to memory."""
    builder.store(vector, pointer_to(builder, address, INT_VECTOR), align=4)


@emit(FLOATS, types.intp)
def load_halves(builder: Any, address: Any) -> Any:
    """LANES float16 from memory as float32, infinities and NaN included, without the instruction that older processors lack."""
    halves = builder.load(pointer_to(builder, address, ir.VectorType(I16, LANES)), align=2)
    bits = builder.zext(halves, INT_VECTOR)

    def constant(value: int) -> Any:
        return ir.Constant(INT_VECTOR, [value] * LANES)

    magnitude = builder.shl(builder.and_(bits, constant(0x7FFF)), constant(13))
    scaled = builder.fmul(builder.bitcast(magnitude, FLOAT_VECTOR), ir.Constant(FLOAT_VECTOR, [2.0**112] * LANES))
    endless = builder.icmp_unsigned("==", builder.and_(bits, constant(0x7C00)), constant(0x7C00))
    finite = builder.bitcast(scaled, INT_VECTOR)
    value = builder.select(endless, builder.or_(magnitude, constant(0x7F800000)), finite)
    sign = builder.shl(builder.and_(bits, constant(0x8000)), constant(16))
    return builder.bitcast(builder.or_(value, sign), FLOAT_VECTOR)


@emit(SIXTEEN, types.intp)
def load_16_bytes(builder: Any, address: Any) -> Any:
    """Sixteen bytes from memory."""
    return builder.load(pointer_to(builder, address, SIXTEEN_VECTOR), align=1)


@emit(types.void, types.intp, SIXTEEN)
def store_16_bytes(builder: Any, address: Any, vector: Any) -> Any:
    """Sixteen bytes to memory."""
    builder.store(vector, pointer_to(builder, address, SIXTEEN_VECTOR), align=1)


@emit(types.void, types.intp, types.int64)
def store_i32(builder: Any, address: Any, value: Any) -> Any:
    """One int32 to memory."""
    builder.store(builder.trunc(value, I32), pointer_to(builder, address, I32), align=1)


@emit(types.void, types.intp)
def prefetch(builder: Any, address: Any) -> Any:
    """Ask for the cache line at an address; one that cannot be read is ignored."""
    pointer, read, near, data = pointer_to(builder, address, I8), I32(0), I32(3), I32(1)
    call_intrinsic(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, read, near, data)


@emit(types.void, types.intp, types.intp, types.intp)
def transpose_square(builder: Any, source: Any, out: Any, stride: Any) -> Any:
    """LANES vectors of LANES float32, one after the other, written as columns to rows `stride` bytes apart."""
    offsets = [ir.Constant(source.type, row * LANES * 4) for row in range(LANES)]
    rows = [builder.load(pointer_to(builder, builder.add(source, offset), FLOAT_VECTOR), align=4) for offset in offsets]
    half = 1
    while half < LANES:  # swap the off-diagonal quarters of every square of 2 * half
        for one in range(LANES):
            if one & half:
                continue
            a, b = rows[one], rows[one + half]
            low = [lane if not lane & half else LANES + lane - half for lane in range(LANES)]
            high = [lane + half if not lane & half else LANES + lane for lane in range(LANES)]
            rows[one] = builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, LANES), low))
            rows[one + half] = builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, LANES), high))
        half *= 2
    for row in rows:
        builder.store(row, pointer_to(builder, out, FLOAT_VECTOR), align=4)
        out = builder.add(out, stride)


@emit(types.void, types.intp, INTS)
def store_low_bytes(builder: Any, address: Any, vector: Any) -> Any:
    """The low byte of every lane to memory, LANES bytes."""
    kind = ir.VectorType(I8, LANES)
    builder.store(builder.trunc(vector, kind), pointer_to(builder, address, kind), align=1)


@emit(INTS, types.intp, types.intp, types.int64)
def gather_words(builder: Any, table: Any, codes: Any, first: Any) -> Any:
    """LANES words of four bytes: of each of the LANES `codes` at that address, the word in its own part of 256 words.

    The parts of `table` follow one another, from the part `first` on.
    """
    bytes_in, one = ir.VectorType(I8, LANES), ir.VectorType(ir.IntType(1), LANES)
    numbers = builder.zext(builder.load(pointer_to(builder, codes, bytes_in), align=1), INT_VECTOR)
    positions = builder.add(numbers, ir.Constant(INT_VECTOR, [256 * lane for lane in range(LANES)]))
    start = builder.add(table, builder.mul(first, ir.Constant(first.type, 4 * 256)))
    if TIER in ("amx", "avx512"):
        zeros, all_lanes = ir.Constant(INT_VECTOR, None), ir.Constant(one, [1] * LANES)
        base = pointer_to(builder, start, I8)
        name = "llvm.x86.avx512.mask.gather.dpi.512"
        return call_intrinsic(builder, name, INT_VECTOR, zeros, base, positions, all_lanes, I32(4))
    found = ir.Constant(INT_VECTOR, ir.Undefined)
    for lane in range(LANES):
        offset = builder.mul(
            builder.zext(builder.extract_element(positions, I32(lane)), start.type), ir.Constant(start.type, 4)
        )
        word = builder.load(pointer_to(builder, builder.add(start, offset), I32), align=1)
        found = builder.insert_element(found, word, I32(lane))
    return found
