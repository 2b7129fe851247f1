"""What the tests of executors let workers do."""

import os
import signal
import sys
import time
from pathlib import Path

from colbert_research import threads


def double(item: int) -> int:
    return 2 * item


def refuse_three(item: int) -> int:
    if item == 3:
        raise ValueError("three is refused")
    return item


class StrangeError(Exception):
    """One that can be pickled, and not be read again."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__("strange")


def raise_strange(item: int) -> int:
    raise StrangeError(item, item)


def leave(item: int) -> int:
    sys.exit("I leave")


def give_a_lock(item: int) -> object:
    import threading

    return threading.Lock()


class Unread:
    """Can be pickled, and not be read again."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _refuse_to_be_read, ("not here",)


def _refuse_to_be_read(where: str) -> None:
    raise ValueError(where)


def give_what_cannot_be_read(item: int) -> Unread:
    return Unread()


def pid(item: int) -> int:
    return os.getpid()


def threads_here(item: int) -> int:
    return threads.count()


def speak(item: int) -> str:
    print("no answer", flush=True)  # noqa: T201
    os.write(1, b"nor this")
    return sys.stdin.read()


def wait_for(folder: str) -> None:
    """Say that it has begun, and wait until the folder holds a file `go`."""
    path = Path(folder)
    (path / f"begun.{os.getpid()}").touch()
    deadline = time.monotonic() + 120
    while not (path / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def die_once(given: tuple[str, int]) -> int:
    """The first of several attempts at item 1 dies, as a process does that takes too much memory."""
    folder, item = given
    mark = Path(folder) / "died"
    if item == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def die(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


_seen: list[int] = []


def remember(item: int) -> list[int]:
    """All items of this process so far."""
    _seen.append(item)
    return [*_seen]
