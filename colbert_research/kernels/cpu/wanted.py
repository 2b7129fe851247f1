"""Which tokens of some documents are to be scored: those whose centroid is wanted, row by row."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.memory import load_i32, load_i64, load_u8, load_u16, store_i64
from colbert_research.kernels.cpu.team import Job, address, arguments_of, in_team
from colbert_research.kernels.operands import Selection
from colbert_research.ragged import Ragged, offsets_of


@compiled
def _count(low: Any, high: Any, ids: Any, wide_ids: Any, wanted: Any, offsets: Any, only: Any, counts: Any) -> None:
    for i in range(low, high):
        document, count = load_i64(only + 8 * i) if only else i, 0
        for row in range(load_i64(offsets + 8 * document), load_i64(offsets + 8 * document + 8)):
            count += load_u8(wanted + (load_i32(ids + 4 * row) if wide_ids else load_u16(ids + 2 * row)))
        store_i64(counts + 8 * i, count)


@compiled
def _fill(
    low: Any, high: Any, ids: Any, wide_ids: Any, wanted: Any, offsets: Any, only: Any, starts: Any, rows: Any, positions: Any
) -> None:
    for i in range(low, high):
        document, at, stop = load_i64(only + 8 * i) if only else i, load_i64(starts + 8 * i), load_i64(starts + 8 * i + 8)
        for row in range(load_i64(offsets + 8 * document), load_i64(offsets + 8 * document + 8)):
            if at == stop:
                break
            # an unwanted row is written too, and the next one over it
            store_i64(rows + 8 * at, row)
            store_i64(positions + 8 * at, i)
            at += load_u8(wanted + (load_i32(ids + 4 * row) if wide_ids else load_u16(ids + 2 * row)))


_count_arguments, _fill_arguments = arguments_of(6), arguments_of(8)


@Job
def _count_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    _count(low, high, *_count_arguments(arguments))


@Job
def _fill_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    _fill(low, high, *_fill_arguments(arguments))


def wanted_tokens(wanted: NDArray[np.bool_], tokens: Ragged, only: Selection) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """See `kernels.wanted_tokens`."""
    wanted, ids = np.ascontiguousarray(wanted, np.bool_), np.ascontiguousarray(tokens.values)
    ids = ids if ids.dtype in (np.uint16, np.int32) else ids.astype(np.int32)
    counts = np.empty(len(tokens) if only is None else len(only), np.int64)
    given = ids.ctypes.data, ids.itemsize == 4, wanted.ctypes.data, tokens.offsets.ctypes.data
    in_team(_count_job, tokens.offsets, only, (*given, address(only), counts.ctypes.data))
    starts = offsets_of(counts)
    rows, positions = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.int64)
    arguments = (*given, address(only), starts.ctypes.data, rows.ctypes.data, positions.ctypes.data)
    in_team(_fill_job, tokens.offsets, only, arguments)
    return rows, positions
