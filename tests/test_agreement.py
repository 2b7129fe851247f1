"""RBO and nRecall: by definition, depth after depth, and what holds whatever two rankings are."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research.evaluation import overlap
from colbert_research.evaluation.agreement import agreement, n_recall, rank_biased_overlap
from colbert_research.evaluation.paired import EPS
from colbert_research.ranking import Ranking

UNIVERSE = [f"d{i}" for i in range(14)]
PAIRS = st.lists(st.tuples(*[st.permutations(UNIVERSE), st.integers(0, 14)] * 2), min_size=1, max_size=4)


def ranking(lists, documents=UNIVERSE) -> Ranking:
    """The given documents of each query in the given order."""
    place = {document: i for i, document in enumerate(documents)}
    results = [(np.array([place[d] for d in each], np.int64), -np.arange(len(each), dtype=np.float32)) for each in lists]
    return Ranking.of(results, query_ids=[f"q{i}" for i in range(len(lists))], document_ids=documents)


def rbo_by_definition(one, other, p) -> float:
    """Equation 32, a depth at a time; the shorter list S continues to agree at the rate X_s / s."""
    short, long = sorted((one, other), key=len)
    s, l = len(short), len(long)  # noqa: E741 (the paper's)
    if l == 0:
        return math.nan
    x = [len(set(short[:d]) & set(long[:d])) for d in range(l + 1)]
    rate = x[s] / s if s else 0.0
    seen = sum(x[d] / d * p**d for d in range(1, l + 1))
    unseen = sum(rate * (d - s) / d * p**d for d in range(s + 1, l + 1))
    return (1 - p) / p * (seen + unseen) + ((x[l] - x[s]) / l + rate) * p**l


def lists_of(pairs):
    return [list(order[:n]) for order, n, _, _ in pairs], [list(order[:n]) for _, _, order, n in pairs]


class TestRbo:
    @settings(max_examples=80, deadline=None)
    @given(PAIRS, st.sampled_from([0.1, 0.5, 0.9, 0.99]))
    def test_it_is_its_definition(self, pairs, p):
        one, other = lists_of(pairs)
        found = rank_biased_overlap(ranking(one), ranking(other), p=p)
        expected = [rbo_by_definition(a, b, p) if b else math.nan for a, b in zip(one, other, strict=True)]
        # sums of at most 14 terms of at most 1 / (1 - p) together, times (1 - p) / p
        assert found == pytest.approx(expected, abs=100 * EPS / p, nan_ok=True)

    @settings(max_examples=60, deadline=None)
    @given(PAIRS, st.floats(0.01, 0.99))
    def test_what_holds_for_any_two(self, pairs, p):
        one, other = (ranking(lists) for lists in lists_of(pairs))
        there, back = rank_biased_overlap(one, other, p=p), rank_biased_overlap(other, one, p=p)
        both = (np.diff(one.offsets) > 0) & (np.diff(other.offsets) > 0)
        assert np.array_equal(there[both], back[both])
        assert ((there[both] >= 0) & (there[both] <= 1)).all()
        same = rank_biased_overlap(one, one, p=p)
        assert same[~np.isnan(same)] == pytest.approx(1.0, abs=100 * EPS / p)

    def test_by_hand(self):
        """a b c against a c b at p = .5: agreements 1, 1/2, 1, weights 1/2, 1/4, 1/8, and 1 for the rest, 1/8."""
        found = rank_biased_overlap(ranking([["d0", "d1", "d2"]]), ranking([["d0", "d2", "d1"]]), p=0.5)
        assert found.tolist() == pytest.approx([1 / 2 + 1 / 8 + 1 / 8 + 1 / 8], abs=10 * EPS)

    def test_a_list_that_only_ends_earlier_agrees_entirely(self):
        found = rank_biased_overlap(ranking([UNIVERSE[:3]]), ranking([UNIVERSE[:9]]))
        assert found.tolist() == pytest.approx([1.0], abs=100 * EPS)

    def test_who_found_nothing(self):
        one, other = ranking([[], ["d0"], [], ["d0"]]), ranking([[], [], ["d0"], ["d1"]])
        assert rank_biased_overlap(one, other).tolist() == pytest.approx([math.nan, math.nan, 0, 0], nan_ok=True)
        assert rank_biased_overlap(ranking([]), ranking([])).shape == (0,)

    def test_the_weight_of_the_first_ranks(self):
        """At p = .9 the first 10 ranks hold 86 % of the weight, as the paper says: lists that share these alone."""
        p, same, rest = 0.9, UNIVERSE[:10], [f"e{i}" for i in range(800)]
        documents = [*same, *rest, *(f"f{i}" for i in range(800))]
        one, other = ([*same, *documents[start : start + 800]] for start in (10, 810))
        first = sum((1 - p) * p ** (d - 1) * min(1, 10 / d) for d in range(1, 811))
        found = rank_biased_overlap(ranking([one], documents), ranking([other], documents), p=p)
        assert found[0] == pytest.approx(first, abs=1000 * EPS)
        assert round(first, 2) == 0.86

    @pytest.mark.parametrize("p", [0.0, 1.0, -0.1, math.nan])
    def test_a_persistence_that_is_none(self, p):
        with pytest.raises(ValueError, match="p lies between 0 and 1"):
            rank_biased_overlap(ranking([[]]), ranking([[]]), p=p)


class TestNRecall:
    @settings(max_examples=60, deadline=None)
    @given(PAIRS, st.integers(1, 14), st.integers(0, 14))
    def test_it_is_its_definition(self, pairs, k, more):
        one, other = lists_of(pairs)
        found = n_recall(ranking(one), ranking(other), k, within=k + more)
        expected = [
            len(set(b[:k]) & set(a[: k + more])) / len(b[:k]) if b else math.nan for a, b in zip(one, other, strict=True)
        ]
        assert found == pytest.approx(expected, abs=0, rel=0, nan_ok=True)

    @settings(max_examples=60, deadline=None)
    @given(PAIRS, st.integers(1, 14))
    def test_within_k_it_is_the_overlap(self, pairs, k):
        one, other = (ranking(lists) for lists in lists_of(pairs))
        found = n_recall(one, other, k)
        mean = float(found[~np.isnan(found)].mean()) if (~np.isnan(found)).any() else 0.0
        assert mean == pytest.approx(overlap(one, other, k), abs=4 * EPS)

    @settings(max_examples=30, deadline=None)
    @given(PAIRS)
    def test_it_grows_with_the_depth(self, pairs):
        one, other = (ranking(lists) for lists in lists_of(pairs))
        found = np.array([n_recall(one, other, 3, within=depth) for depth in range(3, 15)])
        kept = found[:, ~np.isnan(found[0])]
        assert (np.diff(kept, axis=0) >= 0).all()

    @pytest.mark.parametrize(("k", "within"), [(0, None), (5, 4), (-1, 3)])
    def test_odd_depths(self, k, within):
        with pytest.raises(ValueError, match="expected 1 <= k <= within"):
            n_recall(ranking([[]]), ranking([[]]), k, within=within)


def test_documents_are_matched_by_their_ids():
    """Two indexes number the same documents otherwise, and one lacks some."""
    lists = [["d3", "d1", "d2"], ["d5", "d0"]]
    other = [["d1", "d3", "d9"], ["d0", "d5"]]
    here = ranking(lists), ranking(other)
    there = ranking(lists, UNIVERSE[:8]), ranking(other, UNIVERSE[::-1])
    assert np.array_equal(rank_biased_overlap(*here), rank_biased_overlap(*there))
    assert n_recall(*there, 2).tolist() == [1.0, 1.0]


def test_other_queries_are_refused():
    one, other = ranking([["d0"], ["d1"]]), ranking([["d1"], ["d0"]]).take([1, 0])
    with pytest.raises(ValueError, match="same queries in the same order"):
        rank_biased_overlap(one, other)
    assert rank_biased_overlap(one, other.take([1, 0])).tolist() == [0.0, 0.0]


def test_a_table_like_that_of_measures():
    one, oracle = ranking([["d0", "d1", "d2"], ["d0"], []]), ranking([["d0", "d2"], [], ["d4"]])
    table = agreement(one, oracle, k=2, within=(3,), p=0.5)
    assert list(table.columns) == ["query_id", "measure", "value"]
    names = ["overlap@2", "nRecall@2 within 3", "RBO(p=0.5)"]
    assert list(table["query_id"]) == ["q0"] * 3 + ["q2"] * 3, "q1 has no oracle"
    assert list(table["measure"]) == names * 2
    expected = [0.5, 1.0, rbo_by_definition(["d0", "d1", "d2"], ["d0", "d2"], 0.5), 0, 0, 0]
    assert list(table["value"]) == pytest.approx(expected, abs=20 * EPS)
    assert pd.api.types.is_float_dtype(agreement(ranking([[]]), ranking([[]]))["value"])


@pytest.mark.slow
def test_a_thousand_queries_of_a_thousand_documents(rng):
    documents = [f"d{i}" for i in range(3000)]

    def made() -> Ranking:
        results = [(rng.choice(3000, 1000, replace=False), -np.arange(1000, dtype=np.float32)) for _ in range(1000)]
        return Ranking.of(results, query_ids=[str(i) for i in range(1000)], document_ids=documents)

    one, other = made(), made()
    found, recall = rank_biased_overlap(one, other, p=0.98), n_recall(one, other, 100, within=1000)
    for i in (0, 500, 999):
        lists = [[document for document, _ in each.top(i)] for each in (one, other)]
        # 1000 terms
        assert found[i] == pytest.approx(rbo_by_definition(*lists, 0.98), abs=1000 * EPS)
        assert recall[i] == len(set(lists[1][:100]) & set(lists[0])) / 100
