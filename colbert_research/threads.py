"""How many threads a computation may use: one number, which our kernels ask for and other libraries are told.

It is the number of CPUs that this process may run on, unless the environment variable `COLBERT_RESEARCH_THREADS` or a
`pinned_threads` block says otherwise. More threads than CPUs is an error: they would only wait for each other.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

VARIABLE = "COLBERT_RESEARCH_THREADS"
_pinned: int | None = None


def available() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count() -> int:
    """Threads that a computation may use now. Raises ValueError for a value of the variable that is no such number."""
    if _pinned is not None:
        return _pinned
    written = os.environ.get(VARIABLE, "")
    return _checked(written, VARIABLE) if written else available()


@contextmanager
def pinned_threads(n: int) -> Iterator[None]:
    """Let everything in the block use `n` threads: `count()`, and what is loaded of torch, faiss, numba, BLAS and OpenMP.

    The numbers from before are put back afterwards, also after an error. It holds for the whole process. A library that is
    first imported within the block keeps its own default, so use what you are going to measure once before. Raises ValueError
    for an `n` below 1 or above `available()`.
    """
    from threadpoolctl import threadpool_limits

    global _pinned
    n = _checked(n, "the number of threads")
    before = _pinned
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(limits=n))
        for get, put in _loaded():
            stack.callback(put, get())
            put(n)
        _pinned = n
        try:
            yield
        finally:
            _pinned = before


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread in the block: with several it cuts products otherwise, and the last bits are others.

    Our kernels, torch and faiss keep theirs.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield


def _loaded() -> list[tuple[Callable[[], int], Callable[[int], Any]]]:
    """How each library that is loaded tells and is told its number of threads; none is imported for it."""
    names = {
        "torch": ("get_num_threads", "set_num_threads"),
        "faiss": ("omp_get_max_threads", "omp_set_num_threads"),
        "numba": ("get_num_threads", "set_num_threads"),
    }
    found = []
    for library, (get, put) in names.items():
        module = sys.modules.get(library)
        if module is not None:
            found.append((getattr(module, get), getattr(module, put)))
    return found


def _checked(given: Any, what: str) -> int:
    try:
        n = int(given)
    except (TypeError, ValueError):
        n = 0
    if not 1 <= n <= available() or isinstance(given, float):
        raise ValueError(f"{what} must be a whole number from 1 to {available()}, the CPUs of this process; given {given!r}")
    return n
