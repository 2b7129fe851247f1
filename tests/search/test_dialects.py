"""What each dialect of PLAID means for a k, and what `auto` chooses."""

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.config import Threshold
from colbert_research.data import Collection
from colbert_research.index import Scope, build_index
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import Auto, Exhaustive, FastPlaid, NextPlaid, Plaid, StanfordPlaid, Trace


def stanford(ncells: int, threshold: float, ndocs: int, n_exact: int) -> Plaid:
    return Plaid(ncells=ncells, centroid_score_threshold=Threshold(value=threshold), ndocs=ndocs, n_exact=n_exact)


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, stanford(1, 0.5, 256, 64)),
        (10, stanford(1, 0.5, 256, 64)),
        (11, stanford(2, 0.45, 1024, 256)),
        (100, stanford(2, 0.45, 1024, 256)),
        (101, stanford(4, 0.4, 4096, 1024)),
        (1000, stanford(4, 0.4, 4096, 1024)),
        (2000, stanford(4, 0.4, 8000, 2000)),
    ],
)
def test_stanfords_settings_follow_k(k, expected):
    assert StanfordPlaid().plaid(k) == expected


def test_what_is_given_wins():
    given = StanfordPlaid(ncells=8, centroid_score_threshold=0.35, ndocs=8192)
    assert given.plaid(10) == given.plaid(1000) == stanford(8, 0.35, 8192, 2048)


def test_fast_plaid():
    assert FastPlaid().plaid(10) == FastPlaid().plaid(900) == Plaid(ncells=8, ndocs=4096, n_exact=1024)


def test_next_plaid():
    expected = Plaid(ncells=8, cell_score_threshold=Threshold(value=0.4), ndocs=4096, n_exact=1024)
    assert NextPlaid().plaid(10) == expected
    assert NextPlaid(n_full_scores=40).plaid(100).n_exact == 100
    assert NextPlaid(centroid_score_threshold=None).plaid(10) == FastPlaid().plaid(10)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("indexes")
    values = rng.standard_normal((400, 16)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    vectors = Ragged(values, offsets_of([10] * 40))
    collection = Collection.from_texts([f"text {i}" for i in range(40)])
    codecs = {"residual": ResidualConfig(nbits=4, centroids=8), "exact": ExactConfig()}
    return {name: build_index(folder / name, collection, vectors, codec) for name, codec in codecs.items()}


def test_auto_says_what_it_chose_and_why(indexes):
    small, reason = Auto().choose(indexes["residual"], 10)
    assert small == Exhaustive()
    assert "400 tokens are at most 2000000" in reason
    large, reason = Auto(exhaustive_tokens=399, ncells=2, n_exact=16).choose(indexes["residual"], 10)
    assert large == Plaid(ncells=2, ndocs=40, n_exact=40)
    assert reason == "plaid with ncells=2, n_exact=40: 400 tokens"
    without, reason = Auto(exhaustive_tokens=0).choose(indexes["exact"], 10)
    assert without == Exhaustive()
    assert "no centroids" in reason
    few = Scope.of(np.array([3, 7, 39]), 40)
    narrow, reason = Auto(exhaustive_tokens=30).choose(indexes["residual"], 10, few)
    assert (narrow, reason) == (Exhaustive(), "exhaustive: 30 tokens of the 3 documents that may be found are at most 30")
    assert isinstance(Auto(exhaustive_tokens=29).choose(indexes["residual"], 10, few)[0], Plaid)
    trace = Trace()
    Auto().search(indexes["residual"], Ragged(np.eye(16, dtype=np.float32)[:2], offsets_of([2])), 3, trace=trace)
    assert trace.notes == ["exhaustive: 400 tokens are at most 2000000"]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Thirty documents around each of two directions, one that has no tokens, and three in a corner of their own."""
    rng, axes = np.random.default_rng(3), np.eye(16, dtype=np.float32)
    values = np.repeat(axes[[0, 1, 2]], [60, 60, 6], axis=0) + 0.05 * rng.standard_normal((126, 16)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    vectors = Ragged(values, offsets_of([*([2] * 60), 0, *([2] * 3)]))
    collection = Collection.from_texts([f"text {i}" for i in range(64)])
    return build_index(tmp_path_factory.mktemp("crowded") / "i", collection, vectors, ResidualConfig(nbits=4, centroids=8))


@pytest.mark.parametrize("k", [1, 3, 4, 20, 40, 63, 64, 1000])
@pytest.mark.parametrize("subset", [None, [str(i) for i in range(20, 64)]])
def test_auto_finds_as_many_as_there_are(crowded, k, subset):
    """A query in the corner: its cell alone holds three documents."""
    queries = Ragged(np.eye(16, dtype=np.float32)[[2, 0]], offsets_of([1, 1]))
    narrow, trace = Auto(exhaustive_tokens=0, ncells=1, n_exact=1), Trace()
    found = narrow.search(crowded, queries, k, subset=subset, trace=trace)
    reachable = 63 if subset is None else 43
    assert np.diff(found.offsets).tolist() == [min(k, reachable)] * 2
    again = any("searched again with ncells=" in note for note in trace.notes)
    assert again == (k > 3 and (subset is None or 4 * k < 44)), "a subset of at most n_exact documents needs no candidates"
    exact = Exhaustive().search(crowded, queries, 3, subset=subset)
    assert found.truncate(3).top(0) == exact.truncate(k).top(0)


def test_auto_leaves_queries_that_found_enough_as_they_are(crowded):
    queries = Ragged(np.eye(16, dtype=np.float32)[[0, 2]], offsets_of([1, 1]))
    narrow = Auto(exhaustive_tokens=0, ncells=1, n_exact=20)
    plain = Plaid(ncells=1, ndocs=20, n_exact=20).search(crowded, queries, 5)
    assert np.diff(plain.offsets).tolist() == [5, 3]
    found = narrow.search(crowded, queries, 5)
    assert found.top(0) == plain.top(0)
    assert found.top(1)[:3] == plain.top(1)


def test_cells_below_the_threshold_are_not_opened(indexes):
    index = indexes["residual"]
    query = Ragged(np.asarray(index.codec.centroids[:1]), offsets_of([1]))
    scores = index.codec.centroids @ index.codec.centroids[0]
    for limit in (0.0, float(np.sort(scores)[-2]) + 1e-4, 0.5):
        trace = Trace()
        Plaid(ncells=8, ndocs=40, n_exact=40, cell_score_threshold=Threshold(value=limit)).search(index, query, 3, trace=trace)
        assert trace.stages["probe"].centroids == int((scores >= limit).sum())


@pytest.mark.parametrize(
    ("strategy", "k", "message"),
    [
        (StanfordPlaid(ncells=9), 5, "ncells=9, but the index has 8 centroids; lower search.ncells to at most 8"),
        (FastPlaid(n_ivf_probe=9), 5, "n_ivf_probe=9, but the index has 8 centroids; lower search.n_ivf_probe to at most 8"),
        (NextPlaid(n_ivf_probe=9), 5, "lower search.n_ivf_probe to at most 8"),
        (StanfordPlaid(ndocs=40), 11, "a quarter of ndocs=40 documents.*raise search.ndocs to at least 44 or lower k"),
        (FastPlaid(n_full_scores=40), 11, "raise search.n_full_scores to at least 44 or lower k"),
    ],
)
def test_errors_name_the_settings_of_the_engine(indexes, strategy, k, message):
    with pytest.raises(ValueError, match=message):
        check(strategy, indexes["residual"], k)
    # what the message says helps
    helped = strategy.model_copy(update={"ncells": 8, "n_ivf_probe": 8, "ndocs": 44, "n_full_scores": 44})
    check(helped, indexes["residual"], k)


def check(strategy, index, k: int) -> None:
    strategy.check_size(index.n_documents, k)
    strategy.check(index, k)
