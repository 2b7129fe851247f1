"""Where a run of a sweep stands, as its folder tells."""

import json
import os
import platform
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from colbert_research.artifacts import read_json, write_json
from colbert_research.experiment.output import LOCK
from colbert_research.experiment.record import CONFIG, NewerRecordError, Record, RecordError

NOTEBOOK, FAILURE, RUN_LOCK = "notebook.ipynb", "failed.json", ".run.lock"


class State(StrEnum):
    """`done`: its record is there, and vouches for the files beside it. `running`: a live process has it. `failed`: it said
    why. `damaged`: its record or a file beside it is not what was written. `crashed`: it began, and died. `newer`: its record
    is of a later version of this package, and left alone."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    DAMAGED = "damaged"
    CRASHED = "crashed"
    MISSING = "missing"
    NEWER = "newer"


SETTLED = (State.DONE, State.FAILED, State.NEWER)
"""States of runs that are not executed unless somebody asks."""


class Standing(NamedTuple):
    """The state of a run, and why where it is `failed`, `damaged` or `newer`."""

    state: State
    why: str = ""


def standing(folder: Path, id: str, *, whole: bool = False) -> Standing:
    """Where the run `id` stands in its folder; `record.json` alone says that it is done.

    The sizes of the files beside it are compared with what it says; where `whole`, their SHA-256 too.
    """
    damage = ""
    try:
        record = Record.open(folder)
        if record.id == id:
            record.check(folder)
            if whole:
                record.verify(folder)
            return Standing(State.DONE)
    except FileNotFoundError:
        pass
    except NewerRecordError as error:
        return Standing(State.NEWER, str(error))
    except RecordError as error:
        damage = str(error).replace(f"{folder}/", "")  # the run is named beside it
    if any(_alive(folder / name) for name in (RUN_LOCK, LOCK)):
        return Standing(State.RUNNING)
    if (folder / FAILURE).is_file():
        return Standing(State.FAILED, _failure_of(folder))
    if damage:
        return Standing(State.DAMAGED, damage)
    return Standing(State.CRASHED if any((folder / name).exists() for name in (CONFIG, NOTEBOOK)) else State.MISSING)


def _failure_of(folder: Path) -> str:
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
