"""What an executor is: where a function runs for each of many items, and what each of its workers takes."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Protocol, TypeVar, runtime_checkable

from pydantic import Field, field_validator

from colbert_research.config import Config

T = TypeVar("T")
R = TypeVar("R")


class WorkerDiedError(RuntimeError):
    """A worker died, or several one after another, with the same item in hand."""


class NotBegunError(WorkerDiedError):
    """A worker died before it had begun the call: whatever it died of, it was not that."""


class Resources(Config):
    """What one worker takes: `cpus`, which are also the threads that it computes with; `gpus`, a part of one or whole ones;
    `memory` in bytes, 0 where it is not known."""

    cpus: int = Field(1, ge=1)
    gpus: float = Field(0.0, ge=0)
    memory: int = Field(0, ge=0)

    @field_validator("gpus")
    @classmethod
    def _whole_or_a_part_of_one(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError(f"a part of one GPU, or whole ones; given {value}")
        return value


class WorkersConfig(Resources):
    """Base of the configs of executors that have workers.

    `workers`: how many at most; as many as there is room for where it is None. `cpus`, `gpus`, `memory`: what each takes unless
    a `map` asks for other resources. `attempts`: so often an item is begun whose worker dies with it in hand.
    """

    workers: int | None = Field(None, ge=1)
    attempts: int = Field(3, ge=1)

    @property
    def resources(self) -> Resources:
        """What each worker takes."""
        return Resources(cpus=self.cpus, gpus=self.gpus, memory=self.memory)


class Worker(Protocol):
    """A worker that stays, with what its module's globals hold: calls are sent to it and performed one after another."""

    @property
    def where(self) -> str:
        """The machine that it runs on, by a name that tells it from the others."""
        ...

    def call(self, function: Callable[[T], R], item: T) -> "Future[R]":
        """The result to come. Several threads may call.

        Function and item cross as in `Executor.map`, whose TypeErrors are raised here. The future fails with what the function
        raised, or with WorkerDiedError where the worker died first, as it does for every later call; with NotBegunError, if it
        is known that it had not begun this one. A call whose future is cancelled is not performed, unless the worker has it.
        """
        ...

    def close(self) -> None:
        """End it, whatever it does."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Runs a function for each of many items.

    Function, items and results cross between processes: the function stands at the top level of a module that every worker can
    import (or is a `functools.partial` of one that does), items and results can be pickled. That holds of all executors, so
    that what runs in one runs in any.
    """

    def map(self, function: Callable[[T], R], items: Iterable[T], resources: Resources | None = None) -> Iterator[tuple[T, R]]:
        """Each item with its result, as they come, in no order; items are taken from the iterable when a worker is free.

        When the function raises, no other item is begun, what is under way is finished and given, and then the error is raised,
        with a note that names its item. An item whose worker dies is begun again by another one, and is a WorkerDiedError when
        that happened too often. When the iterator is closed, or the caller interrupted, no worker is left. Raises TypeError for
        what cannot cross to a worker, ConfigError for resources that are not there.
        """
        ...

    def workers(self, resources: Resources | None = None) -> int:
        """How many items are under way at once. Raises ConfigError for resources that are not there."""
        ...

    def worker(self, resources: Resources | None = None, *, number: int = 0) -> Worker:
        """One more worker, which stays until it is closed; `number`: which it is of the caller's, who divide GPUs among them.

        Raises WorkerDiffersError for one that is not as `map` wants it, ConfigError where there is no room for it.
        """
        ...
