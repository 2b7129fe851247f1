"""The pipeline that an index carries computes what the stages stored."""

import numpy as np
import pytest

from tests.experiment.small import make, write_folder

REDUCED = "reducer.kind=svd reducer.dim=8"


@pytest.mark.parametrize(
    "overrides",
    [
        "",
        REDUCED,
        "pooling.kind=prune_idf",
        f"{REDUCED} reducer.centre=true reducer.whiten=0.5 pooling.kind=ward pooling.factor=1.5",
    ],
)
def test_projection_and_pooling_are_those_of_the_stages(tmp_path, cache, overrides):
    experiment = make(cache, write_folder(tmp_path / "named", "note {i} {subject}"), overrides)
    collection, stored, pipeline = experiment.collection, experiment.stored_documents, experiment.index.pipeline
    for found, expected in zip(pipeline.documents(collection.document_texts()), stored, strict=True):
        assert np.array_equal(found.values, expected.values)
        assert np.array_equal(found.offsets, expected.offsets)
    assert np.array_equal(pipeline.queries(collection.query_texts).values, experiment.query_vectors.values)
