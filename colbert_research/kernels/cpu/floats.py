"""MaxSim over token vectors in float32: query tokens along the lanes, eight document tokens at a time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.memory import (
    load_f32,
    load_floats,
    load_halves,
    load_i64,
    load_u8,
    store_f32,
    store_floats,
    store_u8,
)
from colbert_research.kernels.cpu.simd import LANES, WIDTH, max_floats, multiply_add, spread_float
from colbert_research.kernels.cpu.team import Job, address, arguments_of, in_team
from colbert_research.kernels.operands import Selection
from colbert_research.ragged import Ragged

BLOCK = 8


@compiled
def _widen(row: Any, dim: Any, stop: Any, spare: Any, out: Any) -> None:
    """A row of float16 as float32; the array ends before the address `stop`."""
    for at in range(0, dim, LANES):
        source = row + 2 * at
        if source + 2 * LANES > stop:  # not to be read as a whole vector
            for i in range(2 * (dim - at)):
                store_u8(spare + i, load_u8(source + i))
            source = spare
        store_floats(out + 4 * at, load_halves(source))


@compiled
def dots(x0: Any, x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any, x7: Any, query: Any, dim: Any) -> Any:
    """Dot products of eight rows with LANES query tokens."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = spread_float(np.float32(0))
    for d in range(dim):
        q = load_floats(query + d * WIDTH)
        s0 = multiply_add(spread_float(load_f32(x0 + 4 * d)), q, s0)
        s1 = multiply_add(spread_float(load_f32(x1 + 4 * d)), q, s1)
        s2 = multiply_add(spread_float(load_f32(x2 + 4 * d)), q, s2)
        s3 = multiply_add(spread_float(load_f32(x3 + 4 * d)), q, s3)
        s4 = multiply_add(spread_float(load_f32(x4 + 4 * d)), q, s4)
        s5 = multiply_add(spread_float(load_f32(x5 + 4 * d)), q, s5)
        s6 = multiply_add(spread_float(load_f32(x6 + 4 * d)), q, s6)
        s7 = multiply_add(spread_float(load_f32(x7 + 4 * d)), q, s7)
    return s0, s1, s2, s3, s4, s5, s6, s7


@compiled
def _score(
    low: Any, high: Any, scratch: Any, rows: Any, stop: Any, half: Any, dim: Any, stride: Any, queries: Any, groups: Any,
    n_tokens: Any, offsets: Any, only: Any, scores: Any,
) -> None:  # fmt: skip
    spare = scratch + BLOCK * stride
    maxima = spare + WIDTH
    lowest = spread_float(np.float32(-np.inf))
    for i in range(low, high):
        document = load_i64(only + 8 * i) if only else i
        first, last = load_i64(offsets + 8 * document), load_i64(offsets + 8 * document + 8)
        for group in range(groups):
            store_floats(maxima + group * WIDTH, lowest)
        for token in range(first, last, BLOCK):
            end = min(BLOCK, last - token) - 1
            block, step = rows + token * dim * 4, dim * 4
            if half:
                block, step = scratch, stride
                for j in range(end + 1):
                    _widen(rows + (token + j) * dim * 2, dim, stop, spare, scratch + j * stride)
            # beyond the last token its own row is taken again, which changes no maximum
            x0, x1, x2, x3 = block, block + min(1, end) * step, block + min(2, end) * step, block + min(3, end) * step
            x4, x5 = block + min(4, end) * step, block + min(5, end) * step
            x6, x7 = block + min(6, end) * step, block + min(7, end) * step
            for group in range(groups):
                s0, s1, s2, s3, s4, s5, s6, s7 = dots(x0, x1, x2, x3, x4, x5, x6, x7, queries + group * dim * WIDTH, dim)
                best = max_floats(max_floats(max_floats(s0, s1), max_floats(s2, s3)), load_floats(maxima + group * WIDTH))
                best = max_floats(max_floats(max_floats(s4, s5), max_floats(s6, s7)), best)
                store_floats(maxima + group * WIDTH, best)
        total = np.float32(0)
        for q in range(n_tokens):
            total += load_f32(maxima + 4 * q)
        store_f32(scores + 4 * i, total)


_score_arguments = arguments_of(11)


@Job
def _score_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    _score(low, high, scratch, *_score_arguments(arguments))


def columns_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors `(n, dim)`, of a query or centroids, along the lanes: `(groups, dim, LANES)`, zeros beyond the last vector."""
    n, dim = vectors.shape
    padded = np.zeros((-(-n // LANES) * LANES, dim), np.float32)
    padded[:n] = vectors
    return np.ascontiguousarray(padded.reshape(-1, LANES, dim).transpose(0, 2, 1))


def maxsim(query: NDArray[np.float32], documents: Ragged, only: Selection, scores: NDArray[np.float32]) -> None:
    """Fill `scores` `(n_documents or len(only),)` with the MaxSim of one query `(n_tokens, dim)` with at least one token.

    Documents: float32 or float16. Each dot product is summed over the dimensions in order, so a score depends neither on the
    other documents nor on the threads.
    """
    n, dim = query.shape
    columns = columns_of(query)
    groups, rows = len(columns), np.ascontiguousarray(documents.values)
    offsets, half, stride = documents.offsets, rows.dtype == np.float16, 4 * dim + 2 * WIDTH
    arguments = (
        rows.ctypes.data, rows.ctypes.data + rows.nbytes, half, dim, stride, columns.ctypes.data, groups, n,
        offsets.ctypes.data, address(only), scores.ctypes.data,
    )  # fmt: skip
    in_team(_score_job, offsets, only, arguments, scratch=BLOCK * stride + (groups + 1) * WIDTH)
