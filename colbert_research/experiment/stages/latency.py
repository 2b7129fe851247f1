"""Latency: how long a search takes, one query after another, with nothing else being timed on this machine."""

from pathlib import Path
from typing import Any

import numpy as np

from colbert_research import threads
from colbert_research.artifacts import write_json
from colbert_research.evaluation.timing import measure
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.origin import host
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages import rank
from colbert_research.experiment.stages.differs import DiffersError
from colbert_research.experiment.stages.structure import open_index
from colbert_research.experiment.workspace import Workspace
from colbert_research.search import Trace
from colbert_research.settings import ConfigError


def plan(workspace: Workspace, config: ExperimentConfig, ranked: Stage) -> Stage | None:
    """The times of the search that gave a ranking, on this host and this number of threads; None where none are asked for."""
    if config.latency is None:
        return None
    asked, there = config.latency.queries, workspace.facts(config.dataset).n_queries
    if asked is not None and asked > there:
        raise ConfigError(f"latency.queries={asked} is more than the {there} queries that there are; leave it out")
    timed_with = config.latency.threads or threads.count()
    if timed_with > threads.available():
        raise ConfigError(
            f"latency.threads={timed_with} is more than the {threads.available()} CPUs that this process may use; lower it"
        )
    settings = {
        **rank.searched(workspace, config),
        "repeats": config.latency.repeats,
        "queries": config.latency.queries,
        "threads": timed_with,
        "host": host(),
    }
    return Stage("latency", settings, {**ranked.inputs, "ranking": ranked}, means=ranked.means)


def compute(workspace: Workspace, stage: Stage, folder: Path) -> dict[str, Any]:
    index = open_index(workspace, stage)
    queries = rank.queries_of(workspace, stage, index)
    timed = queries.slice(0, stage.settings["queries"] or len(queries))
    settings = stage.settings
    latency = measure(
        settings["search"], index, timed, rank.wanted(stage), threads=settings["threads"], repeats=settings["repeats"]
    )
    together = rank.search(stage, index, timed, Trace())
    if not (
        np.array_equal(latency.ranking.positions, together.positions)
        and np.array_equal(latency.ranking.scores, together.scores)
    ):
        raise DiffersError(f"{settings['search']!r} finds something else for one query at a time than for all at once")
    write_json(folder / "latency.json", latency.to_json())
    return {
        "query_ms": latency.figures(),
        "stage_ms": {name: figures["median"] for name, figures in latency.stage_figures().items()},
        "queries": len(timed),
        "threads": latency.threads,
        "repeats": settings["repeats"],
    }


def check(workspace: Workspace, stage: Stage, folder: Path) -> None:
    """Times are never taken over from other code."""
    raise DiffersError("times belong to the code that took them; measure again")
