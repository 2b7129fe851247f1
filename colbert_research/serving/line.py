"""`Line`: a few threads for searches, and a line before them that is never longer than was said."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from colbert_research.serving.wire import RefusedError

T = TypeVar("T")


class Line:
    """At most `running` functions at once, each on a thread, and `waiting` more in line, the first to come first.

    The end of the process does not wait for the threads.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._running, self._most, self._lock = running, running + waiting, threading.Lock()
        self.inside = 0
        """How many run or wait."""
        for _ in range(running):
            threading.Thread(target=self._perform, daemon=True).start()

    async def do(self, function: Callable[[], T]) -> T:
        """What the function gives. Raises `RefusedError` where the line is full, and what the function raises."""
        with self._lock:
            if self.inside >= self._most:
                raise RefusedError(
                    503, f"{self.inside} searches run or wait, the most that this server takes; try again", {"Retry-After": "1"}
                )
            self.inside += 1
        future: Future[T] = Future()
        future.add_done_callback(self._leave)  # also when nobody waits for it any more
        self._calls.put((future, function))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Give up those that wait, and begin no others; those that run are not waited for."""
        with suppress(Empty):
            while (call := self._calls.get_nowait()) is not None:
                call[0].cancel()
        for _ in range(self._running):
            self._calls.put(None)

    def _perform(self) -> None:
        while (call := self._calls.get()) is not None:
            _settle(*call)
            del call  # and what came of it

    def _leave(self, _: "Future[Any]") -> None:
        with self._lock:
            self.inside -= 1


def _settle(future: "Future[Any]", function: Callable[[], Any]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 (raised where it was asked for)
            future.set_exception(error)
        else:
            future.set_result(result)
