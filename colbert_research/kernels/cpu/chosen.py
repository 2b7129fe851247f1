"""Maxima over chosen tokens: integer MaxSim in which each token counts only for the query tokens that want its centroid."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.decode import decode
from colbert_research.kernels.cpu.memory import (
    load_floats,
    load_half,
    load_i32,
    load_i64,
    load_ints,
    load_u8,
    load_u16,
    store_floats,
    store_i64,
)
from colbert_research.kernels.cpu.prepare import decoder_of, integer_query
from colbert_research.kernels.cpu.simd import LANES, WIDTH, add, floats_of, max_floats, multiply, spread_float
from colbert_research.kernels.cpu.team import Job, address, arguments_of, in_team
from colbert_research.kernels.cpu.tiles import BLOCK, TILES, begin, block_dots, end
from colbert_research.kernels.operands import CodedTokens
from colbert_research.ragged import offsets_of


@compiled
def _maxima(
    low: Any, high: Any, scratch: Any, codes: Any, stop: Any, kind: Any, width: Any, bits: Any, sub: Any, levels: Any,
    plane: Any, stride: Any, steps: Any, ids: Any, wide_ids: Any, norms: Any, weights: Any, factors: Any, table: Any,
    wanted: Any, groups: Any, rows: Any, positions: Any, n_rows: Any, maxima: Any, tiles: Any,
) -> None:  # fmt: skip
    """Fill the maxima of the positions `low` to `high`, with a block of decoded tokens at a time, whatever their documents."""
    spare = scratch + BLOCK * stride
    sums = spare + width + 2 * WIDTH
    sums += -sums % 64
    held = sums + BLOCK * WIDTH  # of each token of the block: row, place, centroid
    count, row_bytes = 0, groups * WIDTH
    begin(tiles)
    for i in range(n_rows + 1):
        if i < n_rows:
            place = load_i64(positions + 8 * i)
            if low <= place < high:
                row = load_i64(rows + 8 * i)
                code, out = codes + row * width, scratch + count * stride
                decode(code, 1, kind, width, bits, sub, levels, plane, stride, stop, spare, out)
                store_i64(held + 24 * count, row)
                store_i64(held + 24 * count + 8, place)
                store_i64(held + 24 * count + 16, load_i32(ids + 4 * row) if wide_ids else load_u16(ids + 2 * row))
                count += 1
        if count == BLOCK or i == n_rows:
            for group in range(groups):
                needed = 0
                for j in range(count):
                    needed |= load_u8(wanted + load_i64(held + 24 * j + 16) * groups + group)
                if not needed:
                    continue
                block_dots(scratch, stride, count, weights + group * steps * WIDTH, steps, sums)
                factor = load_floats(factors + group * WIDTH)
                for j in range(count):
                    centroid = load_i64(held + 24 * j + 16)
                    product = multiply(factor, floats_of(load_ints(sums + j * WIDTH)))
                    score = add(load_floats(table + centroid * row_bytes + group * WIDTH), product)
                    if norms:
                        score = multiply(score, spread_float(load_half(norms + 2 * load_i64(held + 24 * j))))
                    best = maxima + load_i64(held + 24 * j + 8) * row_bytes + group * WIDTH
                    # 0 * infinity, of an unwanted token without a norm, is not a number and changes nothing
                    store_floats(best, max_floats(load_floats(best), score))
            count = 0
    end()


_maxima_arguments = arguments_of(23)


@Job
def _maxima_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    _maxima(low, high, scratch, *_maxima_arguments(arguments))


def token_maxima(
    query: NDArray[np.float32],
    tokens: CodedTokens,
    rows: NDArray[np.int64],
    positions: NDArray[np.int64],
    n_documents: int,
    wanted: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """See `kernels.token_maxima`; the formula and its bound are those of `prepare`, so scores are those of `maxsim_codes`."""
    n = len(query)
    if not np.isfinite(query).all():
        return np.full((n_documents, n), np.nan, np.float32)
    decoder = decoder_of(tokens.table)
    made = integer_query(query, decoder, tokens.table.centroids)
    lanes = made.groups * LANES
    allowed = np.zeros((len(wanted), lanes), np.bool_)
    allowed[:, :n] = wanted
    table = np.where(allowed, made.table + made.base, np.float32(-np.inf))
    of_group = np.ascontiguousarray(allowed.reshape(-1, made.groups, LANES).any(axis=2))
    codes, ids = np.ascontiguousarray(tokens.codes, np.uint8), np.ascontiguousarray(tokens.centroid_ids)
    ids = ids if ids.dtype in (np.uint16, np.int32) else ids.astype(np.int32)
    norms = None if tokens.inverse_norms is None else np.ascontiguousarray(tokens.inverse_norms, np.float16)
    maxima = np.full((n_documents, lanes), -np.inf, np.float32)
    arguments = (
        codes.ctypes.data, codes.ctypes.data + codes.nbytes, *decoder.arguments, ids.ctypes.data, ids.itemsize == 4,
        address(norms), made.weights.ctypes.data, made.factors.ctypes.data, table.ctypes.data,
        of_group.ctypes.data, made.groups, rows.ctypes.data, positions.ctypes.data, len(rows), maxima.ctypes.data,
        TILES.ctypes.data,
    )  # fmt: skip
    scratch = BLOCK * decoder.stride + decoder.width + 2 * WIDTH + 64 + BLOCK * (WIDTH + 24)
    weights = offsets_of(np.bincount(positions, minlength=n_documents))
    in_team(_maxima_job, weights, None, arguments, scratch=scratch, parts_each=1)  # each part looks at all rows
    return maxima[:, :n]
