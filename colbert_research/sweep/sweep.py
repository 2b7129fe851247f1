"""`Sweep`: the experiments of a grid, planned, executed, and read as one table."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colbert_research import threads
from colbert_research.artifacts import write_text
from colbert_research.config import Config
from colbert_research.evaluation.comparison import DEFAULT, Comparison
from colbert_research.evaluation.difference import Criteria
from colbert_research.experiment import Record, Workspace
from colbert_research.experiment.compare import compare_records
from colbert_research.experiment.inspecting import inspect_command
from colbert_research.progress import reporting
from colbert_research.settings import ConfigError, flat, nearest, parse_overrides, written
from colbert_research.sweep.chosen import chosen, settings_of
from colbert_research.sweep.config import SweepConfig
from colbert_research.sweep.full import is_full
from colbert_research.sweep.memory import check_memory
from colbert_research.sweep.mlflow_export import Exported, export
from colbert_research.sweep.notebooks import check_notebook
from colbert_research.sweep.places import PATHS, Places, check_folder, claim_folder
from colbert_research.sweep.plan import Plan, varying
from colbert_research.sweep.report import Reported, write_report
from colbert_research.sweep.runs import Run
from colbert_research.sweep.schedule import LOOK, execute
from colbert_research.sweep.states import FAILURE, SETTLED, State, write_failure
from colbert_research.sweep.workers import Share, check_shareable, execute_elsewhere, executor_of, forget_failures, submit

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("colbert_research")
SUMMARY = "summary.csv"


class Sweep:
    """The runs of a sweep's config, in the order of its grid; each point that leads to the same experiment is one run.

    `file`: the YAML file that it was read from. Relative paths are seen from the folder of that, then from its project, then
    from the working folder; see `Places`. `folder`: where the records lie, each below its id; `experiments/<name>` in the
    project by default.
    """

    def __init__(
        self,
        config: SweepConfig,
        *,
        name: str = "sweep",
        file: str | Path | None = None,
        folder: str | Path | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        self.config, self.name, self._file = config, name, None if file is None else Path(file)
        self._places = Places((Path(".") if self._file is None else self._file.parent).absolute())
        self.folder = (Path(folder) if folder else self._places.records(name)).absolute()
        self._workspace = workspace or Workspace()

    @classmethod
    def load(cls, path: str | Path, *, folder: str | Path | None = None, workspace: Workspace | None = None) -> "Sweep":
        """The sweep of a YAML file. Raises ConfigError."""
        path = Path(path)
        config = SweepConfig.load(path)
        return cls(config, name=path.stem, file=path, folder=folder, workspace=workspace)

    def __repr__(self) -> str:
        return f"Sweep({self.name}: {self.config.size} points, in {str(self.folder)!r})"

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every run; all are validated. Raises ConfigError for the first point that is not valid."""
        places = self._places
        notebook = places.file(self.config.notebook, "notebook")
        check_notebook(notebook)
        paths = [str(Path(places.file(module, "module")).parent) for module in self.config.modules]
        found: dict[str, Run] = {}
        with importing(paths):
            for point in self.config.expand():
                run = Run.of(point, self.folder, places=places, notebook=notebook, paths=paths, workspace=self._workspace)
                if found.setdefault(run.id, run) is not run:
                    logger.info("%s %s is the experiment %s once more: one run", point.base, point.text, run.id)
        if not found:
            raise ConfigError(f"sweep {self.name} has no experiments: `exclude` leaves none of its {self.config.size} points")
        return tuple(found.values())

    @property
    def varied(self) -> list[str]:
        """The settings that vary, in the order of the file."""
        return varying(self.runs)

    def plan(self) -> Plan:
        """What is done and what is left; no model is loaded and nothing computed."""
        return Plan.of(self.runs)

    def run(
        self,
        *,
        jobs: int = 1,
        only: str | Mapping[str, Any] = "",
        limit: int | None = None,
        retry: bool = False,
        look: float = LOOK,
        executor: Config | str = "inline",
    ) -> "pd.DataFrame":
        """Execute the runs that are not done, `jobs` at a time, and write `summary.csv`; returns the table of `frame`.

        `only`: settings that a run must have, as overrides are written. `limit`: so many of those that are left, the first
        ones. `retry`: those that failed too. Processes share the threads of this machine. What another process has is waited
        for. `executor`: whose workers each execute runs so, over a shared folder (`ray address=auto cpus=8`); here by default.
        Raises ConfigError for more jobs than there are threads or memory, DiskFullError where a disk is full.
        """
        elsewhere, most = executor_of(executor), threads.available()
        if elsewhere.kind == "slurm":
            raise ConfigError("executor slurm: nobody waits for its jobs; use Sweep.submit, or the command `run`")
        share = None if elsewhere.kind == "inline" else self._share(jobs, only, limit)
        if share is None and not 1 <= jobs <= most:
            expected = f"1 to {most}, the CPUs" if most > 1 else "1, the only CPU"
            raise ConfigError(f"jobs: expected {expected} of this process; given {jobs}")
        left = [run for run in self.selected(only) if self._is_left(run, retry)][:limit]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise ConfigError(
                f"the records' folder {str(self.folder)!r} cannot be written to ({error}); choose another"
            ) from None
        claim_folder(self.folder, self.name, self._file)
        own = [run for run in left if _only_here(run)]
        others = [run for run in left if run not in own]
        if share is None:
            check_memory(self.runs, others, jobs)
        with reporting(total=len(left), description=f"sweep {self.name}", unit="runs") as report:

            def ended(run: Run, state: State) -> None:
                if state is not State.DONE:
                    logger.warning("%s %s (%s): %s", run.id, state, run.point.text, run.failure or run.folder / "stdout.log")
                report.advance()

            for run in own:
                _execute_here(run)
                ended(run, run.state)
            if share is None:
                execute(others, jobs=jobs, ended=ended, look=look)
            elif others:
                forget_failures(others)
                execute_elsewhere(elsewhere, work, share, others, ended=ended, look=look)
        self._write_summary()
        return self.frame()

    def submit(self, executor: Config | str, *, jobs: int = 1, only: str | Mapping[str, Any] = "", retry: bool = False) -> str:
        """Hand the runs that are not done to Slurm (`slurm workers=8 memory=16G`), as a job of which it says the number.

        `jobs`, `only`, `retry`: as `run` has them, in every worker. Raises ConfigError where `sbatch` is not there, or refuses.
        """
        elsewhere, share = executor_of(executor), self._share(jobs, only, None)
        if elsewhere.kind != "slurm":
            raise ConfigError(f"executor {elsewhere.kind} is waited for: use Sweep.run")
        left = [run for run in self.selected(only) if self._is_left(run, retry)]
        if not left:
            return "nothing is left to run"
        claim_folder(self.folder, self.name, self._file)
        forget_failures(left)
        return submit(elsewhere, share, name=self.name)

    def _share(self, jobs: int, only: str | Mapping[str, Any], limit: int | None) -> Share:
        return Share(check_shareable(self._file, limit), str(self.folder), jobs, written(dict(flat(parse_overrides(only)))))

    def selected(self, only: str | Mapping[str, Any] = "") -> list[Run]:
        """The runs that have some settings. Raises ConfigError where there is none."""
        return chosen(self.runs, only)

    def frame(self) -> "pd.DataFrame":
        """One row per run: state, the settings that vary, and what its record says, or why it failed."""
        import pandas as pd

        rows = [
            {
                "run": run.id,
                "state": str(State.DONE),
                "collection": run.experiment.facts.name,
                **_settings(run, self.varied),
                **_measured(run),
            }
            for run in self.runs
        ]
        return pd.DataFrame(rows).set_index("run")

    def compare(
        self, *, baseline: str = "", measures: Sequence[str] = (), criteria: Criteria = DEFAULT
    ) -> dict[str, Comparison]:
        """By collection, its finished runs against one of them, query by query; see `compare_records`.

        `baseline`: the id of a run, by default the first of each collection. Collections with a single run are left out.
        Raises ConfigError for a baseline that is no finished run, and where there is nothing to compare.
        """
        done: dict[str, list[Run]] = {}
        for run in self.runs:
            state, why = run.standing(whole=True)
            if why:
                logger.warning("left out: %s %s: %s", run.id, state, why)
            if state is State.DONE:
                done.setdefault(run.experiment.facts.fingerprint, []).append(run)
        ids = [run.id for runs in done.values() for run in runs]
        if baseline and baseline not in ids:
            why = next((run.standing(whole=True).why for run in self.runs if run.id == baseline), "")
            raise ConfigError(f"baseline: {baseline!r} is no finished run of this sweep; {why or nearest(baseline, ids)}")
        found = {}
        for runs in done.values():
            first = next((run for run in runs if run.id == baseline), runs[0])
            if len(runs) > 1 and (not baseline or first.id == baseline):
                found[first.experiment.facts.name] = compare_records(
                    [run.folder for run in runs], baseline=first.folder, measures=measures, criteria=criteria
                )
        if not found:
            raise ConfigError(f"sweep {self.name}: nothing to compare, {len(ids)} of {len(self.runs)} runs are done")
        return found

    def report(self, folder: str | Path | None = None, *, baseline: str = "", criteria: Criteria = DEFAULT) -> Path:
        """Write a page with tables and figures into a folder, by default `report` beside the records; returns the page."""
        if folder is None:
            check_folder(self.folder, self.name, self._file)
        comparisons = self.compare(baseline=baseline, criteria=criteria)
        measures = self.runs[0].experiment.config.measures
        runs = {run.id: run for run in self.runs}

        def command(run: str, query: str) -> str:
            return inspect_command(runs[run].folder, query, paths=runs[run].paths)

        told = Reported(self.name, self.plan().words(), self.frame(), self.varied, [*self.config.grid], measures, command)
        return write_report(told, comparisons, Path(folder or self.folder / "report"))

    def export_mlflow(self, uri: str = "") -> Exported:
        """Put the records of the finished runs into MLflow, under the name of the sweep; what is there already stays.

        `uri`: a tracking server or a database; by default `$MLFLOW_TRACKING_URI`, else `mlflow.db` beside the records' folder.
        Raises ConfigError without the extra `mlflow`.
        """
        uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.folder.resolve().parent / 'mlflow.db'}"
        done = [run.folder for run in self.runs if run.standing(whole=True).state is State.DONE]
        found = ((folder, Record.open(folder)) for folder in done)
        return export(found, uri=uri, experiment=self.name, location=self.folder, varied=self.varied)

    def _write_summary(self) -> Path:
        """Write `summary.csv`: what the records say of quality and bytes, which no interruption changes."""
        varied, several = self.varied, len({run.point.base for run in self.runs}) > 1
        done = [run for run in self.runs if run.state is State.DONE]
        rows = []
        for run in done:
            record = Record.open(run.folder)
            figures = {name: f"{value:.6f}" for name, value in record.metrics.items()}
            base = {"base": run.point.base} if several else {}
            rows.append(
                {"run": run.id, "collection": record.dataset["name"], **base, **_settings(run, varied), **figures}
                | record.index_figures()
            )
        import pandas as pd

        write_text(self.folder / SUMMARY, pd.DataFrame(rows).to_csv(index=False))
        return self.folder / SUMMARY

    def _is_left(self, run: Run, retry: bool) -> bool:
        state, why = run.standing(whole=True)
        if state in (State.DAMAGED, State.NEWER):
            logger.warning("%s %s: %s", run.id, state, why)
        return state not in SETTLED or (retry and state is State.FAILED)


def work(share: Share) -> None:
    """Execute what is left of a sweep, in a worker."""
    Sweep.load(share.file, folder=share.folder).run(jobs=share.jobs, only=share.only)


def _settings(run: Run, varied: Sequence[str]) -> dict[str, Any]:
    """The settings that vary, as they are in force; paths as they are written."""
    own = settings_of(run) | {name: run.settings[name] for name in PATHS if name in run.settings}
    return {name: own.get(name, run.settings.get(name, "")) for name in varied}


def _measured(run: Run) -> dict[str, Any]:
    """What a run's record says; why there is none."""
    state, why = run.standing()
    if state is not State.DONE:
        return {"state": str(state), "failure": why}
    record = Record.open(run.folder)
    times = {"ms/query": record.query_ms["median"], "p95": record.query_ms["p95"]} if record.query_ms else {}
    return {**record.metrics, **record.index_figures(), **times}


def _only_here(run: Run) -> bool:
    """Whether a component of a run is defined in this very process, as in a cell, so that no other one can import it."""
    config = run.experiment.config
    parts = (config.dataset, config.encoder, config.reducer, config.pooling, config.codec, config.search)
    return any(type(part).__module__ == "__main__" for part in parts)


def _execute_here(run: Run) -> None:
    """Without papermill and without a notebook: what only this process knows is computed by it."""
    try:
        (run.folder / FAILURE).unlink(missing_ok=True)
        run.experiment.output.begin(run.experiment.config.model_dump(mode="json"))
        run.experiment.save()
    except Exception as error:
        if is_full(error):
            raise
        logger.exception("run %s failed", run.id)
        write_failure(run.folder, f"{type(error).__name__}: {error}")
    finally:
        run.experiment.output.release()


@contextmanager
def importing(paths: Sequence[str]) -> Iterator[None]:
    """Let modules in some folders be imported in the block."""
    before = list(sys.path)
    sys.path[:0] = [path for path in paths if path not in sys.path]
    try:
        yield
    finally:
        sys.path[:] = before
