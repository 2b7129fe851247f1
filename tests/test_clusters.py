"""The anatomy of clusters, against counting by hand."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_research.evaluation.clusters import anatomy, ecdf

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), min_size=1, max_size=60)


def majorities(pairs: list[tuple[int, int]]) -> tuple[list[float], list[int], list[int]]:
    """For each first item: the share of its most frequent second one, how many distinct ones, how many in all."""
    groups: dict[int, Counter[int]] = defaultdict(Counter)
    for first, second in pairs:
        groups[first][second] += 1
    ordered = [groups[first] for first in sorted(groups)]
    return [max(g.values()) / g.total() for g in ordered], [len(g) for g in ordered], [g.total() for g in ordered]


@given(PAIRS)
def test_shares_are_those_counted_by_hand(pairs):
    tokens, clusters = (np.array(column) for column in zip(*pairs, strict=True))
    found = anatomy(tokens, clusters)
    shares, distinct, sizes = majorities([(c, t) for t, c in pairs])
    assert found.cluster_purity.tolist() == shares
    assert found.distinct_tokens.tolist() == distinct
    assert found.cluster_sizes.tolist() == sizes
    shares, _, counts = majorities(pairs)
    assert found.token_purity.tolist() == shares
    assert found.token_counts.tolist() == counts


@given(PAIRS)
def test_homogeneity_is_that_of_entropies_counted_by_hand(pairs):
    """In sums over single pairs: 1 - H(cluster | token) / H(cluster)."""
    n, of_tokens, of_clusters = len(pairs), Counter(t for t, _ in pairs), Counter(c for _, c in pairs)
    unknown = -sum(k / n * math.log(k / n) for k in of_clusters.values())
    known = -sum(k / n * math.log(k / of_tokens[t]) for (t, _), k in Counter(pairs).items())
    expected = 1 - known / unknown if unknown else 1
    assert anatomy(*zip(*pairs, strict=True)).homogeneity == pytest.approx(expected, abs=1e-12)


@given(PAIRS, st.randoms(use_true_random=False))
def test_order_does_not_matter(pairs, random):
    before = anatomy(*zip(*pairs, strict=True))
    random.shuffle(pairs)
    assert anatomy(*zip(*pairs, strict=True)).figures() == before.figures()


def test_token_ids_that_are_hashes_take_no_room():
    """Arrays were as long as the greatest id: 17 GB each for the ids of the hashing encoder."""
    tokens, clusters = np.array([3, 3, 5]), np.array([0, 1, 1])
    assert anatomy(tokens * 2**40, clusters).figures() == anatomy(tokens, clusters).figures()


def test_pure_clusters_and_clusters_of_chance(rng):
    tokens = rng.integers(0, 50, 5000)
    pure = anatomy(tokens, tokens).figures()
    assert pure["median cluster purity"] == pure["tokens of purity above .95"] == 1
    assert pure["clusters"] == pure["tokens"] == 50
    assert pure["homogeneity"] == pytest.approx(1)
    chance = anatomy(tokens, rng.integers(0, 50, 5000)).figures()
    assert chance["median cluster purity"] < 0.1
    assert chance["clusters of at most 16 tokens"] == 0
    assert chance["homogeneity"] < 0.1
    assert anatomy(np.zeros(5000, int), tokens).homogeneity == pytest.approx(0)
    assert anatomy(range(5), np.zeros(5, int)).homogeneity == 1
    assert list(anatomy(tokens, tokens).table()["value"]) == list(pure.values())


@pytest.mark.parametrize(
    ("tokens", "clusters", "message"),
    [
        ([1, 2], [1], r"given \(2,\) and \(1,\)"),
        ([], [], r"at least one; given \(0,\)"),
        ([[1]], [[1]], r"given \(1, 1\)"),
        ([-1], [0], "tokens from -1"),
        ([0], [-5], "centroids from -5"),
    ],
)
def test_what_is_no_pair_of_ids(tokens, clusters, message):
    with pytest.raises(ValueError, match=message):
        anatomy(tokens, clusters)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40))
def test_ecdf_is_the_share_at_most(values):
    positions, shares = ecdf(values)
    assert positions.tolist() == sorted(set(values))
    assert shares.tolist() == [sum(v <= place for v in values) / len(values) for place in positions]
    assert shares[-1] == 1


def test_ecdf_of_nothing():
    with pytest.raises(ValueError, match="at least one value"):
        ecdf([])
