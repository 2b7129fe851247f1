"""MaxSim over codes in integers: decode a block of tokens to bytes, multiply, add the centroids' table, keep maxima."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.memory import (
    load_bytes,
    load_f32,
    load_floats,
    load_half,
    load_i32,
    load_i64,
    load_ints,
    load_u8,
    load_u16,
    store_bytes,
    store_f32,
    store_floats,
    store_i64,
    store_u8,
)
from colbert_research.kernels.cpu.parallel import in_parallel
from colbert_research.kernels.cpu.prepare import CODEWORDS, COPIED, PACKED, Decoder, IntegerQuery
from colbert_research.kernels.cpu.simd import WIDTH, add, bits_of_bytes, floats_of, look_up, max_floats, multiply, spread_float
from colbert_research.kernels.cpu.tiles import BLOCK, begin, block_dots, configuration, end
from colbert_research.kernels.operands import CodedTokens, Places


@compiled
def _unpack(code: Any, width: Any, bits: Any, table: Any, plane: Any, out: Any) -> None:
    levels, mask = load_bytes(table), np.uint8((1 << bits) - 1)
    for place in range(8 // bits):  # what a vector writes beyond its plane is overwritten by the next plane
        for at in range(0, width, WIDTH):
            numbers = bits_of_bytes(load_bytes(code + at), 8 - bits * (place + 1), mask)
            store_bytes(out + place * plane + at, look_up(levels, numbers))


@compiled
def decode(
    code: Any, kind: Any, width: Any, bits: Any, sub: Any, table: Any, plane: Any, stop: Any, spare: Any, out: Any
) -> None:
    """The bytes of one token; codes end before the address `stop`."""
    if kind in (PACKED, COPIED):
        if code + width + WIDTH > stop:  # not to be read as whole vectors
            for i in range(width):
                store_u8(spare + i, load_u8(code + i))
            code = spare
        if kind == PACKED:
            _unpack(code, width, bits, table, plane, out)
        else:
            for at in range(0, width, WIDTH):
                store_bytes(out + at, load_bytes(code + at))
    elif kind == CODEWORDS:
        for part in range(width):
            word = table + (part * 256 + load_u8(code + part)) * sub
            for at in range(0, sub, 8):  # eight bytes at a time, of which the next codeword overwrites those too many
                store_i64(out + part * sub + at, load_i64(word + at))
    else:
        for i in range(width):
            store_u8(out + i, load_u8(table + load_u8(code + i)))


@compiled
def _score(
    codes: Any, stop: Any, kind: Any, width: Any, bits: Any, sub: Any, levels: Any, plane: Any, stride: Any, steps: Any,
    ids: Any, wide_ids: Any, norms: Any, weights: Any, factors: Any, table: Any, groups: Any, n_tokens: Any,
    offsets: Any, only: Any, low: Any, high: Any, scratch: Any, scores: Any, tiles: Any,
) -> None:  # fmt: skip
    spare = scratch + BLOCK * stride
    sums = spare + width + 2 * WIDTH
    sums += -sums % 64
    maxima = sums + BLOCK * WIDTH
    lowest = spread_float(np.float32(-np.inf))
    begin(tiles)
    for i in range(low, high):
        document = load_i64(only + 8 * i) if only else i
        first, last = load_i64(offsets + 8 * document), load_i64(offsets + 8 * document + 8)
        for group in range(groups):
            store_floats(maxima + group * WIDTH, lowest)
        for token in range(first, last, BLOCK):
            count = min(BLOCK, last - token)
            for j in range(count):
                code = codes + (token + j) * width
                decode(code, kind, width, bits, sub, levels, plane, stop, spare, scratch + j * stride)
            for group in range(groups):
                block_dots(scratch, stride, count, weights + group * steps * WIDTH, steps, sums)
                best, factor = load_floats(maxima + group * WIDTH), load_floats(factors + group * WIDTH)
                row, row_bytes = table + group * WIDTH, groups * WIDTH
                for j in range(count):
                    centroid = 0
                    if ids:
                        at = token + j
                        centroid = load_i32(ids + 4 * at) if wide_ids else load_u16(ids + 2 * at)
                    product = multiply(factor, floats_of(load_ints(sums + j * WIDTH)))
                    score = add(load_floats(row + centroid * row_bytes), product)
                    if norms:
                        score = multiply(score, spread_float(load_half(norms + 2 * (token + j))))
                    best = max_floats(best, score)
                store_floats(maxima + group * WIDTH, best)
        total = np.float32(0)
        for q in range(n_tokens):
            total += load_f32(maxima + 4 * q)
        store_f32(scores + 4 * i, total)
    end()


def maxsim(query: IntegerQuery, decoder: Decoder, tokens: CodedTokens, only: Places, scores: NDArray[np.float32]) -> None:
    """Fill `scores` `(n_documents or len(only),)` with the integer MaxSim of one query; see `prepare` for the formula."""
    codes = np.ascontiguousarray(tokens.codes, np.uint8)
    offsets = np.ascontiguousarray(tokens.offsets, np.int64)
    ids = None if tokens.centroid_ids is None else _ids(tokens.centroid_ids)
    norms = None if tokens.inverse_norms is None else np.ascontiguousarray(tokens.inverse_norms, np.float16)
    tiles, stop = configuration(), codes.ctypes.data + codes.nbytes

    def part(low: int, high: int) -> None:
        scratch = np.empty(BLOCK * decoder.stride + decoder.width + 3 * WIDTH + 64 + (BLOCK + query.groups) * WIDTH, np.uint8)
        _score(
            codes.ctypes.data, stop, decoder.kind, decoder.width, decoder.bits, decoder.sub, decoder.table.ctypes.data,
            decoder.plane, decoder.stride, decoder.steps, _address(ids), ids is not None and ids.itemsize == 4, _address(norms),
            query.weights.ctypes.data, query.factors.ctypes.data, query.table.ctypes.data, query.groups, query.n_tokens,
            offsets.ctypes.data, _address(only), low, high, scratch.ctypes.data, scores.ctypes.data, tiles.ctypes.data,
        )  # fmt: skip

    in_parallel(part, offsets, only)


def _ids(ids: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.ascontiguousarray(ids, ids.dtype if ids.dtype in (np.uint16, np.int32) else np.int32)


def _address(array: NDArray[np.generic] | None) -> int:
    return 0 if array is None else array.ctypes.data
