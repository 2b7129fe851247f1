"""Centroid interaction in bytes, and the union of inverted lists.

The scores of a query with all centroids become one byte each, `1 + round(254 * (score - low) / (high - low))` with the query's
least and greatest score, so that a maximum over document tokens is one byte maximum for sixteen query tokens. A byte of 0
is a centroid that was left out. The error of a score is at most half a unit a query token, `(high - low) / 508`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.memory import (
    load_16_bytes,
    load_f32,
    load_floats,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    store_16_bytes,
    store_f32,
    store_floats,
    store_i64,
    store_low_bytes,
    store_u8,
)
from colbert_research.kernels.cpu.products import lanes_of
from colbert_research.kernels.cpu.simd import (
    LANES,
    WIDTH,
    add,
    add_one,
    max_16_bytes,
    max_floats,
    multiply,
    negative,
    spread_float,
    truncated,
)
from colbert_research.kernels.cpu.team import Job, address, arguments_of, in_team
from colbert_research.kernels.operands import Selection
from colbert_research.ragged import Ragged

PIECE = 16


@compiled
def _range(table: Any, n_centroids: Any, row_bytes: Any, n_tokens: Any, found: Any) -> None:
    """The least and the greatest score of the first `n_tokens` columns, as two float32."""
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for first in range(0, n_tokens, LANES):
        greatest = spread_float(np.float32(-np.inf))
        least = greatest  # of the negated scores
        for centroid in range(n_centroids):
            scores = load_floats(table + centroid * row_bytes + 4 * first)
            greatest, least = max_floats(greatest, scores), max_floats(least, negative(scores))
        store_floats(found, greatest)
        store_floats(found + WIDTH, least)
        for lane in range(min(LANES, n_tokens - first)):
            high, low = max(high, load_f32(found + 4 * lane)), min(low, -load_f32(found + WIDTH + 4 * lane))
    store_f32(found, low)
    store_f32(found + 4, high)


@compiled
def _to_bytes(
    scores: Any, score_bytes: Any, n_tokens: Any, n_centroids: Any, kept: Any, low: Any, scale: Any, row_bytes: Any, table: Any
) -> None:
    """Rows of bytes; what stands in a row beyond `n_tokens` is never looked at."""
    lowest, unit, half = spread_float(low), spread_float(scale), spread_float(np.float32(0.5))
    for centroid in range(n_centroids):
        source, row = scores + centroid * score_bytes, table + centroid * row_bytes
        if kept and not load_u8(kept + centroid):
            for at in range(0, row_bytes, 8):
                store_i64(row + at, 0)
            continue
        for q in range(0, n_tokens, LANES):
            steps = add(multiply(add(load_floats(source + 4 * q), negative(lowest)), unit), half)
            store_low_bytes(row + q, add_one(truncated(steps)))


@compiled
def _sum_maxima(
    low: Any, high: Any, spare: Any, ids: Any, wide_ids: Any, table: Any, row_bytes: Any, n_tokens: Any, offsets: Any,
    only: Any, sums: Any,
) -> None:  # fmt: skip
    store_i64(spare, 0)
    store_i64(spare + 8, 0)
    for i in range(low, high):
        document = load_i64(only + 8 * i) if only else i
        first, last = load_i64(offsets + 8 * document), load_i64(offsets + 8 * document + 8)
        total, empty = 0, True
        for piece in range(0, row_bytes, 16):
            best = other = load_16_bytes(spare)
            for token in range(first, last - 1, 2):
                if wide_ids:
                    one, two = load_i32(ids + 4 * token), load_i32(ids + 4 * token + 4)
                else:
                    one, two = load_u16(ids + 2 * token), load_u16(ids + 2 * token + 2)
                best = max_16_bytes(best, load_16_bytes(table + one * row_bytes + piece))
                other = max_16_bytes(other, load_16_bytes(table + two * row_bytes + piece))
            if (last - first) % 2:
                one = load_i32(ids + 4 * (last - 1)) if wide_ids else load_u16(ids + 2 * (last - 1))
                best = max_16_bytes(best, load_16_bytes(table + one * row_bytes + piece))
            store_16_bytes(spare + 16, max_16_bytes(best, other))
            for q in range(min(16, n_tokens - piece)):
                byte = load_u8(spare + 16 + q)
                total += byte
                if byte:
                    empty = False
        store_i64(sums + 8 * i, -1 if empty and n_tokens else total)


_sum_arguments = arguments_of(8)


@Job
def _sum_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    _sum_maxima(low, high, scratch, *_sum_arguments(arguments))


def centroid_interaction(
    scores: NDArray[np.float32], tokens: Ragged, kept: NDArray[np.bool_] | None, only: Selection
) -> NDArray[np.float32]:
    """See `kernels.centroid_interaction`."""
    n_tokens, n_centroids = scores.shape
    n_documents = len(tokens) if only is None else len(only)
    if not n_tokens:
        return np.zeros(n_documents, np.float32)
    lanes, ends = lanes_of(scores), np.empty(2 * LANES, np.float32)
    _range(lanes.ctypes.data, n_centroids, lanes.strides[0], n_tokens, ends.ctypes.data)
    low, high = float(ends[0]), float(ends[1])
    unit = (high - low) / 254 if high > low else 1.0
    row_bytes = -(-n_tokens // PIECE) * PIECE
    table = np.empty((n_centroids, row_bytes), np.uint8)
    kept = None if kept is None else np.ascontiguousarray(kept, np.bool_)
    _to_bytes(
        lanes.ctypes.data, lanes.strides[0], n_tokens, n_centroids, address(kept), np.float32(low),
        np.float32(1 / unit), row_bytes, table.ctypes.data,
    )  # fmt: skip
    ids = np.ascontiguousarray(tokens.values)
    ids = ids if ids.dtype in (np.uint16, np.int32) else ids.astype(np.int32)
    offsets, sums = tokens.offsets, np.empty(n_documents, np.int64)

    arguments = (
        ids.ctypes.data, ids.itemsize == 4, table.ctypes.data, row_bytes, n_tokens, offsets.ctypes.data,
        address(only), sums.ctypes.data,
    )  # fmt: skip
    in_team(_sum_job, offsets, only, arguments, scratch=2 * PIECE)
    totals = (sums - n_tokens) * unit + n_tokens * low
    return np.where(sums < 0, -np.inf, totals).astype(np.float32)


@compiled
def _mark(lists: Any, starts: Any, chosen: Any, n_chosen: Any, marks: Any) -> None:
    for i in range(n_chosen):
        which = load_i64(chosen + 8 * i)
        for at in range(load_i64(starts + 8 * which), load_i64(starts + 8 * which + 8)):
            store_u8(marks + load_i32(lists + 4 * at), 1)


def union(lists: Ragged, chosen: NDArray[np.int64], n_documents: int) -> NDArray[np.int64]:
    """See `kernels.union`."""
    documents = np.ascontiguousarray(lists.values, np.int32)
    marks = np.zeros(n_documents, np.uint8)
    chosen = np.ascontiguousarray(chosen, np.int64)
    _mark(documents.ctypes.data, lists.offsets.ctypes.data, chosen.ctypes.data, len(chosen), marks.ctypes.data)
    return np.flatnonzero(marks)
