"""Measurements that are not experiments: the lines of a benchmark's JSON lines, as settings and figures by dotted name."""

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from colbert_research.settings import flat

logger = logging.getLogger("colbert_research")


def lines_of(folder: str | Path) -> Iterator[tuple[str, str, dict[str, Any], dict[str, float]]]:
    """Id, name of the file, settings and figures of each line of the `*.jsonl` files in a folder.

    Numbers are figures, all else is settings; lists are one setting. A line that is no mapping, one with a number that is none
    (NaN, say), and a file that cannot be read are named in the log and passed over.
    """
    for file in sorted(Path(folder).glob("*.jsonl")):
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            logger.warning("passed over: %s: %s", file, error)
            continue
        for number, line in enumerate(lines, start=1):
            try:
                values = dict(flat(json.loads(line)))
                figures = {name: _finite(name, value) for name, value in values.items() if _is_number(value)}
            except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                logger.warning("passed over: %s, line %d: %s", file, number, error)
                continue
            settings = {name: value for name, value in values.items() if name not in figures}
            yield f"{file.name}:{number}", file.stem, settings, figures


def _finite(name: str, value: float) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{name} is {value}, which is no number")
    return number


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
