"""A team of threads for a search and for building an index: parts of a job, taken by whoever is free.

A query passes through several kernels of a tenth of a millisecond each, so waking a thread through the operating system, or
handing it Python's lock, costs as much as its work. The helpers of this team therefore run compiled code alone: for a moment
after each job they look for the next one at an address in memory, and only then fall asleep. The thread that brings a job works
too, and waits for nobody who has not begun. A second caller at the same time does all parts of its job itself.

A job is a compiled function of four integers `(low, high, scratch, arguments)`: a range of items, the address of scratch memory
of its own, and that of its arguments, an array of int64. It writes to memory of its own, so results do not depend on threads.
"""

import os
import platform
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numpy.typing import NDArray

from colbert_research import threads
from colbert_research.kernels.cpu.compile import compiled, kept_on_disk
from colbert_research.kernels.cpu.memory import load_i64, store_i64
from colbert_research.kernels.cpu.simd import call_intrinsic, emit, pointer_to
from colbert_research.kernels.operands import Selection

SMALLEST_PART = 2048  # items; less is not divided
PARTS_PER_THREAD = 4
MOST_THREADS = 1024
PATIENCE = 40_000  # looks for the next job before a helper falls asleep, half a millisecond: longer than what lies between jobs

FORGOTTEN = 10.0  # seconds after which a helper looks by itself, should an interrupt have come between noting and waking it
YIELD_AFTER = 4096  # pauses after which a leader lets others have its core, on which a helper may wait for its turn

_LINE = 8  # int64 of a cache line: what different threads write lies apart
_OPEN, _NEXT, _ACTIVE = 0, _LINE, 2 * _LINE
_FUNCTION, _ARGUMENTS, _PARTS, _HELPERS, _BOUNDS = (3 * _LINE + i for i in range(5))
_I32, _I64 = ir.IntType(32), ir.IntType(64)


@emit(types.int64, types.intp, types.int64)
def _add(builder: Any, address: Any, value: Any) -> Any:
    """Add to an int64 that threads share; what it was before."""
    return builder.atomic_rmw("add", pointer_to(builder, address, _I64), value, "seq_cst")


@emit(types.int64, types.intp)
def _look(builder: Any, address: Any) -> Any:
    return builder.load_atomic(pointer_to(builder, address, _I64), "seq_cst", 8)


@emit(types.void, types.intp, types.int64)
def _put(builder: Any, address: Any, value: Any) -> Any:
    builder.store_atomic(value, pointer_to(builder, address, _I64), "seq_cst", 8)


@emit(types.void)
def _pause(builder: Any) -> Any:
    """Tell the processor that this is a loop that waits, where it has an instruction for that."""
    if platform.machine() in ("x86_64", "AMD64"):
        call_intrinsic(builder, "llvm.x86.sse2.pause", ir.VoidType())


@emit(types.void)
def _yield(builder: Any) -> Any:
    """Let another thread have this core, where the system has a call for that."""
    if os.name == "posix":
        kind = ir.FunctionType(_I32, [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])


@emit(types.void, types.intp, types.intp, types.intp, types.intp, types.intp)
def _call(builder: Any, function: Any, low: Any, high: Any, scratch: Any, arguments: Any) -> Any:
    kind = ir.FunctionType(ir.VoidType(), [_I64] * 4)
    builder.call(builder.inttoptr(function, kind.as_pointer()), [low, high, scratch, arguments])


@compiled
def _work(job: Any, scratch: Any) -> None:
    """Take parts until none is left."""
    bounds, n_parts = job + 8 * _BOUNDS, load_i64(job + 8 * _PARTS)
    function, arguments = load_i64(job + 8 * _FUNCTION), load_i64(job + 8 * _ARGUMENTS)
    while True:
        part = _add(job + 8 * _NEXT, 1)
        if part >= n_parts:
            return
        _call(function, load_i64(bounds + 8 * part), load_i64(bounds + 8 * part + 8), scratch, arguments)


@compiled
def _cut(offsets: Any, only: Any, n: Any, wanted: Any, smallest: Any, bounds: Any) -> Any:
    """Cut `n` documents into at most `wanted` parts of at least about `smallest` tokens, ascending bounds; returns how many."""
    total = 0 if only else load_i64(offsets + 8 * n) - load_i64(offsets)
    for i in range(n if only else 0):
        document = load_i64(only + 8 * i)
        total += load_i64(offsets + 8 * document + 8) - load_i64(offsets + 8 * document)
    wanted = max(1, min(wanted, total // smallest))
    store_i64(bounds, 0)
    made, seen = 0, 0
    for i in range(n if wanted > 1 else 0):
        document = load_i64(only + 8 * i) if only else i
        seen += load_i64(offsets + 8 * document + 8) - load_i64(offsets + 8 * document)
        if seen * wanted >= total * (made + 1) and i < n - 1 and made < wanted - 1:
            made += 1
            store_i64(bounds + 8 * made, i + 1)
    store_i64(bounds + 8 * made + 8, n)
    return made + 1


@compiled
def _fill(
    job: Any, function: Any, arguments: Any, offsets: Any, only: Any, n: Any, n_threads: Any, parts_each: Any
) -> Any:  # fmt: skip
    """Describe a job; returns the number of its parts."""
    wanted = min(n, parts_each * n_threads) if n_threads > 1 else 1
    n_parts = _cut(offsets, only, n, wanted, SMALLEST_PART, job + 8 * _BOUNDS)
    store_i64(job + 8 * _FUNCTION, function)
    store_i64(job + 8 * _ARGUMENTS, arguments)
    store_i64(job + 8 * _PARTS, n_parts)
    store_i64(job + 8 * _HELPERS, min(n_threads, n_parts) - 1)
    store_i64(job + 8 * _NEXT, 0)
    return n_parts


@compiled
def _lead(job: Any, scratch: Any, number: Any) -> None:
    """Open a job, work, close it, and wait for those who are still at it."""
    _put(job + 8 * _OPEN, number)
    _work(job, scratch)
    _put(job + 8 * _OPEN, 0)
    looks = 0
    while _look(job + 8 * _ACTIVE):
        _pause()
        looks += 1
        if looks % YIELD_AFTER == 0:
            _yield()


@compiled
def _help(job: Any, helper: Any, scratches: Any, done: Any, patience: Any) -> Any:
    """Help with every job that opens, until none did for a while. Returns the last one's number.

    A helper first counts itself as active, then looks whether the job is still open; the leader first closes it, then looks
    whether anyone is active. So a job is never replaced under a helper.
    """
    looks = 0
    while looks < patience:
        number = _look(job + 8 * _OPEN)
        if number == 0 or number == done:
            _pause()
            looks += 1
            continue
        _add(job + 8 * _ACTIVE, 1)
        if _look(job + 8 * _OPEN) == number and helper < load_i64(job + 8 * _HELPERS):
            _work(job, load_i64(scratches + 8 * helper + 8))
        _add(job + 8 * _ACTIVE, -1)
        done, looks = number, 0
    return done


class Job:
    """A compiled function `(low, high, scratch, arguments)` and its address, which is made at first use."""

    def __init__(self, function: Callable[[Any, Any, Any, Any], None]) -> None:
        self._function = function

    @cached_property
    def _compiled(self) -> Any:
        signature = types.void(types.int64, types.int64, types.int64, types.int64)
        with kept_on_disk() as kept:
            return numba.cfunc(signature, nopython=True, cache=kept)(self._function)

    @cached_property
    def address(self) -> int:
        return int(self._compiled.address)


def arguments_of(n: int) -> Any:
    """An intrinsic that reads `n` arguments of a job as a tuple."""

    @emit(types.UniTuple(types.int64, n), types.intp)
    def arguments(builder: Any, address: Any) -> Any:
        pointer, found = pointer_to(builder, address, _I64), ir.Constant(ir.ArrayType(_I64, n), ir.Undefined)
        for place in range(n):
            value = builder.load(builder.gep(pointer, [ir.Constant(_I64, place)]))
            found = builder.insert_value(found, value, place)
        return found

    return arguments


class Team:
    """Helpers of the thread that brings a job. They are started when first needed and die with the process.

    An interrupt (Ctrl-C) may come between any two steps of the thread that brings a job: who has the team, and which helpers
    sleep, is therefore kept in dictionaries, which change in one step and say afterwards what was done.
    """

    def __init__(self) -> None:
        self._memory = _state(MOST_THREADS)
        self._job = _aligned(self._memory)
        self._number = 0
        self._owner: dict[str, int] = {}
        self._helpers: list[threading.Thread] = []
        self._asleep: dict[int, threading.Lock] = {}
        self._scratch: list[tuple[NDArray[np.uint8], int]] = []
        self._addresses = np.zeros(MOST_THREADS, np.int64)

    def run(
        self,
        job: Job,
        offsets: NDArray[np.int64],
        only: Selection,
        arguments: Sequence[int],
        *,
        scratch: int,
        n_threads: int,
        parts_each: int,
    ) -> None:
        """Call the job for ranges of documents that make up all of them; see `in_team`."""
        given, n_threads = np.array(arguments, np.int64), min(n_threads, MOST_THREADS)
        what = job.address, given.ctypes.data, offsets.ctypes.data, address(only)
        n = len(offsets) - 1 if only is None else len(only)
        me = threading.get_ident()
        if n_threads > 1 and self._owner.setdefault("me", me) == me:  # also after an interrupt that left it mine
            try:
                self._provide(n_threads, scratch)
                n_parts = _fill(self._job, *what, n, n_threads, parts_each)
                if n_parts == 1:
                    _work(self._job, self._addresses[0])
                    return
                self._number += 1
                for helper in range(min(n_threads, n_parts) - 1):
                    rest = self._asleep.pop(helper, None)
                    if rest is not None:
                        with suppress(RuntimeError):  # it has just woken by itself
                            rest.release()
                _lead(self._job, self._addresses[0], self._number)
            finally:
                self._owner.pop("me", None)
        else:
            state, own = _state(1), _memory(scratch)
            _fill(_aligned(state), *what, n, 1, 1)
            _work(_aligned(state), _aligned(own))

    def _provide(self, n_threads: int, scratch_bytes: int) -> None:
        """Scratch memory for all, and as many threads, this one among them."""
        for place in range(n_threads):
            if place == len(self._scratch):
                self._scratch.append((np.empty(0, np.uint8), 0))
            if len(self._scratch[place][0]) < scratch_bytes + 64:
                memory = _memory(scratch_bytes)
                self._scratch[place] = memory, _aligned(memory)
        self._addresses[:n_threads] = [address for _, address in self._scratch[:n_threads]]
        for helper in range(n_threads - 1):
            if helper == len(self._helpers):
                name = f"colbert_research {helper + 1}"
                self._helpers.append(threading.Thread(target=self._live, args=(helper,), name=name, daemon=True))
            if self._helpers[helper].ident is None:
                self._helpers[helper].start()

    def _live(self, helper: int) -> None:
        done, rest = 0, threading.Lock()
        rest.acquire()
        while True:
            done = _help(self._job, helper, self._addresses.ctypes.data, done, PATIENCE)
            # whoever brings a job now wakes this thread; one brought since its last look does without it
            self._asleep[helper] = rest
            rest.acquire(timeout=FORGOTTEN)


def _state(n_threads: int) -> NDArray[np.uint8]:
    """Memory of a job for so many threads."""
    memory = _memory(8 * (_BOUNDS + PARTS_PER_THREAD * n_threads + 1))
    memory[:] = 0
    return memory


def _memory(n_bytes: int) -> NDArray[np.uint8]:
    return np.empty(n_bytes + 64, np.uint8)


def _aligned(memory: NDArray[np.uint8]) -> int:
    return memory.ctypes.data + -memory.ctypes.data % 64


_team = Team()


def _forget() -> None:
    """A child process has none of its parent's threads."""
    global _team
    _team = Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def address(array: NDArray[Any] | None) -> int:
    """Where an array's first element lies; 0 for None."""
    return 0 if array is None else int(array.ctypes.data)


def in_team(
    job: Job,
    offsets: NDArray[np.int64],
    only: Selection,
    arguments: Sequence[int],
    *,
    scratch: int = 0,
    parts_each: int = PARTS_PER_THREAD,
) -> None:
    """Run a job for consecutive ranges of documents (of `only`), of about equally many tokens, that make up all of them.

    `arguments`: addresses and other whole numbers; whatever they point to must live until this returns. `scratch`: bytes that
    each thread needs, at an address that is a multiple of 64. `parts_each`: parts per thread, at most PARTS_PER_THREAD; one
    where every part costs a pass over all items.
    """
    _team.run(job, offsets, only, arguments, scratch=scratch, n_threads=threads.count(), parts_each=parts_each)
