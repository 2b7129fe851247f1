"""An index on a device and searches on several streams, in a model of streams."""

import numpy as np
import pytest

from colbert_research.codecs import ResidualConfig
from colbert_research.data import Collection
from colbert_research.index import Scope, build_index
from colbert_research.index.build import BuildConfig
from colbert_research.search import device_copy, shards
from colbert_research.search.device_copy import DeviceCopy
from tests.conftest import random_ragged
from tests.kernels.cuda_streams import CUPY, waited_for
from tests.kernels.cuda_streams import copied as copied
from tests.kernels.cuda_streams import machine as machine


@pytest.fixture(autouse=True)
def _on_the_model(copied, monkeypatch):
    monkeypatch.setattr(device_copy, "upload", lambda array, place: np.array(array))
    for name in ("empty", "pinned"):
        monkeypatch.setattr(shards, name, lambda shape, kind, place: np.empty(shape, kind))


@pytest.mark.slow
@pytest.mark.parametrize("room", [None, 600], ids=["resident", "streamed"])
def test_an_index(copied, tmp_path, room):
    """Its shards, centroids and lists: each waits for the streams that asked for it."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 9, 20)
    collection, build = Collection.from_texts([""] * 20), BuildConfig(segment_tokens=60)
    codec = ResidualConfig(nbits=2, centroids=4)
    index = build_index(tmp_path / "index", collection, random_ragged(rng, lengths, 16), codec, build=build)
    asked = {
        "visited": lambda there: next(there.shards.visited(Scope.all(20))),
        "resident": lambda there: there.shards.resident,
        "centroids": lambda there: there.centroids,
        "inverted": lambda there: there.inverted,
    }
    found = {name: waited_for(copied, lambda: DeviceCopy(index, CUPY, room), use) for name, use in asked.items()}
    assert found == dict.fromkeys(asked, 2) | {"resident": 2 if room is None else 0}
