"""The one loop behind every `map`: which item is next, which is begun again, and what is raised at the end."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from colbert_research.executors.base import WorkerDiedError
from colbert_research.executors.calls import check_function, opened, packed, shown

logger = logging.getLogger("colbert_research")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Ended:
    """A call that has ended. `answer`: see `calls.answered`; None where the worker died, and `died` says how."""

    number: int
    answer: bytes | None
    died: str = ""


class Crew(Protocol):
    """The workers of one `map`."""

    @property
    def free(self) -> int:
        """How many calls can be begun now."""
        ...

    def begin(self, number: int, call: bytes) -> None:
        """Let a free worker perform a call."""
        ...

    def wait(self) -> list[Ended]:
        """Wait for calls to end, or for workers to be free; may be empty."""
        ...

    def close(self) -> None:
        """End all workers, whatever they do."""
        ...


def run(crew: Callable[[], Crew], function: Callable[[T], R], items: Iterable[T], *, attempts: int) -> Iterator[tuple[T, R]]:
    """What `Executor.map` gives. `crew`: makes the workers, when the first result is asked for."""
    check_function(function)
    return _run(crew, function, items, attempts)


def _run(crew: Callable[[], Crew], function: Callable[[T], R], items: Iterable[T], attempts: int) -> Iterator[tuple[T, R]]:
    left = _Left(items)
    under_way: dict[int, _Call] = {}
    failed: list[BaseException] = []
    workers = crew()
    try:
        while under_way or (left and not failed):
            while workers.free and left and not failed:
                call = left.take()
                try:
                    data = packed(function, call.item)
                except TypeError as error:
                    failed.append(error)
                    break
                under_way[call.number] = call
                call.begun += 1
                workers.begin(call.number, data)
            for ended in workers.wait() if under_way or (left and not failed) else ():
                call = under_way.pop(ended.number)
                if ended.answer is None:
                    if (died := _died(call, ended.died, attempts)) is not None:
                        failed.append(died)
                    else:
                        left.again(call)
                    continue
                result, raised = opened(ended.answer)
                if raised is None:
                    yield call.item, result
                else:
                    raised.add_note(f"its item was {shown(call.item)}")
                    failed.append(raised)
    finally:
        workers.close()
    if failed:
        for other in failed[1:]:
            failed[0].add_note(f"another item failed as well: {type(other).__name__}: {other}")
        raise failed[0]


def _died(call: "_Call", how: str, attempts: int) -> WorkerDiedError | None:
    """The error where an item has been begun too often."""
    if call.begun < attempts:
        logger.warning("a worker died (%s) with %s in hand; another one begins it again", how, shown(call.item))
        return None
    return WorkerDiedError(
        f"{call.begun} workers died with {shown(call.item)} in hand, the last one: {how}. Where the system ends what takes too "
        "much memory, fewer workers, or more memory for each, help"
    )


@dataclass
class _Call:
    number: int
    item: Any
    begun: int = 0


class _Left:
    """The calls that are still to be begun; those to be begun again come first."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._source = enumerate(items)
        self._calls: deque[_Call] = deque()

    def __bool__(self) -> bool:
        if not self._calls and (found := next(self._source, None)) is not None:
            self._calls.append(_Call(*found))
        return bool(self._calls)

    def take(self) -> _Call:
        return self._calls.popleft()

    def again(self, call: _Call) -> None:
        self._calls.appendleft(call)
