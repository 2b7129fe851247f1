"""One function asked of the workers of all shards at once; others are asked where one dies, or is slow."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from colbert_research.executors import NotBegunError, WorkerDiedError
from colbert_research.serving.fleet import Fleet

ATTEMPTS = 3
"""So many workers may die with one request in hand."""
KNOWN, LEAST, EVERY = 512, 32, 16
"""Answers whose times count, how many there have to be, and after how many the quantile is taken anew."""


class Hedge:
    """After how many seconds a second worker is asked as well: the `quantile` of the latest answers' times; None: never."""

    def __init__(self, quantile: float | None = None) -> None:
        if quantile is not None and not 0 < quantile < 1:
            raise ValueError(f"hedge is a quantile of the times that answers take, between 0 and 1; given {quantile}")
        self._quantile, self._times, self._new = quantile, deque[float](maxlen=KNOWN), 0
        self.after: float | None = None
        """None also while fewer than 32 answers have come."""

    def took(self, seconds: float) -> None:
        """An answer has taken so long."""
        if self._quantile is not None:
            self._times.append(seconds)
            self._new += 1
            if len(self._times) >= LEAST and self._new >= EVERY:
                self.after, self._new = float(np.quantile([*self._times], self._quantile)), 0


@dataclass
class _Call:
    shard: int
    worker: int
    since: float
    hedged: bool = False


def ask(
    fleet: Fleet, function: Callable[[Any], Any], items: Mapping[int, Any], *, until: float | None = None, hedge: Hedge
) -> dict[int, Any]:
    """Shard -> what `function` gives for its item, of those that have answered when it is `until` (`time.monotonic`).

    What no worker has begun by then is withdrawn, and so it is when all have answered, or one has failed. Raises what the
    function raises, and WorkerDiedError for an item with which three workers died in hand, and where none can be started any
    more.
    """
    asking = _Asking(fleet, function, items, hedge)
    try:
        while asking.open:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            if asking.begin(until):
                asking.take(left)
            else:
                fleet.wait(left)
    finally:
        asking.withdraw()
    return asking.answers


class _Asking:
    """The calls of one `ask`."""

    def __init__(self, fleet: Fleet, function: Callable[[Any], Any], items: Mapping[int, Any], hedge: Hedge) -> None:
        self._fleet, self._function, self._items, self._hedge = fleet, function, items, hedge
        self._calls: dict[Future[Any], _Call] = {}
        self._died: Counter[int] = Counter()
        self.answers: dict[int, Any] = {}

    @property
    def open(self) -> bool:
        return len(self.answers) < len(self._items)

    def begin(self, until: float | None) -> bool:
        """Ask for every shard that nobody has in hand, while there is time: a worker in this process answers before it is asked
        for the next. False where nobody has any, because no worker lives."""
        in_hand = {call.shard for call in self._calls.values()}
        for shard in self._items:
            if until is not None and time.monotonic() >= until:
                break
            if shard not in in_hand and shard not in self.answers:
                self._ask(shard, self._fleet.place(shard))
        return bool(self._calls)

    def take(self, seconds: float | None) -> None:
        """Wait for an answer, at most so long, and until it is time to ask another worker."""
        due = [self._due(call) - time.monotonic() for call in self._slow()]
        done, _ = wait(self._calls, min([*due, *([] if seconds is None else [seconds])], default=None), FIRST_COMPLETED)
        for future in done:
            self._answered(self._calls.pop(future), future)
        for call in [*self._slow()]:
            if self._due(call) <= time.monotonic():
                call.hedged = True
                self._ask(call.shard, self._fleet.place(call.shard, besides=[call.worker]), hedged=True)

    def withdraw(self) -> None:
        """Give up the calls that are under way; those that no worker has yet are not performed."""
        for future in self._calls:
            future.cancel()

    def _answered(self, call: _Call, future: "Future[Any]") -> None:
        error = future.exception()
        if error is None:
            if call.shard not in self.answers:
                self._hedge.took(time.monotonic() - call.since)
                self.answers[call.shard] = future.result()
        elif isinstance(error, NotBegunError):
            pass  # it is asked of another
        elif isinstance(error, WorkerDiedError):
            self._died[call.shard] += 1
            if (n := self._died[call.shard]) >= ATTEMPTS:
                raise WorkerDiedError(f"{n} workers died with {self._items[call.shard]!r} in hand, the last one: {error}")
        else:
            raise error

    def _ask(self, shard: int, worker: int | None, *, hedged: bool = False) -> None:
        if worker is not None:
            call = _Call(shard, worker, time.monotonic(), hedged)
            self._calls[self._fleet.call(worker, self._function, self._items[shard])] = call

    def _slow(self) -> Iterator[_Call]:
        """Calls beside which another may be made."""
        if self._hedge.after is not None:
            yield from (call for call in self._calls.values() if not call.hedged and call.shard not in self.answers)

    def _due(self, call: _Call) -> float:
        return call.since + (self._hedge.after or 0.0)
