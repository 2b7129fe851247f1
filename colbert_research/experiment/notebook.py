"""What the first cells of a notebook call."""

import ast
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from colbert_research.cache import StageCache
from colbert_research.config import load_config
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.experiment import Experiment
from colbert_research.experiment.workspace import Workspace
from colbert_research.settings import ConfigError, merge, nearest, parse_overrides, read_yaml

PARAMETERS = ("config", "overrides", "output")


def start(
    config: str,
    overrides: str | Mapping[str, Any] = "",
    output: str = "",
    *,
    defaults: str | Mapping[str, Any] = "",
    workspace: Workspace | None = None,
) -> Experiment:
    """The experiment of a notebook's three parameters; writes `config.yaml` into its output folder.

    `defaults`: what this notebook sets where the config's file and the overrides do not, such as `latency.repeats=3`. The
    folder is this process's until the record is saved. A notebook opened from the folder `notebooks` runs in the project's
    root, so that the paths in configs hold. Progress is logged to the notebook and to `stdout.log` in the output folder.
    Raises ConfigError for whatever is not valid, before anything is written, and for an output folder that holds another
    experiment's record or is in use by another process.
    """
    _check_parameters(PARAMETERS)
    _check_text(config=config, overrides=overrides, output=output)
    _move_to_root()
    settings = merge(parse_overrides(defaults), merge(read_yaml(config), parse_overrides(overrides)))
    resolved = load_config(ExperimentConfig, None, settings)
    experiment = Experiment(resolved, output=output or None, workspace=workspace or _workspace())
    resolved.search.check_here()
    experiment.output.begin(experiment.config.model_dump(mode="json"))
    _log_to(experiment.output / "stdout.log")
    _show_tables_and_figures()
    return experiment


_workspaces: dict[Path, Workspace] = {}


def _workspace() -> Workspace:
    """This process's workspace of the cache that the environment names."""
    cache = StageCache.default()
    return _workspaces.setdefault(cache.root, Workspace(cache))


def _check_parameters(known: Iterable[str]) -> None:
    """Papermill only logs a parameter that a notebook lacks, and runs it with the defaults: here that is an error.

    Names that the notebook's cells assign before those that papermill injects are parameters of its own.
    """
    from IPython import get_ipython

    shell, own = get_ipython(), {*known}
    for source in shell.user_ns.get("In", []) if shell is not None else []:
        names = _assigned(source)
        if source.startswith("# Parameters\n"):  # the first line of the cell that papermill injects
            unknown = [name for name in names if name not in own]
            if unknown:
                raise ConfigError(f"unknown parameter {unknown[0]!r}: {nearest(unknown[0], own)}")
        own |= {*names}


def _assigned(source: str) -> list[str]:
    try:
        nodes = ast.parse(source).body
    except SyntaxError:  # of another language
        return []
    targets: list[ast.expr] = []
    for node in nodes:
        targets += node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _check_text(**given: Any) -> None:
    """Papermill's `-p` makes a number of what looks like one, and a truth value of `True`."""
    for name, value in given.items():
        if not isinstance(value, str | Mapping | Path):
            raise ConfigError(
                f"{name} must be text; given {value!r} ({type(value).__name__}). From the shell, `papermill -r {name} …` hands "
                "on what is written, where `-p` makes a number or a truth value of it"
            )


def prepare() -> None:
    """What the first cell of a notebook without an experiment of its own calls: it runs in the project's root, and shows its
    tables and figures as the others do, but no sentence is cut. Raises ConfigError for a parameter that the notebook lacks."""
    import pandas as pd

    _check_parameters(())
    _move_to_root()
    _show_tables_and_figures()
    pd.set_option("display.max_colwidth", None)


def root_of_notebooks() -> Path | None:
    """The project's root, where the working folder is its `notebooks` or below; None elsewhere."""
    here = Path.cwd()
    root = next((p for p in here.parents if (p / "pyproject.toml").is_file() and (p / "notebooks").is_dir()), None)
    return root if root is not None and here.is_relative_to(root / "notebooks") else None


def _move_to_root() -> None:
    if (root := root_of_notebooks()) is not None:
        os.chdir(root)


def _show_tables_and_figures() -> None:
    """Tables as wide as a page of text (pandas' 80 characters would break them in two); figures as pictures of twice the
    resolution that is shown, sharp on a phone."""
    import pandas as pd
    from IPython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    shell = get_ipython()
    if shell is not None:
        select_figure_formats(shell, {"retina"})
    pd.set_option("display.width", 180, "display.max_colwidth", 100, "display.max_rows", 100)


def _log_to(file: Path) -> None:
    """Log lines of the package go to the notebook and to `file`; a second call replaces the handlers of the first."""
    logger = logging.getLogger("colbert_research")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.INFO)
    for handler in (logging.StreamHandler(sys.stdout), logging.FileHandler(file, mode="a", encoding="utf-8")):
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
