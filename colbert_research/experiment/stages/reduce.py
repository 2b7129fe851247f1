"""Reduce: token vectors to fewer dimensions, by a projection fitted on the documents' tokens."""

from pathlib import Path
from typing import Any

from colbert_research.encoders.projection import Projection
from colbert_research.encoders.reduce import project
from colbert_research.encoders.stored import hand_on, open_stored, save_projection
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages.differs import expect_equal, expect_same
from colbert_research.experiment.workspace import Workspace
from colbert_research.ragged import NpyWriter, Ragged, sample_rows
from colbert_research.settings import ConfigError

CHUNK_ROWS = 65_536


def plan(workspace: Workspace, config: ExperimentConfig, encoded: Stage) -> Stage:
    """Reduced vectors of the documents and the projection; for the identity, the stage before."""
    if config.reducer.kind == "identity":
        return encoded
    return Stage("reduce", {"reducer": config.reducer, "seed": config.seed}, {"vectors": encoded})


def compute(workspace: Workspace, stage: Stage, folder: Path) -> dict[str, Any]:
    source = workspace.path(stage.inputs["vectors"])
    vectors = open_stored(source).tokens.vectors
    projection = _fit(stage, vectors)
    save_projection(folder, projection)
    with NpyWriter(folder / "vectors.npy", vectors.values.dtype, (projection.matrix.shape[1],)) as writer:
        for low in range(0, vectors.n_rows, CHUNK_ROWS):
            writer.append(project(vectors.values[low : low + CHUNK_ROWS], projection))
    hand_on(source, folder, "token_ids.npy", "offsets.npy")
    return {"tokens": vectors.n_rows, "dim": int(projection.matrix.shape[1])}


def check(workspace: Workspace, stage: Stage, folder: Path) -> None:
    """Fit the projection again, and project the last chunk."""
    (vectors, token_ids), stored = open_stored(workspace.path(stage.inputs["vectors"])).tokens, open_stored(folder)
    projection = _fit(stage, vectors)
    expect_same("what was learnt", {} if stored.projection is None else stored.projection.arrays(), projection.arrays())
    expect_equal("lengths of documents", stored.tokens.vectors.lengths, vectors.lengths)
    expect_equal("token ids", stored.tokens.token_ids.values, token_ids.values)
    low = max(0, vectors.n_rows - 1) // CHUNK_ROWS * CHUNK_ROWS
    reduced = stored.tokens.vectors.values
    expect_equal(f"vectors from row {low}", reduced[low:], project(vectors.values[low:], projection).astype(reduced.dtype))


def _fit(stage: Stage, vectors: Ragged) -> Projection:
    reducer, seed = stage.settings["reducer"], stage.settings["seed"]
    sample = sample_rows(vectors, max(1, reducer.sample_size(vectors.n_rows)), seed=seed)
    projection = Projection.of(reducer.fit(sample, seed=seed))
    if projection is None:
        raise ConfigError(f"reducer.kind={reducer.kind} gave no projection; use reducer.kind=identity for vectors as they are")
    return projection
