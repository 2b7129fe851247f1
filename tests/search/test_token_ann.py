"""Token neighbours: against neighbours by hand, each faiss structure, and the single-vector heuristic."""

import faiss
import numpy as np
import pytest

from colbert_research.codecs import ExactConfig
from colbert_research.config import Config, component
from colbert_research.data import Collection
from colbert_research.index import Index, build_index
from colbert_research.ragged import load_npy, save_npy
from colbert_research.search import ANNS, TokenAnn, Trace
from colbert_research.search.ann import FlatAnn, HnswAnn, IvfAnn, IvfPqAnn, build_faiss, open_faiss
from colbert_research.search.exhaustive import Exhaustive
from tests.conftest import random_ragged
from tests.search.conftest import N, built, positions_of

SMALL = {
    "flat": FlatAnn(),
    "ivf": IvfAnn(nlist=8, nprobe=4),
    "ivfpq": IvfPqAnn(nlist=4, nprobe=4, m=8),
    "hnsw": HnswAnn(m=8, ef_construction=60, ef_search=40),
}


def read_by_hand(query: np.ndarray, vectors, k_tokens: int, allowed=range(N)) -> list[int]:
    """Documents of the neighbours, rank by rank, each rank in the order of the query's tokens."""
    document = np.repeat(np.arange(len(vectors)), vectors.lengths)
    rows = np.flatnonzero(np.isin(document, list(allowed)))
    similarities = query.astype(np.float64) @ vectors.values[rows].astype(np.float64).T
    lists = np.argsort(-similarities, axis=1)[:, :k_tokens]
    return [int(document[rows[place]]) for rank in lists.T for place in rank]


@pytest.mark.parametrize("k_tokens", [5, 12])
def test_documents_of_the_nearest_tokens_are_scored_exactly(index, vectors, queries, truth, k_tokens):
    ranking = TokenAnn(ann="flat", k_tokens=k_tokens).search(index, queries, 5)
    trace = Trace()
    TokenAnn(ann="flat", k_tokens=k_tokens).search(index, queries, 5, trace=trace)
    expected = [set(read_by_hand(query, vectors, k_tokens)) for query in queries]
    assert trace.work()["exact"]["documents"] == sum(map(len, expected))
    for q, candidates in enumerate(expected):
        best = sorted(candidates, key=lambda d, q=q: -truth[q, d])[:5]
        assert [int(d[1:]) for d, _ in ranking.top(q)] == best


@pytest.mark.parametrize("n_exact", [1, 3, 10])
def test_the_single_vector_heuristic_takes_documents_as_they_appear(index, vectors, queries, n_exact):
    for q, query in enumerate(queries):
        read = read_by_hand(query, vectors, 20)
        asked = queries.slice(q, q + 1)
        unique = list(dict.fromkeys(read))
        found = TokenAnn(ann="flat", k_tokens=20, n_exact=n_exact).search(index, asked, n_exact)
        assert positions_of(found, 0) == set(unique[:n_exact])
        found = TokenAnn(ann="flat", k_tokens=20, n_exact=n_exact, deduplicate=False).search(index, asked, n_exact)
        assert positions_of(found, 0) == set(read[:n_exact])


def test_a_subset_is_searched_among_its_own_tokens(index, vectors, queries):
    allowed = list(range(0, N, 3))
    strategy = TokenAnn(ann="flat", k_tokens=10)
    ranking = strategy.search(index, queries, 10, subset=[f"d{i}" for i in allowed])
    for q, query in enumerate(queries):
        expected = set(read_by_hand(query, vectors, 10, allowed))
        assert positions_of(ranking, q) <= expected
        assert len(positions_of(ranking, q)) == min(10, len(expected))


@pytest.mark.parametrize("kind", list(ANNS))
class TestStructures:
    def test_it_finds_what_is_there(self, whole, queries, truth, kind):
        """Each structure, asked for many neighbours, finds the best document; a subset stays a subset."""
        strategy = TokenAnn(ann=SMALL[kind], k_tokens=40)
        ranking = strategy.search(whole, queries, 3)
        for q in range(len(queries)):
            assert int(ranking.top(q)[0][0][1:]) == truth[q].argmax()
        subset = [f"d{i}" for i in range(0, N, 1) if i % 8]
        half = TokenAnn(ann=SMALL[kind], k_tokens=20 if kind != "hnsw" else 40).search(whole, queries, 10, subset=subset)
        assert all(position % 8 for q in range(len(queries)) for position in positions_of(half, q))

    def test_the_same_bytes_and_results(self, whole, queries, kind):
        strategy = TokenAnn(ann=SMALL[kind], k_tokens=15, seed=3)
        for one, other in zip(*(built(strategy.structures()[0], whole) for _ in range(2)), strict=True):
            assert np.array_equal(one["faiss"], other["faiss"])
        rankings = [strategy.search(Index.open(whole.path), queries, 10) for _ in range(3)]
        for ranking in rankings[1:]:
            assert np.array_equal(ranking.positions, rankings[0].positions)
            assert np.array_equal(ranking.scores, rankings[0].scores)


def test_a_graph_is_built_on_one_thread(rng):
    """Links depend on which vector comes first, so threads would make them a matter of chance."""
    threads, before = [], faiss.omp_get_max_threads()

    def blocks():
        for _ in range(2):
            threads.append(faiss.omp_get_max_threads())
            yield rng.standard_normal((20, 8)).astype(np.float32)

    faiss.omp_set_num_threads(2)
    try:
        build_faiss(HnswAnn(m=4).structure(1), 8, sample=np.empty((0, 8), np.float32), blocks=blocks())
        assert threads == [1, 1]
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


def test_only_what_is_built_names_a_structure(index, queries):
    def structure(**settings):
        return TokenAnn(ann={"kind": "ivf", "nlist": 8, **settings}).structures()

    assert structure(nprobe=1) == structure(nprobe=8)
    assert structure(nprobe=1) != structure(nprobe=1, nlist=4)
    assert TokenAnn(seed=1).structures() != TokenAnn(seed=2).structures()
    hnsw = HnswAnn()
    assert hnsw.structure(1) == hnsw.model_copy(update={"ef_search": 9}).structure(1)
    assert hnsw.structure(1) != hnsw.model_copy(update={"ef_construction": 9}).structure(1)
    probed = [Trace(), Trace()]
    for trace, nprobe in zip(probed, (1, 8), strict=True):
        TokenAnn(ann=IvfAnn(nlist=8, nprobe=nprobe), k_tokens=200).search(index, queries, 5, trace=trace)
    assert probed[0].work()["neighbours"]["tokens"] < probed[1].work()["neighbours"]["tokens"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ann": {"kind": "ivf", "nlist": 4, "nprobe": 5}}, "nprobe=5 cells of nlist=4"),
        ({"deduplicate": False}, "give n_exact too"),
        ({"ann": "annoy"}, "unknown ann kind 'annoy'"),
        ({"k_tokens": 0}, "greater than or equal to 1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        TokenAnn(**settings)


@pytest.mark.parametrize(
    ("settings", "k", "message"),
    [
        ({"ann": {"kind": "ivf", "nlist": 1999}, "k_tokens": 50}, 5, "nlist=1999 cells need at least as many vectors"),
        ({"ann": {"kind": "ivfpq", "nlist": 4, "nprobe": 1, "m": 7}}, 5, "16 dimensions into m=7 equal parts"),
        ({"ann": {"kind": "hnsw", "ef_search": 10}, "k_tokens": 20}, 5, "ef_search=10 is less than the 20 neighbours"),
        ({"ann": "flat", "n_exact": 4}, 5, "k=5 results cannot come from n_exact=4"),
        ({"ann": "flat", "k_tokens": 8}, 10, "each of the 1 tokens of query '1'; raise search.k_tokens to at least 10"),
    ],
)
def test_settings_that_cannot_serve(index, queries, settings, k, message):
    with pytest.raises(ValueError, match=message):
        TokenAnn(**settings).search(index, queries, k)


def test_too_few_vectors_for_product_codes():
    with pytest.raises(ValueError, match="need at least 256 vectors to train on; there are 255"):
        IvfPqAnn(nlist=4, nprobe=1).check(n=255, dim=16, k=10)


def test_the_table_of_structures_can_be_extended():
    class Mine(FlatAnn):
        kind: str = "mine"

    table = {**ANNS, "mine": Mine}

    class Holder(Config):
        ann: component("ann", table) = "mine"

    assert isinstance(Holder().ann, Mine)


def test_documents_without_tokens_are_not_waited_for(rng, tmp_path):
    """One of twelve documents has a token: its exhaustive equivalent finds it, as the exhaustive one does."""
    vectors = random_ragged(rng, [0] * 5 + [1] + [0] * 6, 16)
    collection = Collection.from_texts([f"text {i}" for i in range(12)])
    index = build_index(tmp_path / "index", collection, vectors, ExactConfig())
    queries = random_ragged(rng, [1, 2], 16)
    strategy = TokenAnn(ann="flat").exhaustive_equivalent(index)
    for subset in (None, ["3", "5", "7"], ["3", "7"]):
        found = strategy.search(index, queries, 12, subset=subset)
        expected = Exhaustive().search(index, queries, 12, subset=subset)
        assert [found.top(q) for q in range(2)] == [expected.top(q) for q in range(2)]
        assert len(found.top(0)) == (subset is None or "5" in subset)


@pytest.mark.parametrize("ann", SMALL.values(), ids=SMALL)
def test_bytes_are_those_that_faiss_writes(rng, tmp_path, ann):
    """Written and read in pieces, so that neither takes more memory than the structure and its bytes."""
    vectors = random_ragged(rng, [700], 16).values
    structure = ann.structure(7)
    array = build_faiss(structure, 16, sample=vectors[:500], blocks=[vectors[:300], vectors[300:]])
    again = open_faiss(array)
    assert np.array_equal(array, faiss.serialize_index(again))
    save_npy(tmp_path / "faiss.npy", array)
    mapped = open_faiss(load_npy(tmp_path / "faiss.npy", mmap=True))
    assert np.array_equal(array, faiss.serialize_index(mapped))
    assert mapped.ntotal == 700
