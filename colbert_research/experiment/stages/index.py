"""Index: the codec fitted, and all documents through it into segments."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.encoders import TextPipeline
from colbert_research.encoders.stored import StoredVectors, open_stored
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages import cluster
from colbert_research.experiment.stages.differs import DiffersError, expect_equal
from colbert_research.experiment.workspace import Workspace
from colbert_research.index import Index, build_index
from colbert_research.ragged import sample_rows

FOLDER = "index"
CHECKED_DOCUMENTS = 1024


def plan(workspace: Workspace, config: ExperimentConfig, stored: Stage, clustered: Stage | None) -> Stage:
    """The index, in the artifact's folder `index`, with the pipeline that turns texts into its vectors."""
    facts = workspace.facts(config.dataset)
    settings = {
        "codec": config.codec,
        "documents": facts.store,
        "encoder": workspace.fingerprint(config.encoder)[0],
        "text_fields": facts.text_fields,
        "build": config.index,
        "pooling": config.pooling,
        "seed": config.seed,
    }
    inputs = {"vectors": stored} | ({"centroids": clustered} if clustered else {})
    return Stage("index", settings, inputs, means={"encoder": config.encoder, "dataset": config.dataset})


def compute(workspace: Workspace, stage: Stage, folder: Path) -> dict[str, Any]:
    stored = open_stored(workspace.path(stage.inputs["vectors"]))
    built = build_index(
        folder / FOLDER,
        workspace.collection_of(stage),
        stored.tokens.vectors,
        stage.settings["codec"],
        seed=stage.settings["seed"],
        build=stage.settings["build"],
        centroids=_centroids(workspace, stage),
        pipeline=_pipeline(stage, stored),
    )
    return {"tokens": built.n_tokens, "bytes": built.nbytes()}


def check(workspace: Workspace, stage: Stage, folder: Path) -> None:
    """Fit the codec again, and encode the last documents."""
    index, stored = Index.open(folder / FOLDER), open_stored(workspace.path(stage.inputs["vectors"])).tokens.vectors
    codec, seed = stage.settings["codec"], stage.settings["seed"]
    sample = sample_rows(stored, codec.sample_size(stored.n_rows), seed=seed)
    fitted = codec.fit(sample, n_tokens=stored.n_rows, seed=seed, centroids=_centroids(workspace, stage))
    for name, array in fitted.state().items():
        expect_equal(f"state {name!r} of the codec", index.codec.state()[name], np.asarray(array))
    positions = np.arange(max(0, len(stored) - CHECKED_DOCUMENTS), len(stored))
    codes, offsets = index.codes_of(positions)
    again = stored.take(positions)
    expect_equal("lengths of the last documents", offsets, again.offsets)
    for name, array in fitted.encode(np.asarray(again.values, np.float32)).items():
        expect_equal(f"codes {name!r} of the last documents", codes[name], array)
    collection = workspace.collection_of(stage)
    if index.document_ids != collection.document_ids:
        raise DiffersError("document ids: those of the index are not those of the collection")


def _centroids(workspace: Workspace, stage: Stage) -> NDArray[np.float32] | None:
    clustered = stage.inputs.get("centroids")
    return None if clustered is None else np.load(workspace.path(clustered) / cluster.FILE)


def _pipeline(stage: Stage, stored: StoredVectors) -> TextPipeline:
    """What made the vectors."""
    return TextPipeline(
        stage.means["encoder"],
        stage.settings["encoder"],
        stored.tokens.vectors.dim,
        stored.projection,
        stage.settings["pooling"],
        stored.pooler_state,
        stage.settings["seed"],
        stage.settings["text_fields"],
    )
