"""An index's codes cut into shards: whatever is asked for, every document comes by once, with its own codes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.data import Collection
from colbert_research.index import Scope, build_index
from colbert_research.index.build import BuildConfig
from colbert_research.kernels.cuda.arrays import Place
from colbert_research.kernels.operands import CodedTokens
from colbert_research.ragged import Ragged
from colbert_research.search.shards import BUFFERS, FOR_THE_INDEX, Shards, device_layout, row_bytes
from tests.conftest import random_ragged

N, DIM, PLACE = 40, 24, Place("numpy", None)


@pytest.fixture(scope="module", params=[ResidualConfig(nbits=2, centroids=8), ExactConfig()], ids=["residual", "exact"])
def index(request, tmp_path_factory):
    rng = np.random.default_rng(8)
    lengths = rng.integers(0, 12, N)
    collection = Collection.from_texts([f"text {i}" for i in range(N)])
    build = BuildConfig(segment_tokens=60, chunk_tokens=16)
    folder = tmp_path_factory.mktemp("shards") / "index"
    return build_index(folder, collection, random_ragged(rng, lengths, DIM), request.param, build=build)


def arrays_of(tokens):
    """What kernels take, by the codec's names."""
    if isinstance(tokens, Ragged):
        return {"vectors": tokens.values}
    assert isinstance(tokens, CodedTokens)
    return {"centroid_ids": tokens.centroid_ids, "residuals": tokens.codes, "inverse_norms": tokens.inverse_norms}


def assert_whole(index, shards, scope):
    """Visiting finds each document once, ascending, and its codes are those of the index."""
    seen = []
    for shard, local in shards.visited(scope):
        local = np.arange(len(shard)) if local is None else local
        assert len(local) or not scope.is_all or len(shards) == 1
        positions = shard.start + local
        codes, offsets = index.codes_of(positions)
        seen += positions.tolist()
        for name, array in arrays_of(shard.tokens).items():
            there = Ragged(array, shard.offsets).take(local)
            assert np.array_equal(there.offsets, offsets)
            if name == "vectors":  # as wide as the kernels want them
                assert not there.values[:, DIM:].any()
            assert np.array_equal(there.values[:, :DIM] if name == "vectors" else there.values, codes[name])
    assert seen == scope.positions.tolist()


CHOSEN = st.sets(st.integers(0, N - 1), min_size=1)
SCOPES = st.just(Scope.all(N)) | CHOSEN.map(lambda chosen: Scope.of(np.array(list(chosen)), N))


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(11, 300), scopes=st.lists(SCOPES, min_size=1, max_size=3))
def test_every_document_comes_by_once(index, tokens, scopes):
    row = row_bytes(device_layout(index.codec))
    room = int(np.ceil(BUFFERS * tokens * row / FOR_THE_INDEX))
    shards = Shards(index, PLACE, room)
    for scope in scopes:
        assert_whole(index, shards, scope)
    if shards.resident is None:
        taken = sum(array.nbytes for buffer in shards._buffers for array in buffer.values())
        assert taken <= room * FOR_THE_INDEX
        assert max(int(shard.offsets[-1]) for shard, _ in shards.visited(Scope.all(N))) <= tokens


@given(scope=SCOPES)
@settings(max_examples=20, deadline=None)
def test_one_shard_where_there_is_room(index, scope):
    shards = Shards(index, PLACE, None)
    assert shards.resident is not None
    assert_whole(index, shards, scope)
