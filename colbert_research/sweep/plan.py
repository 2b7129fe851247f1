"""What a sweep still has to do, in a table and in a sentence."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from colbert_research.experiment import Record
from colbert_research.experiment.stage import Stage
from colbert_research.progress import about
from colbert_research.sweep.runs import Run
from colbert_research.sweep.states import SETTLED, State

if TYPE_CHECKING:
    import pandas as pd

OVERHEAD = 3.0  # seconds of a run beside its stages
KINDS = {
    "encode": ("encode", "encodes"),
    "reduce": ("projection", "projections"),
    "pool": ("pooling", "poolings"),
    "cluster": ("clustering", "clusterings"),
    "index": ("index", "indexes"),
    "structure": ("structure", "structures"),
}
"""Stages that take long, in the order of the flow, in words."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The runs with their states, why these are what they are (see `Standing`), and the stages that those to run lack, by name.

    `seconds`: what they took in records of this sweep, in all and before it is divided by jobs; None where one is not known.
    `cache_bytes`: of all stages of the runs that are cached.
    """

    runs: Sequence[Run]
    states: Mapping[str, State]
    why: Mapping[str, str]
    lacking: Mapping[str, Mapping[str, Stage]]
    seconds: float | None
    cache_bytes: int

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Plan":
        standings = {run.id: run.standing() for run in runs}
        states = {id: each.state for id, each in standings.items()}
        left = [run for run in runs if states[run.id] not in SETTLED]
        lacking = {run.id: run.lacking() for run in left}
        known = _known_seconds([run for run in runs if states[run.id] is State.DONE])
        stages = {stage: name for missing in lacking.values() for name, stage in missing.items()}
        seconds = None if {*stages.values()} - {*known} else sum(known[name] for name in stages.values()) + OVERHEAD * len(left)
        cached = {stage: run.experiment.workspace.find(stage) for run in runs for stage in run.needs}
        sizes = [sum(file["bytes"] for file in artifact.files.values()) for artifact in cached.values() if artifact is not None]
        return cls(runs, states, {id: each.why for id, each in standings.items()}, lacking, seconds, sum(sizes))

    def words(self, jobs: int = 1) -> str:
        """`72 runs: 60 done, 12 to run (2 encodes, 3 indexes), about 14 min, 2.1 GB of cache`."""
        counts = Counter(self.states.values())
        said = [f"{counts[state]} {state}" for state in (State.DONE, State.RUNNING, State.FAILED) if counts[state]]
        if counts[State.NEWER]:
            said.append(f"{counts[State.NEWER]} of a later version of this package, left alone")
        left = counts[State.MISSING] + counts[State.CRASHED] + counts[State.DAMAGED]
        if left:
            kinds = Counter(stage.kind for stage in {stage for stages in self.lacking.values() for stage in stages.values()})
            needs = ", ".join(f"{n} {words[n > 1]}" for kind, words in KINDS.items() if (n := kinds[kind]))
            before = [
                f"{n} {how}" for n, how in ((counts[State.CRASHED], "begun before"), (counts[State.DAMAGED], "damaged")) if n
            ]
            notes = "; ".join(part for part in (", ".join(before), needs) if part)
            said.append(f"{left} to run" + (f" ({notes})" if notes else ""))
            said.append("time not known before the first is done" if self.seconds is None else about(self.seconds / jobs))
        runs = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        return f"{runs}: {', '.join(said)}, {self.cache_bytes / 1e9:.1f} GB of cache"

    def table(self) -> "pd.DataFrame":
        """One row per run: state, what it still needs, why it failed, and the settings that vary."""
        import pandas as pd

        varied = varying(self.runs)
        rows = [
            {
                "run": run.id,
                "state": str(self.states[run.id]),
                "needs": ", ".join(self.lacking.get(run.id, ())),
                **{name: run.settings.get(name, "") for name in varied},
                "base": run.point.base,
                "failure": self.why[run.id],
            }
            for run in self.runs
        ]
        frame = pd.DataFrame(rows).set_index("run")
        said = {"failure": frame["failure"].any(), "base": frame["base"].nunique() > 1, "needs": frame["needs"].any()}
        return frame.drop(columns=[name for name, shown in said.items() if not shown])

    def __repr__(self) -> str:
        return f"Plan({self.words()})"


def varying(runs: Sequence[Run]) -> list[str]:
    """The settings in which the points of some runs differ, in the order of the sweep's file."""
    names = list(dict.fromkeys(name for run in runs for name in run.settings))
    return [name for name in names if len({str(run.settings.get(name, "")) for run in runs}) > 1]


def _known_seconds(done: Sequence[Run]) -> dict[str, float]:
    """The median time of each stage, by its name, in the records of runs that are done."""
    seconds: dict[str, list[float]] = {}
    for run in done:
        for name, value in Record.open(run.folder).measured["seconds"].items():
            seconds.setdefault(name, []).append(float(value))
    return {name: median(values) for name, values in seconds.items()}
