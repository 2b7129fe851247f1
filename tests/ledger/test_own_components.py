"""What the sweep of ablation 16 brings of its own: search without special tokens, a penalty on length."""

from pathlib import Path

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.encoders import TokenVectors
from colbert_research.index import build_index
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import Exhaustive, Queries, Warp
from colbert_research.sweep.sweep import importing
from tests.contracts.strategy_cases import clustered

GRIDS = Path(__file__).resolve().parents[2] / "configs" / "sweeps" / "ablations"
N = 40
with importing([str(GRIDS)]):
    import ablation_length  # type: ignore[import-not-found]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    lengths = np.random.default_rng(0).integers(2, 30, N)
    collection = Collection.from_texts([f"text {i}" for i in range(N)], ids=[f"d{i}" for i in range(N)])
    return build_index(tmp_path_factory.mktemp("own") / "index", collection, clustered(1, lengths), ExactConfig())


@pytest.fixture(scope="module")
def queries():
    return clustered(2, [5, 3, 8])


def test_a_penalty_is_on_length_alone(index, queries):
    """None ranks as MaxSim; a great one by length, the shortest first."""
    exact = Exhaustive().search(index, queries, N)
    assert np.array_equal(ablation_length.Penalised(weight=0.0).search(index, queries, N).positions, exact.positions)
    lengths = np.diff(index.segments[0].offsets)
    for q in range(len(queries)):
        found = ablation_length.Penalised(weight=1e6).search(index, queries.slice(q, q + 1), N)
        assert np.all(np.diff(lengths[found.positions]) >= 0)


def test_queries_lose_their_first_and_last_token(index, queries):
    inner = Ragged(np.concatenate([query[1:-1] for query in queries]), offsets_of(queries.lengths - 2))
    exact, trimmed = Exhaustive().search(index, inner, N), ablation_length.Trimmed().search(index, queries, N)
    assert np.array_equal(trimmed.positions, exact.positions)
    assert np.array_equal(trimmed.scores, exact.scores)
    short = Queries(clustered(3, [1, 2, 3]), ("a", "b", "c"))
    assert ablation_length.trimmed(short).vectors.lengths.tolist() == [1, 2, 1]
    assert issubclass(ablation_length.TrimmedWarp, Warp)


def test_special_tokens_are_left_out_unless_nothing_else_is_there():
    ids = np.array([101, 7, 8, 102, 101, 102, 101, 9, 102], np.int32)
    offsets = offsets_of([4, 2, 3])
    documents = TokenVectors(clustered(4, [4, 2, 3]), Ragged(ids, offsets))
    pooled = ablation_length.NoSpecials().pool(documents, {}, seed=0)
    assert [part.tolist() for part in pooled.token_ids] == [[7, 8], [101, 102], [9]]
    assert np.array_equal(pooled.vectors.values, documents.vectors.values[[1, 2, 4, 5, 7]])
