"""Locks between processes: a file that one holds at a time and in which it says who it is.

The system frees a lock when its holder dies, and whoever waits takes over. A released lock leaves no file behind.
"""

import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakSet

logger = logging.getLogger("colbert_research")
WAIT_VARIABLE = "COLBERT_RESEARCH_WAIT"
LONGEST_WAIT = 86_400.0  # seconds
POLL = 0.1
HOLDER_BYTES = 4096  # a lock is on the byte behind the holder's name, so that the name can be read by others


class LockedError(TimeoutError):
    """Another process holds a lock for longer than this one wanted to wait; says which."""


class Lock:
    """A lock on the file `path`. `purpose`: what its holder does, for those who wait."""

    def __init__(self, path: Path, purpose: str) -> None:
        self.path, self.purpose = path, purpose
        self._handle: int | None = None

    def acquire(self, wait: float | None = None) -> None:
        """Wait at most `wait` seconds (by default `$COLBERT_RESEARCH_WAIT`, else a day) for the lock.

        Who is waited for is logged once. Raises LockedError after that time.
        """
        wait = longest_wait() if wait is None else wait
        deadline, said = time.monotonic() + wait, False
        while not self.try_acquire():
            holder = self.holder()
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"{self.purpose}: waited {wait:g} s for {holder}. If that process hangs, end it: its lock is then free; "
                    f"to wait longer, set {WAIT_VARIABLE} to a number of seconds"
                )
            if not said:
                logger.info("%s: waiting for %s", self.purpose, holder)
                said = True
            time.sleep(min(POLL, max(0.0, deadline - time.monotonic())))

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            if not _lock(handle):
                os.close(handle)
                return False
            if _is_at(handle, self.path):  # else its last holder removed the file in between
                break
            os.close(handle)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        holder = {"process": os.getpid(), "host": platform.node(), "since": now, "purpose": self.purpose}
        self._handle = handle
        _held.add(self)
        with suppress(OSError):  # on a full disk the lock holds without a name
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps(holder).encode()[:HOLDER_BYTES])
        return True

    @property
    def held(self) -> bool:
        """Whether this object holds the lock, and its file is still where others look for it."""
        return self._handle is not None and _is_at(self._handle, self.path)

    def holder(self) -> str:
        """Who holds the lock now, in words."""
        try:
            said = json.loads(self.path.read_text(encoding="utf-8"))
            return f"process {said['process']} on {said['host']}, which has held {self.path} since {said['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return f"the process that holds {self.path}"

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._handle is None:
            return
        if self.held:
            with suppress(OSError):  # Windows removes no open file
                self.path.unlink()
        os.close(self._handle)
        self._handle = None
        _held.discard(self)

    def forget(self) -> None:
        """In a child process: close the file that it shares, with which it would hold the lock of a parent that died."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


_held: "WeakSet[Lock]" = WeakSet()


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


@contextmanager
def locked(path: Path, purpose: str = "", *, wait: float | None = None) -> Iterator[Lock]:
    """Hold the lock on `path` while the block runs; see `Lock.acquire`."""
    lock = Lock(path, purpose or f"lock {path.name}")
    lock.acquire(wait)
    try:
        yield lock
    finally:
        lock.release()


def longest_wait() -> float:
    """Seconds to wait for a lock: `$COLBERT_RESEARCH_WAIT`, else a day. Raises ValueError for what is no such number."""
    written = os.environ.get(WAIT_VARIABLE, "")
    try:
        seconds = float(written) if written else LONGEST_WAIT
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{WAIT_VARIABLE} is a number of seconds from 0; given {written!r}")
    return seconds


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def _lock(handle: int) -> bool:
    """Whether the open file could be locked; without waiting."""
    if os.name == "nt":
        import msvcrt

        os.lseek(handle, HOLDER_BYTES, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        os.lseek(handle, 0, os.SEEK_SET)
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
