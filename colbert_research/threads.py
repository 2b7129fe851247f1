"""How many threads a computation may use: one number, which our kernels ask for and other libraries are told.

It is the number of CPUs that this process may use (its affinity, the quota of its control group as of a container, and
`OMP_NUM_THREADS` where that is less), unless the environment variable `COLBERT_RESEARCH_THREADS` or a `pinned_threads` block
says otherwise. More threads than CPUs is an error: they would only wait for each other. After a fork, torch and faiss stay at
one thread in the child.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

VARIABLE = "COLBERT_RESEARCH_THREADS"
CGROUPS, CGROUP = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_OF_OPENMP = {"torch": ("get_num_threads", "set_num_threads"), "faiss": ("omp_get_max_threads", "omp_set_num_threads")}
_pinned: int | None = None
_forked = False


def available() -> int:
    """CPUs that this process may use: those that it may run on, or fewer where its control group has a quota of time."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cpus, _quota())))


def count() -> int:
    """Threads that a computation may use now. Raises ValueError for a value of the variable that is no such number."""
    if _pinned is not None:
        return _pinned
    written = os.environ.get(VARIABLE, "")
    if written:
        return _checked(written, VARIABLE)
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # one number for each level of nesting
    return min(available(), int(first)) if first.isdecimal() and int(first) else available()


@cache
def _quota() -> float:
    """How much time, in CPUs, the control group of this process may use; infinity without a limit, or none to be read."""
    limits = []
    for texts in control_groups("cpu", ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with suppress(ValueError):  # no limit there ("max")
            quota, period = " ".join(texts).split()
            limits.append(float(quota) / float(period))
    return min((limit for limit in limits if limit > 0), default=math.inf)


def control_groups(controller: str, version_2: Sequence[str], version_1: Sequence[str]) -> Iterator[list[str]]:
    """What some files of this process's control group say, and those of the groups around it, which limit it too.

    Files are named as version 2 of control groups has them, and as version 1 has them for a controller.
    """
    try:
        groups = dict(line.split(":", 2)[1:] for line in CGROUPS.read_text().splitlines())
    except (OSError, ValueError):
        return
    of_version_1 = next((groups[name] for name in groups if controller in name.split(",")), None)
    for base, group, names in ((CGROUP, groups.get(""), version_2), (CGROUP / controller, of_version_1, version_1)):
        for folder in [] if group is None else [base, *(base / part for part in _prefixes(group))]:
            with suppress(OSError):  # as seen from inside a container
                yield [(folder / name).read_text() for name in names]


def _prefixes(group: str) -> list[str]:
    """A control group and those around it, which limit it too."""
    parts = [part for part in group.split("/") if part]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


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
    known = [(put, get()) for get, put in _loaded()]  # asked before OpenMP, which answers for torch, is limited
    with ExitStack() as stack:
        if not _forked:
            stack.enter_context(threadpool_limits(limits=n))
        for put, its_own in known:
            stack.callback(put, its_own)
            put(n)
        _pinned = n
        try:
            yield
        finally:
            _pinned = before


def use(n: int) -> None:
    """Let this process use `n` threads from now on. For one that was forked from a process that had computed nothing yet,
    so that there are no threads of OpenMP to wait for. Raises ValueError for an `n` below 1 or above `available()`."""
    global _forked
    n = _checked(n, "the number of threads")
    _forked, os.environ[VARIABLE] = False, str(n)
    for name, (_, put) in _OF_OPENMP.items():
        if name in sys.modules:
            getattr(sys.modules[name], put)(n)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread in the block: with several it cuts products otherwise, and the last bits are others.

    Our kernels, torch and faiss keep theirs. A forked child has one thread at most from the beginning.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas") if not _forked else nullcontext():
        yield


def _loaded() -> list[tuple[Callable[[], int], Callable[[int], Any]]]:
    """How each library that is loaded tells and is told its number of threads; none is imported for it."""
    names = {**_OF_OPENMP, "numba": ("get_num_threads", "set_num_threads")}
    loaded = {} if _forked else {name: sys.modules[name] for name in names if name in sys.modules}
    return [(getattr(module, names[name][0]), getattr(module, names[name][1])) for name, module in loaded.items()]


def _after_fork() -> None:
    """A child process has none of its parent's threads, and OpenMP, which does not know that, would wait for them forever."""
    global _forked
    _forked = True
    for name, (_, put) in _OF_OPENMP.items():
        if name in sys.modules:
            getattr(sys.modules[name], put)(1)
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1, user_api="blas")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _checked(given: Any, what: str) -> int:
    try:
        n = int(given)
    except (TypeError, ValueError):
        n = 0
    if not 1 <= n <= available() or isinstance(given, float):
        raise ValueError(f"{what} must be a whole number from 1 to {available()}, the CPUs of this process; given {given!r}")
    return n
