"""`Fleet`: workers with an index open, which of them answer for which shard, and another one for each that dies."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from colbert_research.executors import Executor, NotBegunError, Worker, WorkerDiedError, WorkerDiffersError
from colbert_research.serving.placing import homes
from colbert_research.settings import ConfigError

logger = logging.getLogger("colbert_research")
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds between attempts to start a worker in place of one that died; the last one again and again."""
ATTEMPTS = 3
"""So often a worker is started at the beginning that dies before it can be asked, as on a node that is just lost."""


@dataclass
class _Seat:
    """A place for a worker; `worker` is None while nobody sits there. `calls`: how many are under way, and of those that were
    withdrawn, the ones since its last answer: one that answers nothing is not taken for one that has nothing to do."""

    worker: Worker | None = None
    calls: int = 0
    withdrawn: int = 0
    failed: str = ""


class Fleet:
    """Workers of an executor. Each has performed `prepare` before it is asked for anything.

    A shard has some workers that answer for it, its homes; where all of these are dead, any other does. Raises ConfigError
    for fewer workers than replicas, and what starting and preparing them raises.
    """

    def __init__(
        self, executor: Executor, prepare: Callable[[Worker], Any], *, workers: int, shards: int, replicas: int
    ) -> None:
        if workers < replicas:
            raise ConfigError(f"replicas={replicas} of a shard are on as many workers, and there is room for {workers}")
        self._executor, self._prepare = executor, prepare
        self._seats = [_Seat() for _ in range(workers)]
        self._changed, self._closed = threading.Condition(), threading.Event()
        try:
            with ThreadPoolExecutor(workers) as pool:
                started = list(pool.map(self._begin, range(workers)))
        except BaseException:
            self.close()
            raise
        self._homes = homes([worker.where for worker in started], shards, replicas)

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def alive(self) -> int:
        """How many workers can be asked now."""
        return sum(seat.worker is not None for seat in self._seats)

    def shards_of(self, number: int) -> list[int]:
        """The shards for which a worker answers."""
        return [shard for shard, at in enumerate(self._homes) if number in at]

    def place(self, shard: int, besides: Sequence[int] = ()) -> int | None:
        """The number of the worker to ask for a shard: of its homes, or else of all, the one with the fewest calls.

        `besides`: workers that are not to be asked. None where no other lives.
        """
        for numbers in (self._homes[shard], range(len(self._seats))):
            left = [i for i in numbers if i not in besides and self._seats[i].worker is not None]
            if left:
                return min(left, key=lambda i: (self._seats[i].calls, (i - shard) % len(self._seats)))
        return None

    def wait(self, seconds: float | None) -> bool:
        """Wait until a worker lives, at most so long; whether one does.

        Raises WorkerDiedError when none could be started, and when the fleet is closed.
        """
        with self._changed:
            ended = self._closed.is_set
            self._changed.wait_for(lambda: self.alive or ended() or all(seat.failed for seat in self._seats), seconds)
            if ended():
                raise WorkerDiedError("the workers were closed")
            if not self.alive and all(seat.failed for seat in self._seats):
                raise WorkerDiedError(f"all {len(self)} workers died, and no other could be started: {self._seats[0].failed}")
        return self.alive > 0

    def call(self, number: int, function: Callable[[Any], Any], item: Any) -> "Future[Any]":
        """Ask a worker; the future fails with WorkerDiedError where it dies, and another one is then started in its place."""
        seat = self._seats[number]
        worker = seat.worker
        if worker is None:
            future: Future[Any] = Future()
            future.set_exception(NotBegunError(f"worker {number} died"))
            return future
        with self._changed:
            seat.calls += 1
        try:
            future = worker.call(function, item)
        except BaseException:
            with self._changed:
                seat.calls -= 1
            raise
        future.add_done_callback(lambda done: self._done(number, seat, done))
        return future

    def _done(self, number: int, seat: _Seat, done: "Future[Any]") -> None:
        if done.cancelled():
            with self._changed:
                seat.withdrawn += 1
            return
        died = isinstance(done.exception(), WorkerDiedError)
        with self._changed:
            seat.calls -= 1 + seat.withdrawn
            seat.withdrawn = 0
            gone = seat.worker if died and not self._closed.is_set() else None
            if gone is not None:
                seat.worker = None
        if gone is not None:
            logger.warning(
                "a worker of shards %s is gone (%s); others answer for it, and another one is started",
                self.shards_of(number), done.exception(),
            )  # fmt: skip
            threading.Thread(target=self._replace, args=(number, gone), daemon=True).start()

    def _replace(self, number: int, gone: Worker) -> None:
        gone.close()
        attempt = 0
        while not self._closed.is_set():
            try:
                self._start(number)
                return
            except WorkerDiffersError as error:
                self._give_up(number, error)
                return
            except Exception as error:  # noqa: BLE001 (it is said, and tried again)
                if self._closed.is_set():
                    return
                logger.warning("no worker could be started in place of one that died: %s", error)
                self._give_up(number, error)
            self._closed.wait(PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1

    def _begin(self, number: int) -> Worker:
        for attempt in range(ATTEMPTS - 1):
            try:
                return self._start(number)
            except WorkerDiedError as error:
                logger.warning("a worker of the shards is started again: %s", error)
                self._closed.wait(PAUSES[min(attempt, len(PAUSES) - 1)])
        return self._start(number)

    def _give_up(self, number: int, error: Exception) -> None:
        with self._changed:
            self._seats[number].failed = str(error)
            self._changed.notify_all()

    def _start(self, number: int) -> Worker:
        worker = self._executor.worker(number=number)
        try:
            self._prepare(worker)
        except BaseException:
            worker.close()
            raise
        with self._changed:
            if not self._closed.is_set():
                self._seats[number] = _Seat(worker)
                self._changed.notify_all()
                return worker
        worker.close()
        raise WorkerDiedError("it was closed before it began")

    def close(self) -> None:
        """End all workers."""
        with self._changed:
            self._closed.set()
            workers = [seat.worker for seat in self._seats if seat.worker is not None]
            for seat in self._seats:
                seat.worker = None
            self._changed.notify_all()
        for worker in workers:
            worker.close()
