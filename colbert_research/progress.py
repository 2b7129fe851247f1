"""Progress: a bar when a person watches; a log line every tenth, and every ten seconds, when nobody does.

Set the environment variable `COLBERT_RESEARCH_PROGRESS` to `bar`, `log` or `off` to choose; unset, a terminal and a notebook
that is open in Jupyter get a bar, and everything else, a notebook that papermill executes too, gets log lines.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
logger = logging.getLogger("colbert_research")
VARIABLE = "COLBERT_RESEARCH_PROGRESS"
SILENCE = 10.0  # seconds after which a line is due, however little was done


def mode() -> str:
    """`bar`, `log` or `off`, as the environment says or the terminal suggests."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen not in ("", "bar", "log", "off"):
        raise ValueError(f"{VARIABLE}={chosen!r}: expected bar, log or off")
    return chosen or ("bar" if sys.stderr.isatty() or _open_in_jupyter() else "log")


class Reporter:
    """How much of one thing is done; see `reporting`."""

    def __init__(self, total: int, description: str, unit: str) -> None:
        self.total, self.description, self.unit, self.done = total, description, unit, 0
        self._mode, self._start = mode(), time.monotonic()
        self._tenths, self._said, self._first = 0, self._start, (0, self._start)
        self._bar: Any = None
        if self._mode == "bar":
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, desc=description, unit=f" {unit}")

    def advance(self, more: int = 1) -> None:
        self.at(self.done + more)

    def at(self, done: int) -> None:
        """That so much is done; less than was said before counts for nothing."""
        done = min(done, self.total)
        if done <= self.done:
            return
        if self._bar is not None:
            self._bar.update(done - self.done)
        self.done, now = done, time.monotonic()
        if not self._first[0]:
            self._first = done, now
        tenths = done * 10 // self.total
        if self._mode == "log" and (tenths > self._tenths or now - self._said >= SILENCE):
            logger.info(
                "%s: %d of %d %s, %.0f s%s", self.description, done, self.total, self.unit, now - self._start, self._left(now)
            )
            self._tenths, self._said = tenths, now

    def _left(self, now: float) -> str:
        """In words, by the pace since the first unit was done: what that took may be a start that comes once."""
        first, then = self._first
        if not first < self.done < self.total:
            return ""
        return f", {about((now - then) / (self.done - first) * (self.total - self.done))} left"

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def about(seconds: float) -> str:
    """A time in words: `about 40 s`, `about 14 min`, `about 2.5 h`."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


_active: ContextVar[Reporter | None] = ContextVar("active", default=None)


@contextmanager
def reporting(*, total: int, description: str, unit: str) -> Iterator[Reporter]:
    """A report of `total` units, which what is called in the block may `advance`: one bar, whoever does the work."""
    reporter = Reporter(total, description, unit)
    token = _active.set(reporter)
    try:
        yield reporter
    finally:
        _active.reset(token)
        reporter.close()


def advance(more: int) -> None:
    """Tell the report that is under way, if there is one, that so many more of its units are done."""
    if (reporter := _active.get()) is not None:
        reporter.advance(more)


def progress(items: Iterable[T], *, total: int, description: str, unit: str = "items") -> Iterator[T]:
    """Yield `items`, reporting how many of `total` are done."""
    reporter = Reporter(total, description, unit)
    try:
        for item in items:
            yield item
            reporter.advance()
    finally:
        reporter.close()


def _open_in_jupyter() -> bool:
    """Whether this process is the kernel of a notebook that somebody has open; one that papermill executes has no session."""
    return "ipykernel" in sys.modules and ("JPY_SESSION_NAME" in os.environ or "VSCODE_PID" in os.environ)
