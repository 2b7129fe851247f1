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
from colbert_research.kernels.cpu.parallel import in_parallel
from colbert_research.kernels.cpu.simd import LANES, WIDTH, max_floats, multiply_add, spread_float
from colbert_research.kernels.operands import Places
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
    rows: Any, stop: Any, half: Any, dim: Any, stride: Any, queries: Any, groups: Any, n_tokens: Any, offsets: Any, only: Any,
    low: Any, high: Any, scratch: Any, scores: Any,
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


@compiled
def _products(rows: Any, first: Any, last: Any, dim: Any, queries: Any, groups: Any, products: Any) -> None:
    step, width = dim * 4, groups * WIDTH
    for row in range(first, last, BLOCK):
        end = min(BLOCK, last - row) - 1
        block, out = rows + row * step, products + row * width
        x0, x1, x2, x3 = block, block + min(1, end) * step, block + min(2, end) * step, block + min(3, end) * step
        x4, x5 = block + min(4, end) * step, block + min(5, end) * step
        x6, x7 = block + min(6, end) * step, block + min(7, end) * step
        for group in range(groups):
            s0, s1, s2, s3, s4, s5, s6, s7 = dots(x0, x1, x2, x3, x4, x5, x6, x7, queries + group * dim * WIDTH, dim)
            at = out + group * WIDTH
            store_floats(at, s0)
            store_floats(at + min(1, end) * width, s1)
            store_floats(at + min(2, end) * width, s2)
            store_floats(at + min(3, end) * width, s3)
            store_floats(at + min(4, end) * width, s4)
            store_floats(at + min(5, end) * width, s5)
            store_floats(at + min(6, end) * width, s6)
            store_floats(at + min(7, end) * width, s7)


def columns_of(query: NDArray[np.float32]) -> NDArray[np.float32]:
    """A query `(n_tokens, dim)` with its tokens along the lanes: `(groups, dim, LANES)`, zeros beyond the last token."""
    n, dim = query.shape
    padded = np.zeros((-(-n // LANES) * LANES, dim), np.float32)
    padded[:n] = query
    return np.ascontiguousarray(padded.reshape(-1, LANES, dim).transpose(0, 2, 1))


_answered: dict[tuple[bytes, int], tuple[NDArray[np.float32], NDArray[np.float32]]] = {}


def products(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Dot products of `rows` `(n, dim)` with a query's tokens: `(n, groups * LANES)`, summed in the order of the dimensions.

    The last answer for read-only rows is kept, because a search asks for a query's products with the centroids twice: to
    choose cells and to score. It is read-only too.
    """
    if rows.flags.writeable:
        return _compute_products(query, rows)
    asked = query.tobytes(), id(rows)
    kept = _answered.get(asked)
    if kept is not None and kept[0] is rows:
        return kept[1]
    found = _compute_products(query, rows)
    found.flags.writeable = False
    _answered.clear()
    _answered[asked] = rows, found
    return found


def _compute_products(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = np.ascontiguousarray(rows, np.float32), columns_of(query)
    found = np.empty((len(rows), len(columns) * LANES), np.float32)

    def part(low: int, high: int) -> None:
        _products(rows.ctypes.data, low, high, rows.shape[1], columns.ctypes.data, len(columns), found.ctypes.data)

    in_parallel(part, np.arange(len(rows) + 1), None)
    return found


def maxsim(query: NDArray[np.float32], documents: Ragged, only: Places, scores: NDArray[np.float32]) -> None:
    """Fill `scores` `(n_documents or len(only),)` with the MaxSim of one query `(n_tokens, dim)` with at least one token.

    Documents: float32 or float16. Each dot product is summed over the dimensions in order, so a score depends neither on the
    other documents nor on the threads.
    """
    n, dim = query.shape
    columns = columns_of(query)
    groups, rows = len(columns), np.ascontiguousarray(documents.values)
    offsets, half, stride = documents.offsets, rows.dtype == np.float16, 4 * dim + 2 * WIDTH
    stop = rows.ctypes.data + rows.nbytes

    def part(low: int, high: int) -> None:
        scratch = np.empty(BLOCK * stride + (groups + 1) * WIDTH, np.uint8)
        _score(
            rows.ctypes.data, stop, half, dim, stride, columns.ctypes.data, groups, n, offsets.ctypes.data,
            0 if only is None else only.ctypes.data, low, high, scratch.ctypes.data, scores.ctypes.data,
        )  # fmt: skip

    in_parallel(part, offsets, only)
