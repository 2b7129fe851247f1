"""What the processes of a sweep are told to do, and how they do it: execute a notebook, or compute a stage that many share."""

import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from colbert_research import threads
from colbert_research.experiment.output import OutputInUseError
from colbert_research.locks import Lock
from colbert_research.sweep.full import is_full
from colbert_research.sweep.states import FAILURE, NOTEBOOK, RUN_LOCK, State, standing, write_failure

DONE, FAILED, ELSEWHERE, NO_ROOM = 0, 3, 4, 5
"""Exit statuses: it is done; it failed and said why; another process has it; a disk is full, and it goes on later."""


@dataclass(frozen=True)
class Task:
    """A run, or one stage of it: everything that a process needs to know, as text.

    `config`, `overrides`, `output`: the notebook's parameters. `stage`: the name of the only stage to compute; all, and the
    notebook, where it is empty. `paths`: where Python finds modules of one's own.
    """

    id: str
    config: str
    overrides: str
    output: str
    notebook: str
    stage: str = ""
    threads: int = 1
    paths: Sequence[str] = ()

    def command(self) -> list[str]:
        """What does the task in a fresh process."""
        return [sys.executable, "-c", "from colbert_research.sweep.tasks import main; main()", json.dumps(asdict(self))]


def perform(task: Task) -> int:
    """Do a task in this process, whose output is written to `stdout.log` of the run; returns the exit status."""
    folder = Path(task.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _say_into(folder / "stdout.log")
    except OSError as error:
        return NO_ROOM if is_full(error) else FAILED
    os.environ["COLBERT_RESEARCH_PROGRESS"] = "log"
    threads.use(task.threads)
    sys.path[:0] = [path for path in task.paths if path not in sys.path]
    return _compute(task) if task.stage else _execute(task, folder)


def _execute(task: Task, folder: Path) -> int:
    lock = Lock(folder / RUN_LOCK, f"run {task.id}")
    if not lock.try_acquire():
        return ELSEWHERE
    try:
        if standing(folder, task.id, whole=True).state is State.DONE:
            return DONE
        (folder / FAILURE).unlink(missing_ok=True)
        _check(task, folder)
        _papermill(task, folder)
        if standing(folder, task.id).state is State.DONE:
            return DONE
        write_failure(folder, f"{task.notebook} saved no record of this run; its last cell calls experiment.save()")
        return FAILED
    except Exception as error:  # whatever a cell raises is this run's last line
        if getattr(error, "ename", "") == OutputInUseError.__name__:
            return ELSEWHERE
        if is_full(error):  # it has not failed, and is begun again when there is room
            logging.getLogger("colbert_research").error("run %s stopped: %s", task.id, _line(error))
            return NO_ROOM
        logging.getLogger("colbert_research").exception("run %s failed", task.id)
        with suppress(OSError):
            write_failure(folder, _line(error), cell=getattr(error, "exec_count", None))
        return FAILED
    finally:
        lock.release()


def _check(task: Task, folder: Path) -> None:
    """Raise ConfigError where the task does not lead to its experiment any more, or another one's record is in the way."""
    from colbert_research.config import load_config
    from colbert_research.experiment import Experiment, ExperimentConfig, Record, RecordError
    from colbert_research.settings import ConfigError

    now = Experiment(load_config(ExperimentConfig, task.config, task.overrides), output=folder).id
    if now != task.id:
        raise ConfigError(
            f"{task.config} or its data were changed since the sweep was planned: it leads to {now} now; plan again"
        )
    with suppress(FileNotFoundError, RecordError):
        if (there := Record.open(folder).id) != task.id:
            raise ConfigError(f"{folder} holds the record of another experiment, {there}; move that folder away")


def _papermill(task: Task, folder: Path) -> None:
    import papermill
    from papermill.engines import papermill_engines
    from papermill.iorw import papermill_io

    from colbert_research.sweep.engine import InProcess, WholeFiles

    papermill_engines.register("in-process", InProcess)
    papermill_io.register(str(folder / NOTEBOOK), WholeFiles())
    logging.getLogger("papermill").setLevel(logging.WARNING)
    parameters = {"config": task.config, "overrides": task.overrides, "output": task.output}
    papermill.execute_notebook(
        task.notebook, str(folder / NOTEBOOK), parameters=parameters, engine_name="in-process", progress_bar=False
    )


def _compute(task: Task) -> int:
    from colbert_research.config import load_config
    from colbert_research.experiment import Experiment, ExperimentConfig

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        experiment = Experiment(load_config(ExperimentConfig, task.config, task.overrides), output=task.output)
        experiment.run(task.stage)
    except Exception as error:  # the runs that need the stage will say the same
        if is_full(error):
            logging.getLogger("colbert_research").error("%s of run %s stopped: %s", task.stage, task.id, error)
            return NO_ROOM
        logging.getLogger("colbert_research").exception("%s of run %s failed", task.stage, task.id)
        return FAILED
    return DONE


def _line(error: Exception) -> str:
    """An error in a line; of one that papermill hands on, the cell's own."""
    name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    return " ".join(f"{name}: {value}".split())


def _say_into(file: Path) -> None:
    """Let everything that this process prints, compiled code included, be appended to a file."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError, OSError):
            stream.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def main() -> None:
    """Do the task in the last argument; see `Task.command`."""
    sys.exit(perform(Task(**json.loads(sys.argv[-1]))))
