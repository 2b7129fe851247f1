"""`Line`: a few threads for searches, and a line before them that is never longer than was said."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from colbert_research.serving.wire import RefusedError

T = TypeVar("T")


class Line:
    """At most `running` functions at once, each on a thread, and `waiting` more in line, the first to come first."""

    def __init__(self, running: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(running, thread_name_prefix="colbert_research search")
        self._most, self._lock = running + waiting, threading.Lock()
        self.inside = 0
        """How many run or wait."""

    async def do(self, function: Callable[[], T]) -> T:
        """What the function gives. Raises `RefusedError` where the line is full, and what the function raises."""
        with self._lock:
            if self.inside >= self._most:
                raise RefusedError(
                    503, f"{self.inside} searches run or wait, the most that this server takes; try again", {"Retry-After": "1"}
                )
            self.inside += 1
        future = self._threads.submit(function)
        future.add_done_callback(self._leave)  # also when nobody waits for it any more
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Wait for those that run; the others are given up."""
        self._threads.shutdown(cancel_futures=True)

    def _leave(self, _: "Future[Any]") -> None:
        with self._lock:
            self.inside -= 1
