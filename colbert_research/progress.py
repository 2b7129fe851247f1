"""Progress: a bar when a person watches, a log line every tenth when nobody does.

Set the environment variable `COLBERT_RESEARCH_PROGRESS` to `bar`, `log` or `off` to choose; unset, a terminal gets a bar and
everything else gets log lines.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
logger = logging.getLogger("colbert_research")
VARIABLE = "COLBERT_RESEARCH_PROGRESS"


def mode() -> str:
    """`bar`, `log` or `off`, as the environment says or the terminal suggests."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen not in ("", "bar", "log", "off"):
        raise ValueError(f"{VARIABLE}={chosen!r}: expected bar, log or off")
    return chosen or ("bar" if sys.stderr.isatty() else "log")


def progress(items: Iterable[T], *, total: int, description: str, unit: str = "items") -> Iterator[T]:
    """Yield `items`, reporting how many of `total` are done."""
    chosen = mode()
    if chosen == "bar":
        from tqdm.auto import tqdm

        yield from tqdm(items, total=total, desc=description, unit=unit)
        return
    start, reported = time.monotonic(), 0
    for done, item in enumerate(items, start=1):
        yield item
        if chosen == "log" and total and done * 10 // total > reported:
            logger.info("%s: %d of %d %s, %.0f s", description, done, total, unit, time.monotonic() - start)
            reported = done * 10 // total
