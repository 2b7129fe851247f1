"""`inline`: in this process, one item after another."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import RLock
from typing import Any, Literal, TypeVar

from colbert_research import threads
from colbert_research.config import Config
from colbert_research.executors.base import Executor, Resources, Worker
from colbert_research.executors.calls import answered, check_function, packed, settle
from colbert_research.executors.loop import Ended, run
from colbert_research.settings import ConfigError

T = TypeVar("T")
R = TypeVar("R")


class InlineConfig(Config):
    """No other process: what calls computes."""

    kind: Literal["inline"] = "inline"

    @contextmanager
    def start(self, shared: Sequence[Path] = ()) -> Iterator[Executor]:
        """The executor. `shared`: folders that the workers must see, as this process does."""
        yield Inline()


class Inline:
    """See `Executor`. With resources, the function has that many threads; without, all that the process may use."""

    def map(self, function: Callable[[T], R], items: Iterable[T], resources: Resources | None = None) -> Iterator[tuple[T, R]]:
        self.workers(resources)
        return run(lambda: _Here(resources), function, items, attempts=1)

    def workers(self, resources: Resources | None = None) -> int:
        if resources is not None and resources.cpus > (most := threads.available()):
            raise ConfigError(f"{resources.cpus} CPUs for an item, and this process may use {most}")
        return 1

    def worker(self, resources: Resources | None = None, *, number: int = 0) -> Worker:
        self.workers(resources)
        return _Caller(resources)


class _Caller:
    """A worker that performs a call before it gives the future; one call at a time, whoever calls."""

    where = "this process"

    def __init__(self, resources: Resources | None) -> None:
        self._resources, self._busy = resources, RLock()

    def call(self, function: Callable[[T], R], item: T) -> "Future[R]":
        check_function(function)
        call, future = packed(function, item), Future[Any]()
        with self._busy, nullcontext() if self._resources is None else threads.pinned_threads(self._resources.cpus):
            settle(future, answered(call))
        return future

    def close(self) -> None:
        pass


class _Here:
    """A crew of one, which performs a call while it is waited for."""

    def __init__(self, resources: Resources | None) -> None:
        self._threads = threads.count() if resources is None else resources.cpus
        self._calls: list[tuple[int, bytes]] = []

    @property
    def free(self) -> int:
        return 1 - len(self._calls)

    def begin(self, number: int, call: bytes) -> None:
        self._calls.append((number, call))

    def wait(self) -> list[Ended]:
        number, call = self._calls.pop()
        with threads.pinned_threads(self._threads):
            return [Ended(number, answered(call))]

    def close(self) -> None:
        self._calls.clear()
