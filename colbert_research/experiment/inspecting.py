"""How a query of a record is looked into: the command that executes `notebooks/inspect.ipynb` on it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from colbert_research.experiment.record import CONFIG

NOTEBOOK = "notebooks/inspect.ipynb"


def inspect_command(record: str | Path, query_id: str, *, paths: Sequence[str] = ()) -> str:
    """The command for a query of the record in a folder. `paths`: from where components of one's own are imported."""
    config = (Path(record) / CONFIG).as_posix()
    words = ["papermill", NOTEBOOK, "inspect-out.ipynb", "-r", "config", config, "-r", "query_id", query_id]
    before = f"PYTHONPATH={shlex.quote(':'.join(paths))} " if paths else ""
    return before + shlex.join(words)
