"""Where a run of a sweep stands, as its folder tells."""

import json
import os
import platform
from enum import StrEnum
from pathlib import Path
from typing import Any

from colbert_research.artifacts import read_json, write_json
from colbert_research.experiment.output import LOCK
from colbert_research.experiment.record import CONFIG, Record, RecordError

NOTEBOOK, FAILURE, RUN_LOCK = "notebook.ipynb", "failed.json", ".run.lock"


class State(StrEnum):
    """`done`: its record is there. `running`: a live process has it. `failed`: it said why. `crashed`: it began, and died."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    CRASHED = "crashed"
    MISSING = "missing"


def state_of(folder: Path, id: str) -> State:
    """The state of the run `id` in its folder; `record.json` alone says that it is done."""
    try:
        if Record.open(folder).id == id:
            return State.DONE
    except (FileNotFoundError, RecordError):
        pass
    if any(_alive(folder / name) for name in (RUN_LOCK, LOCK)):
        return State.RUNNING
    if (folder / FAILURE).is_file():
        return State.FAILED
    return State.CRASHED if any((folder / name).exists() for name in (CONFIG, NOTEBOOK)) else State.MISSING


def failure_of(folder: Path) -> str:
    """Why a run failed, in a line; empty where that is not known."""
    try:
        return str(read_json(folder / FAILURE)["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def write_failure(folder: Path, error: str, **where: Any) -> None:
    """Say in a run's folder why it failed."""
    write_json(folder / FAILURE, {"error": error, "host": platform.node(), "process": os.getpid(), **where})


def _alive(lock: Path) -> bool:
    """Whether the process that a lock's file names lives, as far as can be told: one of another host may."""
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
        if holder["host"] != platform.node():
            return True
        os.kill(holder["process"], 0)
    except (FileNotFoundError, ProcessLookupError, ValueError, KeyError, TypeError):
        return False
    except OSError:  # of another user
        return True
    return True
