"""Cluster: the centroids of a collection, shared by all codecs whose settings of the clustering agree."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs.clustering import Clustering
from colbert_research.encoders.stored import open_stored
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages.differs import expect_equal
from colbert_research.experiment.workspace import Workspace
from colbert_research.ragged import float_rows, load_npy, sampled, save_npy

FILE = "centroids.npy"


def plan(workspace: Workspace, config: ExperimentConfig, stored: Stage) -> Stage | None:
    """The centroids `(K, dim)`; None for a codec without any."""
    codec = config.codec
    if not isinstance(codec, Clustering):
        return None
    return Stage("cluster", {"clustering": codec.clustering(), "seed": config.seed}, {"vectors": stored})


def compute(workspace: Workspace, stage: Stage, folder: Path) -> dict[str, Any]:
    centroids, sampled_tokens = _cluster(workspace, stage)
    save_npy(folder / FILE, centroids)
    return {"tokens": sampled_tokens, "centroids": len(centroids)}


def check(workspace: Workspace, stage: Stage, folder: Path) -> None:
    """Cluster again: no sample tells whether k-means ends in the same place."""
    expect_equal("centroids", load_npy(folder / FILE, mmap=False), _cluster(workspace, stage)[0])


def _cluster(workspace: Workspace, stage: Stage) -> tuple[NDArray[np.float32], int]:
    settings, seed = stage.settings["clustering"], stage.settings["seed"]
    vectors, token_ids = open_stored(workspace.path(stage.inputs["vectors"])).tokens
    rows = sampled(vectors.n_rows, settings.sample_size(vectors.n_rows), seed=seed)
    sample = float_rows(vectors.values, rows)
    return settings.cluster(sample, token_ids.values[rows], n_tokens=vectors.n_rows, seed=seed), len(sample)
