"""Dot products of a query with many vectors, such as centroids, in float32; and the greatest of them.

The vectors lie along the lanes, so a short query costs what its length asks for. The products come out one row per vector with
the query's tokens along the lanes, as the kernels that look them up by centroid need them.
"""

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.floats import columns_of
from colbert_research.kernels.cpu.memory import (
    load_f32,
    load_floats,
    load_i64,
    store_f32,
    store_floats,
    store_i64,
    transpose_square,
)
from colbert_research.kernels.cpu.simd import LANES, WIDTH, lanes_greater, multiply_add, spread_float
from colbert_research.kernels.cpu.team import Job, arguments_of, in_team

TOKENS = 4  # of the query, multiplied at a time
MOST_INSERTED = 64  # greatest products that are kept in order while looking; more are sorted


@compiled
def _four_tokens(panel: Any, other: Any, tokens: Any, dim: Any, out: Any, out_other: Any) -> None:
    """Products of two panels of LANES vectors with four query tokens."""
    t1, t2, t3 = tokens + 4 * dim, tokens + 8 * dim, tokens + 12 * dim
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = spread_float(np.float32(0))
    for d in range(dim):
        a, b = load_floats(panel + d * WIDTH), load_floats(other + d * WIDTH)
        q0, q1 = spread_float(load_f32(tokens + 4 * d)), spread_float(load_f32(t1 + 4 * d))
        q2, q3 = spread_float(load_f32(t2 + 4 * d)), spread_float(load_f32(t3 + 4 * d))
        a0, a1, a2, a3 = multiply_add(a, q0, a0), multiply_add(a, q1, a1), multiply_add(a, q2, a2), multiply_add(a, q3, a3)
        b0, b1, b2, b3 = multiply_add(b, q0, b0), multiply_add(b, q1, b1), multiply_add(b, q2, b2), multiply_add(b, q3, b3)
    store_floats(out, a0)
    store_floats(out + WIDTH, a1)
    store_floats(out + 2 * WIDTH, a2)
    store_floats(out + 3 * WIDTH, a3)
    store_floats(out_other, b0)
    store_floats(out_other + WIDTH, b1)
    store_floats(out_other + 2 * WIDTH, b2)
    store_floats(out_other + 3 * WIDTH, b3)


@compiled
def _products(
    first: Any, last: Any, scratch: Any, panels: Any, dim: Any, tokens: Any, n_tokens: Any, groups: Any, found: Any
) -> None:
    square, width = LANES * WIDTH, groups * WIDTH
    zero = spread_float(np.float32(0))
    for row in range(2 * LANES):
        store_floats(scratch + row * WIDTH, zero)
    for panel in range(first, last, 2):
        other = min(panel + 1, last - 1)  # an odd one out is multiplied twice
        one_panel, other_panel = panels + panel * dim * WIDTH, panels + other * dim * WIDTH
        for group in range(groups):
            start = group * LANES
            stop = min(start + LANES, n_tokens)
            for token in range(start, stop, TOKENS):
                out = scratch + (token - start) * WIDTH
                _four_tokens(one_panel, other_panel, tokens + token * dim * 4, dim, out, out + square)
            for row in range((stop - start + TOKENS - 1) // TOKENS * TOKENS, LANES):  # left from a group before
                store_floats(scratch + row * WIDTH, zero)
                store_floats(scratch + square + row * WIDTH, zero)
            transpose_square(scratch, found + panel * LANES * width + group * WIDTH, width)
            transpose_square(scratch + square, found + other * LANES * width + group * WIDTH, width)


_products_arguments = arguments_of(6)


@Job
def _products_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    _products(low, high, scratch, *_products_arguments(arguments))


_panels: dict[int, tuple[Any, NDArray[np.float32]]] = {}
_answered: dict[tuple[bytes, int], tuple[Any, NDArray[np.float32]]] = {}


def _panels_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """`rows` along the lanes, kept as long as read-only rows live."""
    if rows.flags.writeable:
        return columns_of(rows)
    kept = _panels.get(id(rows))
    if kept is not None and kept[0]() is rows:
        return kept[1]
    panels = columns_of(rows)
    _panels[id(rows)] = weakref.ref(rows), panels
    weakref.finalize(rows, _panels.pop, id(rows), None)
    return panels


def products(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Dot products of `rows` `(n, dim)` with a query's tokens: `(n, groups * LANES)`, summed in the order of the dimensions.

    The last answer for read-only rows is kept, because a search asks for a query's products with the centroids twice: to
    choose cells and to score. It is read-only too.
    """
    if rows.flags.writeable:
        return _compute_products(query, rows)
    asked = query.tobytes(), id(rows)
    kept = _answered.get(asked)
    if kept is not None and kept[0]() is rows:
        return kept[1]
    found = _compute_products(query, rows)
    found.flags.writeable = False
    _answered.clear()
    _answered[asked] = weakref.ref(rows), found
    return found


def _compute_products(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    n, dim = query.shape
    panels, groups = _panels_of(np.asarray(rows, np.float32)), -(-n // LANES)
    tokens = np.zeros((-(-n // TOKENS) * TOKENS, dim), np.float32)
    tokens[:n] = query
    found = np.empty((len(panels) * LANES, groups * LANES), np.float32)

    arguments = (panels.ctypes.data, dim, tokens.ctypes.data, n, groups, found.ctypes.data)
    in_team(_products_job, LANES * np.arange(len(panels) + 1), None, arguments, scratch=2 * LANES * WIDTH)
    return found[: len(rows)]


@compiled
def _greatest(table: Any, n_rows: Any, row_bytes: Any, first: Any, n_tokens: Any, n: Any, scores: Any, positions: Any) -> None:
    """The `n` greatest of each of up to LANES columns; `scores` and `positions` `(LANES, n)` hold them in descending order."""
    least = scores + LANES * n * 4
    store_floats(least, spread_float(np.float32(np.inf)))  # nothing is greater in a lane without a token
    for lane in range(n_tokens):
        store_f32(least + 4 * lane, np.float32(-np.inf))
    for row in range(n_rows):
        at = table + row * row_bytes + first * 4
        greater = lanes_greater(load_floats(at), load_floats(least))
        if not greater:
            continue
        for lane in range(n_tokens):
            if not (greater >> lane) & 1:
                continue
            score, own_scores, own_positions, place = (
                load_f32(at + 4 * lane),
                scores + lane * n * 4,
                positions + lane * n * 8,
                n - 1,
            )
            while place > 0 and load_f32(own_scores + 4 * place - 4) < score:
                store_f32(own_scores + 4 * place, load_f32(own_scores + 4 * place - 4))
                store_i64(own_positions + 8 * place, load_i64(own_positions + 8 * place - 8))
                place -= 1
            store_f32(own_scores + 4 * place, score)
            store_i64(own_positions + 8 * place, row)
            store_f32(least + 4 * lane, load_f32(own_scores + 4 * n - 4))


def greatest(scores: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """See `kernels.greatest`."""
    n_tokens, n_rows = scores.shape
    if n > MOST_INSERTED:
        return np.stack([_partitioned(-row, n) for row in scores]) if n_tokens else np.empty((0, n), np.int64)
    table = lanes_of(scores)
    found = np.empty((len(table[0]), n), np.int64)
    for first in range(0, n_tokens, LANES):
        held = np.full(LANES * (n + 1), -np.inf, np.float32)
        positions, count = found[first : first + LANES], min(LANES, n_tokens - first)
        _greatest(
            table.ctypes.data, n_rows, table.strides[0], first, count, n, held.ctypes.data, positions.ctypes.data
        )  # fmt: skip
        least = held[n - 1 : count * n : n]
        for short in first + np.flatnonzero(least == -np.inf):  # fewer than n lie above minus infinity
            found[short] = np.argsort(-scores[short], kind="stable")[:n]
    return found[:n_tokens]


def _partitioned(negated: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """Positions of the `n` smallest, the smallest first; ties by position, what is no number last."""
    last = np.partition(negated, n - 1)[n - 1]
    if np.isnan(last):
        return np.argsort(negated, kind="stable")[:n]
    among = np.flatnonzero(negated <= last)
    return among[np.argsort(negated[among], kind="stable")[:n]]


def lanes_of(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores `(n_tokens, n)` as rows `(n, groups * LANES)`: without a copy where `products` made them."""
    n_tokens, n = scores.shape
    lanes = -(-n_tokens // LANES) * LANES
    made = scores.base
    if isinstance(made, np.ndarray) and scores.T.strides == made.strides and made.ctypes.data == scores.ctypes.data:
        padded = made if made.shape[1] == lanes and made.dtype == np.float32 and len(made) >= n else None
        if padded is not None:
            return padded[:n]
    rows = np.zeros((n, lanes), np.float32)
    rows[:, :n_tokens] = scores.T
    return rows
