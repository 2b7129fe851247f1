"""MaxSim over codes in integers: decode a block of tokens to bytes, multiply, add the centroids' table, keep maxima."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.decode import decode
from colbert_research.kernels.cpu.memory import (
    load_f32,
    load_floats,
    load_half,
    load_halves,
    load_i32,
    load_i64,
    load_ints,
    load_u16,
    prefetch,
    store_f32,
    store_floats,
)
from colbert_research.kernels.cpu.prepare import Decoder, IntegerQuery
from colbert_research.kernels.cpu.simd import LANES, WIDTH, add, floats_of, max_floats, multiply, spread_float
from colbert_research.kernels.cpu.team import Job, address, arguments_of, in_team
from colbert_research.kernels.cpu.tiles import BLOCK, TILES, begin, block_dots, end
from colbert_research.kernels.operands import CodedTokens, Selection

AHEAD = 2 * BLOCK  # tokens whose codes are fetched before their turn


@compiled
def _norms(norms: Any, first: Any, count: Any, stop: Any, out: Any) -> None:
    """Norms of a block as float32; the array ends before the address `stop`."""
    source = norms + 2 * first
    if source + 2 * max(BLOCK, LANES) <= stop:
        for at in range(0, BLOCK, LANES):
            store_floats(out + 4 * at, load_halves(source + 2 * at))
    else:
        for j in range(count):
            store_f32(out + 4 * j, load_half(source + 2 * j))


@compiled
def _score(
    low: Any, high: Any, scratch: Any, codes: Any, stop: Any, kind: Any, width: Any, bits: Any, sub: Any, levels: Any,
    plane: Any, stride: Any, steps: Any, ids: Any, wide_ids: Any, norms: Any, norms_stop: Any, weights: Any, factors: Any,
    base: Any, table: Any, groups: Any, n_tokens: Any, offsets: Any, only: Any, scores: Any, tiles: Any,
) -> None:  # fmt: skip
    spare = scratch + BLOCK * stride
    lengths = spare + width + 2 * WIDTH
    lengths += -lengths % 64
    sums = lengths + 4 * BLOCK
    maxima = sums + BLOCK * WIDTH
    row_bytes = groups * WIDTH
    lowest = spread_float(np.float32(-np.inf))
    for j in range(BLOCK):
        store_f32(lengths + 4 * j, np.float32(1))
    begin(tiles)
    for i in range(low, high):
        document = load_i64(only + 8 * i) if only else i
        first, last = load_i64(offsets + 8 * document), load_i64(offsets + 8 * document + 8)
        for group in range(groups):
            store_floats(maxima + group * WIDTH, lowest)
        for token in range(first, last, BLOCK):
            count, code = min(BLOCK, last - token), codes + token * width
            for line in range(0, BLOCK * width, 64):
                prefetch(code + AHEAD * width + line)
            decode(code, count, kind, width, bits, sub, levels, plane, stride, stop, spare, scratch)
            if norms:
                _norms(norms, token, count, norms_stop, lengths)
            for group in range(groups):
                block_dots(scratch, stride, count, weights + group * steps * WIDTH, steps, sums)
                best, factor = load_floats(maxima + group * WIDTH), load_floats(factors + group * WIDTH)
                row, base_scores = table + group * WIDTH, load_floats(base + group * WIDTH)
                for j in range(count):
                    centroid = 0
                    if ids:
                        at = token + j
                        centroid = load_i32(ids + 4 * at) if wide_ids else load_u16(ids + 2 * at)
                    product = multiply(factor, floats_of(load_ints(sums + j * WIDTH)))
                    score = add(add(load_floats(row + centroid * row_bytes), base_scores), product)
                    best = max_floats(best, multiply(score, spread_float(load_f32(lengths + 4 * j))))
                store_floats(maxima + group * WIDTH, best)
        total = np.float32(0)
        for q in range(n_tokens):
            total += load_f32(maxima + 4 * q)
        store_f32(scores + 4 * i, total)
    end()


_score_arguments = arguments_of(24)


@Job
def _score_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    _score(low, high, scratch, *_score_arguments(arguments))


def maxsim(query: IntegerQuery, decoder: Decoder, tokens: CodedTokens, only: Selection, scores: NDArray[np.float32]) -> None:
    """Fill `scores` `(n_documents or len(only),)` with the integer MaxSim of one query; see `prepare` for the formula."""
    codes = np.ascontiguousarray(tokens.codes, np.uint8)
    offsets = np.ascontiguousarray(tokens.offsets, np.int64)
    ids = None if tokens.centroid_ids is None else _ids(tokens.centroid_ids)
    norms = None if tokens.inverse_norms is None else np.ascontiguousarray(tokens.inverse_norms, np.float16)
    arguments = (
        codes.ctypes.data, _stop(codes), *decoder.arguments, address(ids), ids is not None and ids.itemsize == 4,
        address(norms), _stop(norms), query.weights.ctypes.data, query.factors.ctypes.data, query.base.ctypes.data,
        query.table.ctypes.data, query.groups, query.n_tokens, offsets.ctypes.data, address(only), scores.ctypes.data,
        TILES.ctypes.data,
    )  # fmt: skip
    scratch = BLOCK * decoder.stride + decoder.width + 2 * WIDTH + 64 + 4 * BLOCK + (BLOCK + query.groups) * WIDTH
    in_team(_score_job, offsets, only, arguments, scratch=scratch)


def _ids(ids: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.ascontiguousarray(ids, ids.dtype if ids.dtype in (np.uint16, np.int32) else np.int32)


def _stop(array: NDArray[np.generic] | None) -> int:
    return 0 if array is None else array.ctypes.data + array.nbytes
