"""Threads over documents: parts of about equally many tokens, taken by as many threads as `threads.count()` says."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from colbert_research import threads
from colbert_research.kernels.operands import Places

SMALLEST_PART = 4096  # tokens; less is not worth the waking of a thread
PARTS_PER_THREAD = 4


def in_parallel(work: Callable[[int, int], None], offsets: NDArray[np.int64], only: Places) -> None:
    """Call `work(low, high)` for consecutive ranges of documents (of `only`) that make up all of them.

    `work` releases the interpreter's lock and writes to places of its own, so the result does not depend on the threads.
    """
    bounds = _bounds(offsets, only, threads.count())
    parts = iter(list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)))

    def take() -> None:
        for low, high in parts:
            work(low, high)

    helpers = min(threads.count(), len(bounds) - 1) - 1
    if helpers < 1:
        take()
        return
    waiting = [_pool(threads.count()).submit(take) for _ in range(helpers)]
    take()
    for future in waiting:
        future.result()


def _bounds(offsets: NDArray[np.int64], only: Places, n_threads: int) -> NDArray[np.int64]:
    ends = offsets[1:] - offsets[0] if only is None else np.cumsum(offsets[only + 1] - offsets[only])
    n = len(ends)
    parts = min(PARTS_PER_THREAD * n_threads, int(ends[-1]) // SMALLEST_PART, n) if n_threads > 1 and n else 1
    if parts < 2:
        return np.array([0, n])
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, parts) / parts)
    return np.unique(np.concatenate([[0], cuts, [n]]))


@lru_cache(maxsize=1)
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="colbert_research")
