"""Files beside a record, with what was measured of it later: each with a hash by which a change is seen."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colbert_research.artifacts import read_json, write_json
from colbert_research.config import content_hash

logger = logging.getLogger("colbert_research")


def write_beside(file: Path, told: Mapping[str, Any]) -> None:
    """Write what was measured of a record into a file beside it, with a hash by which a change is seen."""
    write_json(file, {**told, "check": content_hash(told)})


def read_beside(file: Path) -> dict[str, Any]:
    """What `write_beside` wrote; nothing where there is no such file, or one that was damaged, which is named in the log."""
    try:
        if not isinstance(told := read_json(file), dict):
            raise ValueError(f"it holds a {type(told).__name__}")
        check = told.pop("check", None)  # which files of earlier versions lack
        figures = dict(told.get("figures", {}))
        if check not in (None, content_hash(told)) or not all(isinstance(value, int | float) for value in figures.values()):
            raise ValueError("it was changed since it was written")
        return told
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        logger.warning("passed over: %s: %s: %s", file, type(error).__name__, error)
        return {}
