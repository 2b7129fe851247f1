"""Pool: fewer token vectors per document, chunk by chunk. Queries are not pooled."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.encoders.base import TokenVectors
from colbert_research.encoders.pooling.base import State
from colbert_research.encoders.stored import PROJECTION, StoredVectors, hand_on, open_stored, save_pooler_state
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages.differs import expect_equal, expect_same
from colbert_research.experiment.workspace import Workspace
from colbert_research.progress import progress
from colbert_research.ragged import NpyWriter, offsets_of, save_npy

CHUNK_ROWS = 65_536


def plan(workspace: Workspace, config: ExperimentConfig, reduced: Stage) -> Stage:
    """Pooled token vectors with their token ids, and what the pooler learnt; without pooling, the stage before."""
    if config.pooling.kind == "none":
        return reduced
    return Stage("pool", {"pooling": config.pooling, "seed": config.seed}, {"vectors": reduced})


def compute(workspace: Workspace, stage: Stage, folder: Path) -> dict[str, Any]:
    source = workspace.path(stage.inputs["vectors"])
    documents = open_stored(source).tokens
    state = stage.settings["pooling"].fit(documents)
    save_pooler_state(folder, state)
    lengths: list[NDArray[np.int64]] = []
    with (
        NpyWriter(folder / "vectors.npy", documents.vectors.values.dtype, (documents.vectors.dim,)) as vectors,
        NpyWriter(folder / "token_ids.npy", np.int32) as token_ids,
    ):
        spans = _spans(documents)
        for start, stop in progress(spans, total=len(spans), description="pool", unit=f"chunks of {CHUNK_ROWS} tokens"):
            pooled = _pooled(stage, documents, state, start, stop)
            vectors.append(pooled.vectors.values)
            token_ids.append(pooled.token_ids.values)
            lengths.append(pooled.vectors.lengths)
    offsets = offsets_of(np.concatenate(lengths) if lengths else [])
    save_npy(folder / "offsets.npy", offsets)
    hand_on(source, folder, *PROJECTION)
    return {"tokens": int(offsets[-1]), "tokens_before": documents.vectors.n_rows}


def check(workspace: Workspace, stage: Stage, folder: Path) -> None:
    """Fit the pooler again, and pool the last chunk."""
    source, stored = open_stored(workspace.path(stage.inputs["vectors"])), open_stored(folder)
    documents = source.tokens
    expect_same("what was handed on", _projection(stored), _projection(source))
    state = stage.settings["pooling"].fit(documents)
    expect_same("state of the pooler", stored.pooler_state, state)
    for start, stop in _spans(documents)[-1:]:
        again = _pooled(stage, documents, state, start, stop)
        there, token_ids = (part.slice(start, stop) for part in stored.tokens)
        expect_equal(f"lengths of documents {start} to {stop}", there.lengths, again.vectors.lengths)
        expect_equal(f"vectors of documents {start} to {stop}", there.values, again.vectors.values.astype(there.values.dtype))
        expect_equal(f"token ids of documents {start} to {stop}", token_ids.values, again.token_ids.values.astype(np.int32))


def _projection(stored: StoredVectors) -> dict[str, NDArray[np.float32]]:
    return {} if stored.projection is None else stored.projection.arrays()


def _spans(documents: TokenVectors) -> list[tuple[int, int]]:
    starts = [start for start, _ in documents.vectors.chunks(CHUNK_ROWS)]
    return list(zip(starts, [*starts[1:], len(documents.vectors)], strict=True))


def _pooled(stage: Stage, documents: TokenVectors, state: State, start: int, stop: int) -> TokenVectors:
    chunk = TokenVectors(*(part.slice(start, stop) for part in documents))
    pooled: TokenVectors = stage.settings["pooling"].pool(chunk, state, seed=stage.settings["seed"])
    return pooled
