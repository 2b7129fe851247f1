"""Token vectors read back from an index: as a stream, by row, by document, also around documents without tokens."""

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.index import build_index
from colbert_research.index.build import BuildConfig
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import Exhaustive, Ladr, Muvera, Rerank, TokenAnn
from colbert_research.search.decoded import decoded_blocks, decoded_documents, decoded_rows, token_offsets
from tests.conftest import random_ragged

DIM = 8
LENGTHS = [0, 3, 5, 0, 0, 2, 4, 6, 1, 3, 0]


@pytest.fixture
def vectors(rng) -> Ragged:
    return random_ragged(rng, LENGTHS, DIM)


@pytest.fixture
def index(tmp_path, vectors):
    collection = Collection.from_texts([f"word {i}" for i in range(len(LENGTHS))])
    return build_index(tmp_path / "i", collection, vectors, ExactConfig(), build=BuildConfig(segment_tokens=8, chunk_tokens=4))


def test_what_was_encoded_is_read(index, vectors, rng):
    assert len(index.segments) > 2
    assert np.array_equal(token_offsets(index), vectors.offsets)
    for rows in (1, 4, 1000):
        blocks = Ragged.concat([block for each in index.segments for block in decoded_blocks(index.codec, each, rows=rows)])
        assert np.array_equal(blocks.offsets, vectors.offsets)
        assert np.array_equal(blocks.values, vectors.values)
    for segment, start in zip(index.segments, index.starts, strict=False):
        own = vectors.slice(start, start + len(segment))
        for some in (np.sort(rng.choice(own.n_rows, own.n_rows // 2, replace=False)), np.empty(0, np.int64)):
            assert np.array_equal(decoded_rows(index.codec, segment, some), own.values[some])
        for positions in (np.arange(len(segment))[::2], np.empty(0, np.int64)):
            found = decoded_documents(index.codec, segment, positions)
            assert np.array_equal(found.values, own.take(positions).values)
            assert found.values.shape[1:] == (DIM,)


@pytest.mark.parametrize(
    "strategy",
    [
        TokenAnn(ann="flat", k_tokens=24),
        Muvera(repetitions=2, k_sim=2, d_proj=None, n_candidates=10),
        Rerank(first_stage="mean_vector", depth=10),
        Ladr(first_stage="mean_vector", n_seeds=3, depth=7, graph={"neighbours": 3}),
    ],
    ids=lambda strategy: strategy.kind,
)
def test_documents_without_tokens_are_never_found(index, rng, strategy):
    queries = Ragged(random_ragged(rng, [3, 5], DIM).values, offsets_of([3, 5]))
    ranking, exhaustive = (s.search(index, queries, 6) for s in (strategy, Exhaustive()))
    assert all(LENGTHS[position] for position in ranking.positions)
    assert np.all(np.diff(ranking.offsets) >= 3)
    if strategy.kind == "token_ann":  # the only one that here leaves nothing out
        assert np.array_equal(ranking.positions, exhaustive.positions)
