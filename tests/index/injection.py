"""Faults at any operation on files: an audit hook sees each before it happens, and may end the process or refuse the operation.

Of a process that ends, what was written and not flushed is lost, as when the power fails: the files are cut.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}
Watcher = Callable[[str, tuple[Any, ...]], None]
_watchers: list[Watcher] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watchers and (event in CHANGES or (event == "open" and arguments[2] & WRITING)) and _inside(arguments[0]):
        watcher = _watchers.pop()  # what it does itself is not watched
        try:
            watcher(event, arguments)
        finally:
            _watchers.append(watcher)


def _inside(name: Any) -> bool:
    """Whether a path is one of the watched folder, or is relative to a folder that is open, as `shutil.rmtree` names it."""
    return not isinstance(name, int) and (not os.path.isabs(name) or os.fsdecode(name).startswith(str(_roots[-1])))


_installed: list[bool] = []
_roots: list[Path] = []


@contextmanager
def watched(watcher: Watcher, root: Path) -> Iterator[None]:
    """Hand every change of a file below `root` to the watcher, and `os.fsync` as ("fsync", (number,)); it does nothing then."""
    if not _installed:
        sys.addaudithook(_hook)
        _installed.append(True)
    fsync = os.fsync
    os.fsync = lambda descriptor: watcher("fsync", (descriptor,))  # type: ignore[assignment]
    _roots.append(root)
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.clear()
        _roots.clear()
        os.fsync = fsync


class Disk:
    """What has been flushed below a folder, by inode."""

    def __init__(self, root: Path) -> None:
        self.root, self.flushed, self.dirty = root, set[int](), set[int]()
        self.seen: list[tuple[str, str]] = []
        for path in [root, *root.rglob("*")]:
            self.flushed.add(path.stat().st_ino)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "fsync":
            number = os.fstat(arguments[0]).st_ino
            self.flushed.add(number)
            self.dirty.discard(number)
            return
        for name in arguments[: 2 if event == "os.rename" else 1]:
            path = Path(os.fsdecode(name))
            if path.is_absolute() and path.parent.is_dir():
                if not path.name.startswith(".manifest"):  # the next one, which nothing names
                    self.dirty.add(path.parent.stat().st_ino)
                if event == "open" and path.is_file():
                    self.flushed.discard(path.stat().st_ino)
        self.seen.append((event, os.fsdecode(arguments[0])))

    def lose(self) -> None:
        """Cut every file that was not flushed."""
        for path in self.root.rglob("*"):
            if path.is_file() and path.stat().st_ino not in self.flushed:
                os.truncate(path, path.stat().st_size // 2)


def killed_at(point: int, work: Callable[[], object], root: Path) -> bool:
    """Run `work` in a child that is killed by SIGKILL at its `point`-th operation, when what was not flushed is lost.

    False where it had fewer.
    """
    child = os.fork()
    if child == 0:
        signal.alarm(120)
        disk, left = Disk(root), point

        def watcher(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                disk.lose()
                os.kill(os.getpid(), signal.SIGKILL)
            disk(event, arguments)

        code = 0
        try:
            with watched(watcher, root):
                work()
        except BaseException as error:  # noqa: BLE001
            os.write(2, repr(error).encode())
            code = 3
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0


def refused_at(point: int, number: int, work: Callable[[], object], root: Path) -> tuple[bool, BaseException | None]:
    """Run `work`, whose `point`-th operation fails with this error number: whether it had so many, and what it raised."""
    left = point

    def watcher(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(number, os.strerror(number), str(arguments[0]))

    try:
        with watched(watcher, root):
            work()
    except OSError as error:
        return left <= 0, error
    return left <= 0, None
