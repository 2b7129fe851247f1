"""Rank: the best documents of every query, all queries at once; the same on any number of threads."""

from pathlib import Path
from typing import Any

import numpy as np

from colbert_research.artifacts import read_json, write_json
from colbert_research.data import Collection
from colbert_research.encoders.reduce import project
from colbert_research.encoders.stored import open_stored
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages.differs import expect_equal
from colbert_research.experiment.stages.structure import open_index, role_of
from colbert_research.experiment.workspace import Workspace
from colbert_research.index import Index
from colbert_research.ranking import Ranking
from colbert_research.search import Queries, Trace

RANKING, WORK = "ranking.parquet", "work.json"
CHECKED_QUERIES = 20


def plan(workspace: Workspace, config: ExperimentConfig, *, built: Stage, queries: Stage, structures: list[Stage]) -> Stage:
    """The ranking, `ranking.parquet`, and what the search touched, `work.json`."""
    settings = searched(workspace, config)
    return Stage("rank", settings, inputs_of(built, queries, structures), means={"dataset": config.dataset})


def searched(workspace: Workspace, config: ExperimentConfig) -> dict[str, Any]:
    """The settings that decide a ranking."""
    facts = workspace.facts(config.dataset)
    return {"search": config.search, "k": config.k, "query_ids": facts.query_ids, "exclude_self": facts.exclude_self}


def inputs_of(built: Stage, queries: Stage, structures: list[Stage]) -> dict[str, Stage]:
    return {"index": built, "queries": queries} | {role_of(stage.settings["structure"]): stage for stage in structures}


def compute(workspace: Workspace, stage: Stage, folder: Path) -> dict[str, Any]:
    collection, trace = workspace.collection_of(stage), Trace()
    index = open_index(workspace, stage)
    queries = queries_of(workspace, stage, index)
    ranking = finished(stage, search(stage, index, queries, trace), collection)
    ranking.to_parquet(folder / RANKING)
    write_json(folder / WORK, [*trace.work().items()])  # pairs: an object's keys would be sorted
    found = np.diff(ranking.offsets)
    return {
        "queries": len(ranking),
        "fewer_than_k": int(np.sum(found < stage.settings["k"])),
        "shortest": int(found.min(initial=stage.settings["k"])),
        "stage_seconds": trace.seconds(),
        "search_notes": trace.notes,
    }


def check(workspace: Workspace, stage: Stage, folder: Path) -> None:
    """Search for the first queries again. What was counted of all queries together is not."""
    collection, index = workspace.collection_of(stage), open_index(workspace, stage)
    queries = queries_of(workspace, stage, index)
    stop = min(CHECKED_QUERIES, len(queries))
    again = finished(stage, search(stage, index, queries.slice(0, stop), Trace()), collection)
    stored = open_ranking(folder, collection).take(range(stop))
    expect_equal(f"documents of the first {stop} queries", stored.positions, again.positions)
    expect_equal(f"scores of the first {stop} queries", stored.scores, again.scores)


def search(stage: Stage, index: Index, queries: Queries, trace: Trace) -> Ranking:
    found: Ranking = stage.settings["search"].search(
        index, queries.vectors, wanted(stage), query_ids=queries.ids, query_texts=queries.texts, trace=trace
    )
    return found


def wanted(stage: Stage) -> int:
    """How many documents are searched for: one more where a query's own document is left out afterwards."""
    return int(stage.settings["k"]) + bool(stage.settings["exclude_self"])


def finished(stage: Stage, ranking: Ranking, collection: Collection) -> Ranking:
    """The ranking without the documents that are the queries themselves, where the collection says so."""
    return ranking.without_self().truncate(stage.settings["k"]) if stage.settings["exclude_self"] else ranking


def queries_of(workspace: Workspace, stage: Stage, index: Index) -> Queries:
    """What is searched for: query vectors, projected as the index's documents were, ids and texts."""
    collection = workspace.collection_of(stage)
    encoded = open_stored(workspace.path(stage.inputs["queries"])).tokens.vectors
    projection = index.pipeline.projection if index.pipeline is not None else None
    vectors = encoded.map(lambda values: project(values, projection))
    return Queries(vectors, collection.query_ids, collection.query_texts)


def open_ranking(folder: Path, collection: Collection) -> Ranking:
    """The ranking in a folder."""
    return Ranking.from_parquet(folder / RANKING, document_ids=collection.document_ids, query_ids=collection.query_ids)


def open_work(folder: Path) -> dict[str, Any]:
    """The counts in a folder: stage of the search -> what it touched, in the order of the stages."""
    return dict(read_json(folder / WORK))
