"""A sweep that several machines execute: each is one more `run` over a folder that they share, whose locks divide the runs."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colbert_research import store, threads
from colbert_research.artifacts import CACHE_VARIABLE, cache_root
from colbert_research.config import Config, component_of_line
from colbert_research.executors import EXECUTORS
from colbert_research.executors.slurm import SlurmConfig
from colbert_research.settings import ConfigError
from colbert_research.sweep.runs import Run
from colbert_research.sweep.states import FAILURE, SETTLED, State

logger = logging.getLogger("colbert_research")
Ended = Callable[[Run, State], None]


@dataclass(frozen=True)
class Share:
    """What a worker is told: the sweep's file, its folder, and what to execute of it."""

    file: str
    folder: str
    jobs: int
    only: str
    number: int = 0

    def __repr__(self) -> str:
        return f"worker {self.number} of {self.file}"

    def command(self) -> list[str]:
        """The same from a shell."""
        only = ["--only", self.only] if self.only else []
        jobs = ["--jobs", str(self.jobs), "--yes"]
        return [sys.executable, "-m", "colbert_research", "run", self.file, "--folder", self.folder, *jobs, *only]


def executor_of(given: Config | str) -> Any:
    """An executor's config from a line: `ray address=auto cpus=8`, `slurm workers=8 memory=16G`. Raises ConfigError."""
    if isinstance(given, Config):
        return given
    return component_of_line("executor", {**EXECUTORS, "slurm": SlurmConfig}, given)


def execute_elsewhere(
    executor: Any, work: Callable[[Share], None], share: Share, runs: Sequence[Run], *, ended: Ended, look: float
) -> None:
    """Let every worker of an executor do `work`, until no run is left; `ended` is told of each run, whoever executed it.

    A worker that dies is replaced, and loses the run that it had in hand. Raises what a worker raised, when others are done.
    """
    left, stop = {run.id: run for run in runs}, threading.Event()

    def tell() -> None:
        for run in list(left.values()):
            if (state := run.state) in SETTLED:
                ended(left.pop(run.id), state)

    def watch() -> None:
        while not stop.wait(look):
            tell()

    watcher = threading.Thread(target=watch, daemon=True)
    with executor.start(shared=_shared(share)) as started:
        n = min(len(runs), started.workers())
        logger.info("%d workers (%s) for %d runs", n, executor.kind, len(runs))
        watcher.start()
        try:
            for done, _ in started.map(work, [replace(share, number=i) for i in range(n)]):
                logger.info("%r finds nothing left", done)
        finally:
            stop.set()
            watcher.join()
            tell()
    for run in left.values():
        ended(run, run.state)


def _shared(share: Share) -> list[Path]:
    """The folders that all workers must see: the sweep's, and that of the cache unless an object store stands in for it."""
    return [Path(share.folder), *([] if store.Store.from_environment() else [cache_root()])]


def submit(config: SlurmConfig, share: Share, *, name: str) -> str:
    """Hand a sweep to Slurm as an array of jobs, each of which executes runs until none is left; returns what was done."""
    logs = Path(share.folder) / "slurm"
    environment = {CACHE_VARIABLE: str(cache_root()), threads.VARIABLE: str(config.cpus)}
    environment.update({name: os.environ[name] for name in ("PYTHONPATH", store.VARIABLE) if os.environ.get(name)})
    job = config.submit(share.command(), logs, name=name, environment=environment, shared=_shared(share))
    return f"job {job}: {config.workers} workers, which write into {logs}; submitted again, it continues"


def forget_failures(runs: Sequence[Run]) -> None:
    """Let runs that failed be left once more, for whichever worker finds them first."""
    for run in runs:
        (run.folder / FAILURE).unlink(missing_ok=True)


def check_shareable(file: Path | None, limit: int | None) -> str:
    """The sweep's file, absolute. Raises ConfigError where other processes could not execute it."""
    if file is None:
        raise ConfigError("an executor's workers read the sweep from its file: write it into one, and use Sweep.load")
    if limit is not None:
        raise ConfigError("limit counts the runs of one process; with an executor, choose them by `only`")
    return str(file.resolve())
