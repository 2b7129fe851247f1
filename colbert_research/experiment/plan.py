"""The stages of an experiment, in order, from its config."""

from collections.abc import Mapping
from dataclasses import replace

from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages import cluster, encode, index, latency, pool, rank, reduce, structure
from colbert_research.experiment.workspace import Workspace

ENCODED, QUERIES, RANK, LATENCY = "encode documents", "encode queries", "rank", "latency"


def planned(workspace: Workspace, config: ExperimentConfig) -> dict[str, Stage]:
    """Name -> stage, inputs before what reads them; without `reduce`, `pool`, `cluster`, `latency` where there are none.

    Structures beside the codes are named after their kinds. No model is loaded and nothing computed; a collection is read only
    where its files are not known yet.
    """
    sides = (encode.plan(workspace, config, "documents"), encode.plan(workspace, config, "queries"))
    documents, queries = (_elsewhere(config, each) for each in sides)
    reduced = reduce.plan(workspace, config, documents)
    pooled = pool.plan(workspace, config, reduced)
    clustered = cluster.plan(workspace, config, pooled)
    built = _elsewhere(config, index.plan(workspace, config, pooled, clustered))
    structures: list[Stage] = []
    for needed in config.search.structures():
        structures.append(structure.plan(needed, built, structures, config.search))
    ranked = rank.plan(workspace, config, built=built, queries=queries, structures=structures)
    stages: dict[str, Stage | None] = {
        ENCODED: documents,
        QUERIES: queries,
        "reduce": None if reduced is documents else reduced,
        "pool": None if pooled is reduced else pooled,
        "cluster": clustered,
        "index": built,
        **{f"structure {stage.settings['structure'].kind}": stage for stage in structures},
        RANK: ranked,
        LATENCY: latency.plan(workspace, config, ranked),
    }
    return {name: stage for name, stage in stages.items() if stage is not None}


def _elsewhere(config: ExperimentConfig, stage: Stage) -> Stage:
    """A stage that the config's executor computes."""
    return replace(stage, means={**stage.means, "executor": config.executor})


def structures_of(stages: Mapping[str, Stage]) -> dict[str, str]:
    """Kind of each structure beside the codes -> the name of its stage."""
    return {stage.settings["structure"].kind: name for name, stage in stages.items() if stage.kind == "structure"}
