"""Index: the codec fitted, and all documents through it into segments."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.encoders import TextPipeline
from colbert_research.encoders.anisotropy import anisotropy
from colbert_research.encoders.stored import StoredVectors, open_stored
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages import cluster
from colbert_research.experiment.stages.differs import DiffersError, expect_equal, expect_same
from colbert_research.experiment.workspace import Workspace
from colbert_research.index import Index, build_index
from colbert_research.index.inverted import InvertedLists
from colbert_research.index.writing import document_at
from colbert_research.ragged import load_npy, sample_rows

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
    spread = anisotropy(stored.tokens.vectors, seed=stage.settings["seed"])
    return {"tokens": built.n_tokens, "bytes": built.nbytes(), "anisotropy": spread}


def check(workspace: Workspace, stage: Stage, folder: Path) -> None:
    """Fit the codec again, encode and read the last documents, and compare the rest with what it is made of."""
    index, collection = Index.open(folder / FOLDER), workspace.collection_of(stage)
    stored = open_stored(workspace.path(stage.inputs["vectors"]))
    vectors = stored.tokens.vectors
    codec, seed = stage.settings["codec"], stage.settings["seed"]
    sample = sample_rows(vectors, codec.sample_size(vectors.n_rows), seed=seed)
    fitted = codec.fit(sample, n_tokens=vectors.n_rows, seed=seed, centroids=_centroids(workspace, stage))
    expect_same("state of the codec", index.codec.state(), fitted.state())
    if index.document_ids != collection.document_ids:
        raise DiffersError("document ids: those of the index are not those of the collection")
    positions = np.arange(max(0, len(vectors) - CHECKED_DOCUMENTS), len(vectors))
    codes, offsets = index.codes_of(positions)
    again = vectors.take(positions)
    expect_equal("lengths of the last documents", offsets, again.offsets)
    expect_same("codes of the last documents", codes, fitted.encode(np.asarray(again.values, np.float32)))
    if index.documents_at(positions) != [document_at(collection, int(i)) for i in positions]:
        raise DiffersError("documents: the last ones in the index are not those of the collection")
    for segment in index.segments:
        if segment.inverted is not None and index.codec.centroids is not None:
            lists = InvertedLists.build(segment.centroid_ids, len(index.codec.centroids))
            expect_equal(f"offsets of the inverted lists of {segment.path.name}", segment.inverted.offsets, lists.offsets)
            expect_equal(f"inverted lists of {segment.path.name}", segment.inverted.documents, lists.documents)
    _check_pipeline(index.pipeline, _pipeline(stage, stored))


def _check_pipeline(stored: TextPipeline | None, computed: TextPipeline) -> None:
    if stored is None:
        raise DiffersError("pipeline: the index carries none")
    for name in ("encoder_fingerprint", "dim", "pooling", "seed", "text_fields"):
        if getattr(stored, name) != getattr(computed, name):
            raise DiffersError(f"pipeline: {name} {getattr(computed, name)!r} instead of {getattr(stored, name)!r}")
    arrays = [{**each.state, **(each.projection.arrays() if each.projection else {})} for each in (stored, computed)]
    expect_same("pipeline", arrays[0], arrays[1])


def _centroids(workspace: Workspace, stage: Stage) -> NDArray[np.float32] | None:
    clustered = stage.inputs.get("centroids")
    return None if clustered is None else load_npy(workspace.path(clustered) / cluster.FILE, mmap=False)


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
