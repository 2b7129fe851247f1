"""Small indexes to search, and where strategies of a CUDA device are tested: on one, or else in the emulator."""

import numpy as np
import pytest

from colbert_research.data import Collection
from colbert_research.index import build_index
from colbert_research.index.build import BuildConfig
from colbert_research.ragged import Ragged
from tests.contracts.strategy_cases import CODECS, N_DOCUMENTS, clustered
from tests.kernels.conftest import device as device


@pytest.fixture
def _device(request):
    """A device for the tests of strategies that need one; nothing for others."""
    kinds = [getattr(value, "kind", value) for value in request.node.callspec.params.values()]
    if not any(isinstance(kind, str) and kind.startswith("cuda_") for kind in kinds):
        yield
        return
    with request.getfixturevalue("device")():
        yield


@pytest.fixture(scope="package")
def documents() -> Ragged:
    return clustered(1, np.random.default_rng(2).integers(1, 30, N_DOCUMENTS))


@pytest.fixture(scope="package")
def queries() -> Ragged:
    return clustered(3, [5, 1, 12, 7])


@pytest.fixture(scope="package")
def indexes(documents, tmp_path_factory):
    """Each codec's index, in one segment and in several."""
    folder = tmp_path_factory.mktemp("indexes")
    collection = Collection.from_texts([f"text {i}" for i in range(N_DOCUMENTS)], ids=[f"d{i}" for i in range(N_DOCUMENTS)])
    several = BuildConfig(segment_tokens=300, chunk_tokens=64)
    return {
        (name, parts): build_index(folder / f"{name}-{parts}", collection, documents, codec, seed=5, build=build)
        for name, codec in CODECS.items()
        for parts, build in (("one", None), ("several", several))
    }
