"""Threads for the long computations of building an index, whose parts are Python functions; a search has its `team`."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from colbert_research import threads
from colbert_research.kernels.cpu.team import parts


def in_parallel(work: Callable[[int, int], None], weights: NDArray[np.int64]) -> None:
    """Call `work(low, high)` for consecutive ranges of items that make up all of them, of about equal weight.

    `weights` `(n_items + 1,)`: ascending sums of the items' weights, as offsets are. `work` releases the interpreter's lock and
    writes to memory of its own, so the result does not depend on the threads.
    """
    n_threads = threads.count()
    bounds = parts(weights, None, n_threads).tolist()
    ranges = iter(list(pairwise(bounds)))

    def take() -> None:
        for low, high in ranges:
            work(low, high)

    waiting = [_pool(n_threads).submit(take) for _ in range(min(n_threads, len(bounds) - 1) - 1)]
    take()
    for future in waiting:
        future.result()


@lru_cache(maxsize=1)
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="colbert_research")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child process has none of its parent's threads
