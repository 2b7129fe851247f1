"""A pipeline made of what the stages fitted computes what the stages stored."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from colbert_research.artifacts import StageCache
from colbert_research.encoders import TextPipeline
from tests.small_experiment import make, write_folder

REDUCED = "reducer.kind=svd reducer.dim=8"


@pytest.mark.parametrize(
    "overrides", ["", REDUCED, "pooling.kind=prune_idf", f"{REDUCED} pooling.kind=ward pooling.factor=1.5"]
)
def test_projection_and_pooling_are_those_of_the_stages(tmp_path, overrides):
    experiment = make(StageCache(tmp_path / "cache"), write_folder(tmp_path / "fruit", "note {i} {subject}"), overrides)
    config, collection, stored = experiment.config, experiment.collection, experiment.stored_documents
    pipeline = TextPipeline.of(
        config.encoder,
        dim=stored.vectors.dim,
        projection=np.load(experiment.run("reduce").path / "projection.npy") if "reducer" in overrides else None,
        pooling=config.pooling,
        state=load_file(experiment.run("pool").path / "state.safetensors") if "pooling" in overrides else None,
        seed=config.seed,
        text_fields=collection.text_fields,
    )
    for found, expected in zip(pipeline.documents(collection.document_texts()), stored, strict=True):
        assert np.array_equal(found.values, expected.values)
        assert np.array_equal(found.offsets, expected.offsets)
    assert np.array_equal(pipeline.queries(collection.query_texts).values, experiment.query_vectors.values)
