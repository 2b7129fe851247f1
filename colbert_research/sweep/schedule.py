"""Which task of a sweep is next: stages that several runs need come first, and each is computed once."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed

from colbert_research import threads
from colbert_research.artifacts import cache_root
from colbert_research.experiment.stage import Stage
from colbert_research.sweep.full import disk_full
from colbert_research.sweep.pool import LOST, Pool
from colbert_research.sweep.runs import Run
from colbert_research.sweep.states import SETTLED, State
from colbert_research.sweep.tasks import DONE, ELSEWHERE, NO_ROOM

logger = logging.getLogger("colbert_research")
AGAIN = 3
"""So often a run is begun once more that another process had, or that was lost with the process that began it."""
LOOK = 1.0  # seconds between looks at what other processes do
SHARED = ("encode", "reduce", "pool", "cluster", "index", "structure")
"""Kinds of stages that are computed by themselves where several runs need them."""


@dataclass
class Shared:
    """A stage that several runs need: the first of them that is left, and its name there."""

    stage: Stage
    name: str
    runs: list[Run] = field(default_factory=list)

    def ready(self, left: Iterable[Stage]) -> bool:
        """Whether everything that it reads is there."""
        return not set(self.stage.inputs.values()) & set(left)


def shared_stages(runs: Sequence[Run]) -> dict[Stage, Shared]:
    """The stages that are not cached and that at least two of the runs need, inputs before what reads them."""
    found: dict[Stage, Shared] = {}
    for run in runs:
        for name, stage in run.lacking().items():
            if stage.kind in SHARED:
                found.setdefault(stage, Shared(stage, name)).runs.append(run)
    return {stage: shared for stage, shared in found.items() if len(shared.runs) > 1}


def execute(runs: Sequence[Run], *, jobs: int, ended: Callable[[Run, State], None], look: float = LOOK) -> None:
    """Execute runs in `jobs` processes at a time; those that time their search one after another, when the others are done.

    `ended` is told of each. Runs that another process has are waited for, and taken over where that dies. Raises DiskFullError
    where a disk is full, when what has begun has ended.
    """
    together = [run for run in runs if run.experiment.config.latency is None]
    alone = [run for run in runs if run.experiment.config.latency is not None]
    with Pool() as pool:
        _all(pool, together, jobs=jobs, ended=ended, look=look)
        _all(pool, alone, jobs=1, ended=ended, look=look, timed=True)


def _all(
    pool: Pool, runs: list[Run], *, jobs: int, ended: Callable[[Run, State], None], look: float, timed: bool = False
) -> None:
    each = max(1, threads.count() // jobs)
    before = {run.id for run in runs if run.state in SETTLED}
    stages = {} if timed else shared_stages(runs)
    waiting, elsewhere = list(runs), list[Run]()
    under_way: dict[int, Run | Stage] = {}
    again: dict[str, int] = {}
    full = False
    while waiting or elsewhere or under_way:
        if full and not under_way:
            done = sum(run.state is State.DONE for run in runs)
            raise disk_full([runs[0].folder.parent, cache_root()], done=done, left=len(runs) - done)
        while not full and len(under_way) < jobs and (task := _next(waiting, stages, under_way)) is not None:
            if isinstance(task, Run):
                waiting.remove(task)
                if task.id not in before and (state := task.state) in SETTLED:  # by another process meanwhile
                    ended(task, state)
                    continue
                own = task.experiment.config.latency
                n = (own.threads or threads.available()) if timed and own else each
                under_way[pool.begin(changed(task.task, threads=n), fresh=timed)] = task
            else:
                of = stages[task]
                stage_task = changed(of.runs[0].task, stage=of.name, threads=each)
                under_way[pool.begin(stage_task)] = task
        for number, status in pool.wait(look):
            task = under_way.pop(number)
            full |= status == NO_ROOM
            if isinstance(task, Stage):
                del stages[task]  # computed, or its runs will say why not
                logger.info("%s: %s; %d stages to go that several runs need", task.name, _how(status), len(stages))
            elif status in (ELSEWHERE, LOST) or task.state is State.RUNNING:
                elsewhere.append(task)
            elif status == NO_ROOM and task.state is not State.DONE:
                waiting.append(task)
            else:
                ended(task, task.state)
        for run in [run for run in elsewhere if not run.held]:
            elsewhere.remove(run)
            again[run.id] = again.get(run.id, 0) + 1
            if run.state in SETTLED or again[run.id] > AGAIN:
                ended(run, run.state)
            else:  # whoever had it died
                waiting.append(run)


def _next(waiting: Sequence[Run], stages: dict[Stage, Shared], under_way: dict[int, Run | Stage]) -> Run | Stage | None:
    """A stage that others wait for, else a run that waits for none; None where there is neither now."""
    begun = {task for task in under_way.values() if isinstance(task, Stage)}
    for stage, shared in stages.items():
        if stage not in begun and shared.ready(stages):
            return stage
    return next((run for run in waiting if not run.needs & stages.keys()), None)


def _how(status: int) -> str:
    return "computed" if status == DONE else f"not computed, exit status {status}"
