"""Documents by their tokens' centroids alone: how many query tokens they cover (EMVB's bit vectors), and their best scores."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.memory import load_floats, load_i32, load_i64, load_u16, store_floats, store_i64
from colbert_research.kernels.cpu.products import lanes_of
from colbert_research.kernels.cpu.simd import LANES, WIDTH, max_floats, spread_float
from colbert_research.kernels.cpu.team import Job, address, arguments_of, in_team
from colbert_research.kernels.operands import Selection
from colbert_research.ragged import Ragged


@compiled
def _count(
    low: Any, high: Any, ids: Any, wide_ids: Any, masks: Any, words: Any, offsets: Any, only: Any, counts: Any
) -> None:  # fmt: skip
    for i in range(low, high):
        document = load_i64(only + 8 * i) if only else i
        first, last = load_i64(offsets + 8 * document), load_i64(offsets + 8 * document + 8)
        total = 0
        for word in range(words):
            covered = 0
            for token in range(first, last):
                centroid = load_i32(ids + 4 * token) if wide_ids else load_u16(ids + 2 * token)
                covered |= load_i64(masks + 8 * (centroid * words + word))
            while covered:
                covered &= covered - 1
                total += 1
        store_i64(counts + 8 * i, total)


@compiled
def _best(low: Any, high: Any, ids: Any, wide_ids: Any, table: Any, groups: Any, offsets: Any, only: Any, maxima: Any) -> None:
    for i in range(low, high):
        document = load_i64(only + 8 * i) if only else i
        first, last = load_i64(offsets + 8 * document), load_i64(offsets + 8 * document + 8)
        for group in range(groups):
            best = spread_float(np.float32(-np.inf))
            for token in range(first, last):
                centroid = load_i32(ids + 4 * token) if wide_ids else load_u16(ids + 2 * token)
                best = max_floats(best, load_floats(table + (centroid * groups + group) * WIDTH))
            store_floats(maxima + (i * groups + group) * WIDTH, best)


_arguments = arguments_of(7)


@Job
def _count_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    _count(low, high, *_arguments(arguments))


@Job
def _best_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    _best(low, high, *_arguments(arguments))


def coverage(masks: NDArray[np.uint64], tokens: Ragged, only: Selection) -> NDArray[np.int64]:
    """See `kernels.coverage`."""
    masks, ids = np.ascontiguousarray(masks), _ids(tokens)
    counts = np.empty(len(tokens) if only is None else len(only), np.int64)

    arguments = (
        ids.ctypes.data, ids.itemsize == 4, masks.ctypes.data, masks.shape[1], tokens.offsets.ctypes.data,
        address(only), counts.ctypes.data,
    )  # fmt: skip
    in_team(_count_job, tokens.offsets, only, arguments)
    return counts


def centroid_maxima(scores: NDArray[np.float32], tokens: Ragged, only: Selection) -> NDArray[np.float32]:
    """See `kernels.centroid_maxima`."""
    n = len(scores)
    groups, ids = -(-n // LANES), _ids(tokens)
    table = lanes_of(scores)
    maxima = np.empty((len(tokens) if only is None else len(only), groups * LANES), np.float32)

    arguments = (
        ids.ctypes.data, ids.itemsize == 4, table.ctypes.data, groups, tokens.offsets.ctypes.data,
        address(only), maxima.ctypes.data,
    )  # fmt: skip
    in_team(_best_job, tokens.offsets, only, arguments)
    return maxima[:, :n]


def _ids(tokens: Ragged) -> NDArray[np.generic]:
    ids = np.ascontiguousarray(tokens.values)
    return ids if ids.dtype in (np.uint16, np.int32) else ids.astype(np.int32)
