"""MUVERA as a search: candidates by the encodings' inner products, however the encodings are kept."""

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.index import build_index
from colbert_research.ragged import Ragged
from colbert_research.search import Muvera, Trace
from colbert_research.search.fde import fde_of_documents, fde_of_queries
from tests.conftest import random_ragged
from tests.search.conftest import DIM, N, built, positions_of

ENCODING = {"repetitions": 5, "k_sim": 3, "d_proj": 8}


def best_by_encoding(strategy, vectors, queries, allowed=range(N)) -> list[set[int]]:
    scores = fde_of_queries(queries, strategy).astype(np.float64) @ fde_of_documents(vectors, strategy).T
    allowed = np.array(allowed)
    return [set(allowed[np.argsort(-row[allowed])][: strategy.n_candidates].tolist()) for row in scores]


@pytest.mark.parametrize("extra", [{}, {"d_final": 60}, {"d_proj": None, "fill_empty": False}])
def test_candidates_have_the_largest_inner_products(index, vectors, queries, extra):
    strategy = Muvera(**{**ENCODING, **extra}, n_candidates=8)
    ranking = strategy.search(index, queries, 8)
    assert [positions_of(ranking, q) for q in range(len(queries))] == best_by_encoding(strategy, vectors, queries)


def test_a_subset_is_filtered_before_the_cut(index, vectors, queries):
    strategy, allowed = Muvera(**ENCODING, n_candidates=8), range(1, N, 2)
    ranking = strategy.search(index, queries, 8, subset=[f"d{i}" for i in allowed])
    assert [positions_of(ranking, q) for q in range(len(queries))] == best_by_encoding(strategy, vectors, queries, allowed)


def test_half_precision_halves_the_bytes(index, vectors, queries):
    single, half = (Muvera(**ENCODING, n_candidates=20, storage=storage) for storage in ("float32", "float16"))
    sizes = [sum(len(each["faiss"]) for each in built(strategy.structures()[0], index)) for strategy in (single, half)]
    values = N * single.width(index.dim)
    assert sizes[0] - sizes[1] == pytest.approx(2 * values, abs=200 * len(index.segments)), "less what the headers differ by"
    trace = Trace()
    ranking = half.search(index, queries, 10, trace=trace)
    assert trace.work()["fde"]["documents"] == len(queries) * N
    assert trace.work()["exact"]["documents"] == len(queries) * 20
    assert len(ranking.top(0)) == 10


def test_product_codes_of_as_many_documents_as_centroids_lose_nothing(tmp_path, rng):
    """256 documents: each is a centroid of every sub-space, so the codes stand for the encodings themselves."""
    vectors, queries = random_ragged(rng, rng.integers(1, 5, 256), 8), random_ragged(rng, [3, 6], 8)
    collection = Collection.from_texts([f"text {i}" for i in range(256)])
    index = build_index(tmp_path / "i", collection, vectors, ExactConfig())
    plain, product = (Muvera(**ENCODING, n_candidates=30, storage=storage) for storage in ("float32", "pq"))
    subset = [str(i) for i in range(0, 256, 2)]
    for settings in ({}, {"subset": subset}):
        expected, found = (strategy.search(index, queries, 30, **settings) for strategy in (plain, product))
        assert np.array_equal(found.positions, expected.positions)
    structure = product.structures()[0]
    one, other = (built(structure, index)[0]["faiss"] for _ in range(2))
    assert np.array_equal(one, other)
    width = product.width(8)
    codebooks, codes = 4 * 256 * width, 256 * width // 8
    assert len(one) == pytest.approx(codebooks + codes, abs=300), "less a header"


@pytest.mark.parametrize(
    ("settings", "k", "message"),
    [
        ({"n_candidates": 5}, 6, "k=6 results cannot come from n_candidates=5"),
        ({"storage": "pq"}, 5, "need at least 256 vectors to train on; there are 1"),
        ({"repetitions": 1, "k_sim": 1, "d_proj": 3, "storage": "pq"}, 5, "8 dimensions per byte, and 6 is no multiple"),
        ({"d_final": 99_999}, 5, "d_final=99999 does not make the 10240 dimensions fewer"),
    ],
)
def test_settings_that_cannot_serve(index, queries, settings, k, message):
    with pytest.raises(ValueError, match=message):
        Muvera(**settings).search(index, queries, k)


def test_the_encodings_are_shared_by_searches_that_agree_in_them():
    assert Muvera(n_candidates=5).structures() == Muvera(n_candidates=50).structures()
    assert Muvera(seed=1).structures() != Muvera(seed=2).structures()
    assert Muvera(storage="pq").structures() != Muvera().structures()


def test_a_document_without_tokens_is_no_candidate(tmp_path, rng):
    """Its encoding is zero, which is above that of a document on the other side."""
    vectors = random_ragged(rng, np.array([0, 3, 2, 0, 4]), DIM)
    collection = Collection.from_texts(["text"] * 5, ids=[f"d{i}" for i in range(5)])
    index = build_index(tmp_path / "i", collection, vectors, ExactConfig())
    query = Ragged(-vectors[1], np.array([0, 3]))
    found = Muvera(repetitions=2, k_sim=1, d_proj=None, n_candidates=3).search(index, query, 3)
    assert positions_of(found, 0) == {1, 2, 4}
