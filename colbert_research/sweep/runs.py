"""One run of a sweep: a point of its grid as an experiment, with a folder, a state and a task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from colbert_research.config import load_config
from colbert_research.experiment import Experiment, ExperimentConfig, Workspace
from colbert_research.experiment.stage import Stage
from colbert_research.locks import Lock
from colbert_research.settings import ConfigError, merge, parse_overrides, read_yaml, written
from colbert_research.sweep.config import Point
from colbert_research.sweep.places import Places
from colbert_research.sweep.states import RUN_LOCK, Standing, State, standing
from colbert_research.sweep.tasks import Task


@dataclass(frozen=True, eq=False)
class Run:
    """A point, the experiment that it is, and what executes it. Two of one id are the same run.

    `config`, `overrides`: what leads to the experiment from any working folder; the point has paths as they are written.
    """

    point: Point
    experiment: Experiment
    config: str
    overrides: str
    notebook: str
    paths: Sequence[str] = ()

    @classmethod
    def of(
        cls, point: Point, folder: Path, *, places: Places, notebook: str, paths: Sequence[str], workspace: Workspace
    ) -> "Run":
        """Validate a point. Raises ConfigError that says which point it is."""
        base = places.file(point.base, "base config")
        try:
            moved = places.settings(merge(read_yaml(base), parse_overrides(point.text)))
            overrides = written({**point.overrides, **moved}) if moved else point.text
            experiment = Experiment(load_config(ExperimentConfig, base, overrides), workspace=workspace)
            experiment.config.search.check_here()
        except ValueError as error:
            raise ConfigError(f"{point.base} {point.text}: {error}") from error
        experiment.output = type(experiment.output)(folder / experiment.id, experiment.id)
        return cls(point, experiment, base, overrides, notebook, paths)

    @property
    def id(self) -> str:
        return self.experiment.id

    @property
    def folder(self) -> Path:
        return self.experiment.output.path

    def standing(self, *, whole: bool = False) -> Standing:
        """Its state, and why; where `whole`, the files of its record are read and compared with their SHA-256."""
        return standing(self.folder, self.id, whole=whole)

    @property
    def state(self) -> State:
        return self.standing().state

    @property
    def held(self) -> bool:
        """Whether a process has it now: its lock is tried, for a file that names a process of another host tells nothing."""
        if not (self.folder / RUN_LOCK).is_file():
            return self.state is State.RUNNING
        lock = Lock(self.folder / RUN_LOCK, f"look at run {self.id}")
        try:
            free = lock.try_acquire()
        except OSError:
            return False
        lock.release()
        return not free

    @property
    def failure(self) -> str:
        """Why it failed, is damaged or is left alone, in a line; empty where it is none of these."""
        return self.standing().why

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its point lays over the base."""
        return self.point.overrides

    @cached_property
    def needs(self) -> frozenset[Stage]:
        """All its stages."""
        return frozenset(self.experiment.stages.values())

    def lacking(self) -> dict[str, Stage]:
        """The stages that are not cached, by name, in order."""
        workspace = self.experiment.workspace
        return {name: stage for name, stage in self.experiment.stages.items() if workspace.find(stage) is None}

    @property
    def task(self) -> Task:
        return Task(
            id=self.id,
            config=self.config,
            overrides=self.overrides,
            output=str(self.folder),
            notebook=self.notebook,
            paths=tuple(self.paths),
        )
