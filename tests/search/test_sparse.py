"""Sparse vectors beside dense arithmetic, for a dictionary of centroids and for a random one."""

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.index import Index, build_index
from colbert_research.index.build import BuildConfig
from colbert_research.search import Queries, Rerank, Trace
from colbert_research.search.decoded import decoded_blocks
from colbert_research.search.first_stages import SparseStage
from tests.search.conftest import EPS, N

HALF = 2.0**-11  # float16 rounds to eleven bits
STAGES = [
    SparseStage(),
    SparseStage(document_atoms=1, query_atoms=3),
    SparseStage(document_atoms=12, query_atoms=12),
    SparseStage(atoms=30, document_atoms=3, query_atoms=2),
    SparseStage(atoms=2, document_atoms=1, query_atoms=2, seed=7),
]


@pytest.fixture(scope="module")
def index(collection, vectors, tmp_path_factory) -> Index:
    """In several segments, every seventh document deleted."""
    path = tmp_path_factory.mktemp("sparse") / "index"
    build = BuildConfig(segment_tokens=120, chunk_tokens=50)
    built = build_index(path, collection, vectors, ResidualConfig(nbits=4, centroids=12), build=build)
    return built.delete([f"d{i}" for i in range(0, N, 7)])


def sparse(tokens: np.ndarray, atoms: np.ndarray, active: int) -> np.ndarray:
    """Products with the nearest atoms, the others zero: `(n_tokens, n_atoms)`."""
    products = tokens.astype(np.float64) @ atoms.T
    least = np.sort(products, axis=1)[:, -min(active, len(atoms))]
    return np.where(products >= least[:, None], np.maximum(products, 0), 0)


@pytest.mark.parametrize("stage", STAGES, ids=repr)
def test_dense_arithmetic(index, queries, stage):
    atoms = stage.dictionary(index.codec)
    documents = [
        sparse(block[i], atoms, stage.document_atoms).max(axis=0)
        for segment in index.segments
        for block in decoded_blocks(index.codec, segment)
        for i in range(len(block))
    ]
    for q, (positions, scores) in enumerate(stage.scores(index, Queries.of(queries, None, None, dim=index.dim))):
        query = sparse(queries[q], atoms, stage.query_atoms).sum(axis=0)
        expected = np.array(documents) @ query
        assert positions.tolist() == np.flatnonzero(expected).tolist()
        assert np.allclose(scores, expected[positions], rtol=0, atol=2 * (HALF + 16 * EPS) * query.sum())
        assert np.ptp(scores) > 0


def test_random_atoms_are_unit_vectors_of_their_seed(index):
    one, other = SparseStage(atoms=9), SparseStage(atoms=9, seed=1)
    assert np.linalg.norm(one.dictionary(index.codec), axis=1) == pytest.approx(1)
    assert np.array_equal(one.dictionary(index.codec), SparseStage(atoms=9).dictionary(index.codec))
    assert not np.array_equal(one.dictionary(index.codec), other.dictionary(index.codec))


def test_another_number_of_atoms_of_queries_builds_nothing_again():
    assert SparseStage(query_atoms=3).structures() == SparseStage(query_atoms=4).structures()
    assert SparseStage(document_atoms=3).structures() != SparseStage(document_atoms=4).structures()


def test_what_it_cannot_search(collection, vectors, queries, tmp_path):
    exact = build_index(tmp_path / "exact", collection, vectors, ExactConfig())
    with pytest.raises(ValueError, match=r"codes tokens by centroids, and this index has none.*Give first_stage\.atoms"):
        Rerank(first_stage="sparse", depth=5).search(exact, queries, 3)
    assert Rerank(first_stage={"kind": "sparse", "atoms": 20}, depth=5).search(exact, queries, 3)
    for settings, said in (
        ({"document_atoms": 0}, "greater than or equal to 1"),
        ({"seed": 7}, "seed=7 is that of random atoms; say how many of them"),
        ({"atoms": 9, "query_atoms": 10}, "query_atoms=10 of 9 atoms cannot code a token; give at most 9"),
    ):
        with pytest.raises(ValueError, match=said):
            SparseStage(**settings)
    coded = build_index(tmp_path / "coded", collection, vectors, ResidualConfig(nbits=4, centroids=3))
    with pytest.raises(ValueError, match="document_atoms=5 of 3 atoms"):
        Rerank(first_stage={"kind": "sparse", "document_atoms": 5}, depth=5).search(coded, queries, 3)
    assert Rerank(first_stage="sparse", depth=5).search(coded, queries, 3), "by default all that there are"


def test_a_document_that_shares_no_atom_is_not_found(index, queries):
    stage, asked = SparseStage(atoms=500, document_atoms=1, query_atoms=1), Queries.of(queries, None, None, dim=index.dim)
    for q, (positions, scores) in enumerate(stage.scores(index, asked)):
        assert len(positions) < N and (scores > 0).all()
        (found,) = stage.candidates(index, asked.slice(q, q + 1), N, index.scope(), Trace())
        assert set(found.tolist()) == set(positions.tolist()) & set(index.scope().positions.tolist())
