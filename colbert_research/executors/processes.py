"""`processes`: fresh processes on this machine, among which its CPUs, its GPUs and its memory are divided."""

import json
import logging
import os
import platform
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from colbert_research import progress, threads
from colbert_research.executors.base import Executor, Resources, Worker, WorkersConfig
from colbert_research.executors.calls import check_function, packed, settle
from colbert_research.executors.loop import Ended, run
from colbert_research.executors.pending import Pending, Sent
from colbert_research.executors.worker import read, write
from colbert_research.memory import available_memory
from colbert_research.settings import ConfigError

logger = logging.getLogger("colbert_research")
T = TypeVar("T")
R = TypeVar("R")
PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from colbert_research.executors.worker import main; main()"
PINNED = ("COLBERT_RESEARCH_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What numerical libraries read when they are loaded."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
AT_ONCE = 2**15
"""Bytes that a pipe takes from whoever writes, if there are none in it."""


class ProcessesConfig(WorkersConfig):
    """Processes of this machine, started afresh (never forked), each with its part of the threads."""

    kind: Literal["processes"] = "processes"

    @contextmanager
    def start(self, shared: Sequence[Path] = ()) -> Iterator[Executor]:
        """The executor. `shared`: folders that the workers must see; here they do."""
        yield Processes(self)


class Processes:
    """See `Executor`."""

    def __init__(self, config: ProcessesConfig) -> None:
        self._config = config

    def map(self, function: Callable[[T], R], items: Iterable[T], resources: Resources | None = None) -> Iterator[tuple[T, R]]:
        needed = resources or self._config.resources
        n = self.workers(needed)
        return run(lambda: _Processes(n, needed), function, items, attempts=self._config.attempts)

    def workers(self, resources: Resources | None = None) -> int:
        needed, asked = resources or self._config.resources, self._config.workers
        fit = {
            f"{needed.cpus} of the {threads.count()} CPUs": threads.count() // needed.cpus,
            f"{needed.gpus:g} of the {len(_gpus())} GPUs": len(_shares(needed.gpus)) if needed.gpus else sys.maxsize,
        }
        if needed.memory:
            there = available_memory()
            n = there // needed.memory
            if n == 0 and asked in (None, 1):
                logger.warning("it may not fit into memory: %s a worker, %s are available", _gb(needed.memory), _gb(there))
            fit[f"{_gb(needed.memory)} of the {_gb(there)} that are available"] = n if n or asked not in (None, 1) else 1
        what, most = min(fit.items(), key=lambda each: each[1])
        if most < (asked or 1):
            raise ConfigError(f"executor processes: {asked or 1} workers, each with {what}: there is room for {most}")
        return asked or most

    def worker(self, resources: Resources | None = None, *, number: int = 0) -> Worker:
        needed = resources or self._config.resources
        self.workers(needed)
        return _Staying(needed, _shares(needed.gpus)[number] if needed.gpus else "")


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA is told."""
    visible = os.environ.get(VISIBLE)
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(i) for i, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def _shares(gpus: float) -> list[str]:
    """What each of as many workers as there is room for sees of the GPUs, when each takes so many, or a part of one."""
    found = _gpus()
    if gpus < 1:
        return found * int(1 / gpus)
    whole = int(gpus)
    return [",".join(found[i : i + whole]) for i in range(0, len(found) - whole + 1, whole)]


class _Listener(Protocol):
    def put(self, item: "tuple[_Process, bytes | None]", /) -> None:
        """Take an answer of a process, or None when it is dead."""


class _Process:
    """One worker, and the number of the call that it has in hand. `ended` is told of answers, by a thread."""

    def __init__(self, resources: Resources, visible: str, ended: _Listener) -> None:
        environment = {**os.environ, **dict.fromkeys(PINNED, str(resources.cpus)), progress.VARIABLE: "off"}
        if resources.gpus:
            environment[VISIBLE] = visible
        self.visible, self.number, self._ended = visible, -1, ended
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=os.name == "posix",  # whoever started it is interrupted, and ends it
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def begin(self, number: int, call: bytes) -> None:
        assert self._process.stdin is not None
        self.number = number
        with suppress(OSError, ValueError):  # it died, or was closed; its listener says so
            write(self._process.stdin, call)  # type: ignore[arg-type]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            while (answer := read(answers)) is not None:  # type: ignore[arg-type]
                self._ended.put((self, answer))
        self._process.wait()
        self._ended.put((self, None))

    def how_it_died(self) -> str:
        status = self._process.wait()
        return f"process {self._process.pid}, " + (f"killed by signal {-status}" if status < 0 else f"exit status {status}")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.kill()
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._listener.join()


class _Processes:
    """The crew: processes are started when they are first needed, and again where one died."""

    def __init__(self, n: int, resources: Resources) -> None:
        self._resources, self._room = resources, n
        self._visible = (_shares(resources.gpus) if resources.gpus else [""] * n)[:n]
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._ended: queue.Queue[tuple[_Process, bytes | None]] = queue.Queue()

    @property
    def free(self) -> int:
        return self._room - len(self._busy)

    def begin(self, number: int, call: bytes) -> None:
        process = self._idle.pop() if self._idle else _Process(self._resources, self._visible.pop(), self._ended)
        self._busy.add(process)
        process.begin(number, call)

    def wait(self) -> list[Ended]:
        process, answer = self._ended.get()
        if answer is None:
            self._visible.append(process.visible)
            if process in self._idle:  # between two calls
                self._idle.remove(process)
                process.close()
                return []
        self._busy.discard(process)
        if answer is not None:
            self._idle.append(process)
            return [Ended(process.number, answer)]
        ended = Ended(process.number, None, process.how_it_died())
        process.close()
        return [ended]

    def close(self) -> None:
        for process in (*self._busy, *self._idle):
            process.close()


class _Staying:
    """See `Worker`. Answers come in the order of the calls."""

    def __init__(self, resources: Resources, visible: str) -> None:
        self.where, self._calls = platform.node(), Pending()
        self._process = _Process(resources, visible, self)

    def call(self, function: Callable[[T], R], item: T) -> "Future[R]":
        check_function(function)
        future, calls = self._calls.add(packed(function, item))
        if sum(len(call) for _, call in calls) <= AT_ONCE:
            self._write(calls)
        else:  # a worker that does not read would keep who calls waiting
            threading.Thread(target=self._write, args=(calls,), daemon=True).start()
        return future

    def put(self, item: tuple[_Process, bytes | None], /) -> None:
        process, answer = item
        if answer is None:
            self._calls.end(f"a worker died: {process.how_it_died()}")
            return
        future, calls = self._calls.answered()
        if future is not None:  # else it was closed meanwhile
            settle(future, answer)
        self._write(calls)

    def _write(self, calls: Sequence[Sent]) -> None:
        for _, call in calls:
            self._process.begin(0, call)

    def close(self) -> None:
        self._calls.end("the worker was closed")
        self._process.close()
