"""How many query tokens a document covers: the bits that are set in any of its tokens' masks (EMVB, bit vectors)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.memory import load_i32, load_i64, load_u16, store_i64
from colbert_research.kernels.cpu.parallel import in_parallel
from colbert_research.kernels.operands import Places
from colbert_research.ragged import Ragged


@compiled
def _count(
    ids: Any, wide_ids: Any, masks: Any, words: Any, offsets: Any, only: Any, low: Any, high: Any, counts: Any
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


def coverage(masks: NDArray[np.uint64], tokens: Ragged, only: Places) -> NDArray[np.int64]:
    """See `kernels.coverage`."""
    masks, ids = np.ascontiguousarray(masks), np.ascontiguousarray(tokens.values)
    ids = ids if ids.dtype in (np.uint16, np.int32) else ids.astype(np.int32)
    counts = np.empty(len(tokens) if only is None else len(only), np.int64)

    def part(low: int, high: int) -> None:
        _count(
            ids.ctypes.data, ids.itemsize == 4, masks.ctypes.data, masks.shape[1], tokens.offsets.ctypes.data,
            0 if only is None else only.ctypes.data, low, high, counts.ctypes.data,
        )  # fmt: skip

    in_parallel(part, tokens.offsets, only)
    return counts
