"""Calls of one worker: the few that it has, and those that wait here, where they can still be withdrawn."""

import threading
from collections import deque
from concurrent.futures import Future
from typing import Any

from colbert_research.executors.base import NotBegunError, WorkerDiedError

AHEAD = 2
"""Calls that a worker has: the one in hand, and the next, so that it need not wait for it."""
Sent = tuple["Future[Any]", bytes]


class Pending:
    """Calls in their order. What `add` and `answered` return is to be sent, then; several threads may call."""

    def __init__(self) -> None:
        self._waiting, self._sent = deque[Sent](), deque[Future[Any]]()
        self._lock, self._ended = threading.Lock(), ""

    def add(self, call: bytes) -> tuple["Future[Any]", list[Sent]]:
        """The future of a call, and what to send now: nothing while the worker has others, whose answers send it."""
        future: Future[Any] = Future()
        with self._lock:
            if self._ended:
                future.set_exception(NotBegunError(self._ended))
                return future, []
            while self._waiting and self._waiting[0][0].cancelled():  # of a worker that answers nothing any more, say
                self._waiting.popleft()[0].set_running_or_notify_cancel()
            self._waiting.append((future, call))
            return future, [] if self._sent else self._next()

    def answered(self, future: "Future[Any] | None" = None) -> tuple["Future[Any] | None", list[Sent]]:
        """The future whose answer has come, by default the oldest that was sent, and what to send now. None after the end."""
        with self._lock:
            if not self._sent or (future is not None and future not in self._sent):
                return None, []
            found = self._sent[0] if future is None else future
            self._sent.remove(found)
            return found, self._next()

    def end(self, how: str) -> None:
        """The worker is gone: the call in hand fails with WorkerDiedError, all others, later ones too, with NotBegunError."""
        with self._lock:
            self._ended = self._ended or how
            sent, waiting = [*self._sent], [each for each, _ in self._waiting if each.set_running_or_notify_cancel()]
            self._sent.clear()
            self._waiting.clear()
        for future in sent[:1]:
            future.set_exception(WorkerDiedError(how))
        for future in (*sent[1:], *waiting):
            future.set_exception(NotBegunError(how))

    def _next(self) -> list[Sent]:
        """Calls that the worker is to have now, less those that were withdrawn."""
        found = []
        while self._waiting and len(self._sent) < AHEAD:
            future, call = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                self._sent.append(future)
                found.append((future, call))
        return found
