"""Centroids: the formula of PLAID, and seeded k-means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_research.codecs.clustering import _distinct, _Sample, kmeans, plaid_centroid_count
from colbert_research.kernels import assign

DIM = 24
EPS = float(np.finfo(np.float32).eps)


@pytest.fixture
def sample(rng) -> np.ndarray:
    """900 unit vectors around 12 directions."""
    values = rng.standard_normal((12, DIM))[rng.integers(0, 12, 900)] * 3 + rng.standard_normal((900, DIM))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    # 16 sqrt(n) is 256 at n = 256, 8192 at 512**2 and 16384 at 1024**2
    [
        *[(1, 1), (2, 2), (3, 2), (4, 4), (50, 32), (255, 128), (256, 256), (512**2 - 1, 4096), (512**2, 8192)],
        *[(771_460, 8192), (1_000_000, 8192), (1024**2 - 1, 8192), (1024**2, 16_384), (1_100_000, 16_384)],
    ],
)
def test_the_formula_of_plaid(tokens, expected):
    assert plaid_centroid_count(tokens) == expected


@given(st.integers(1, 10**10))
def test_the_formula_is_the_largest_power_of_two_within_both_bounds(tokens):
    k = plaid_centroid_count(tokens)
    allowed = [2**e for e in range(40) if 2**e <= tokens and (2**e) ** 2 <= 256 * tokens]
    assert k == allowed[-1]
    assert plaid_centroid_count(tokens + 1) >= k


@pytest.mark.parametrize("tokens", [0, -3])
def test_no_tokens_have_no_centroids(tokens):
    with pytest.raises(ValueError, match="without tokens has no centroids"):
        plaid_centroid_count(tokens)


def test_centroids_are_l2_normalised_and_fit_better_after_more_iterations(sample):
    one, six = (kmeans(sample, 12, iterations=i, seed=1) for i in (1, 6))
    for centroids in (one, six):
        assert centroids.shape == (12, DIM)
        assert centroids.dtype == np.float32
        assert np.abs(np.linalg.norm(centroids.astype(np.float64), axis=1) - 1).max() <= DIM * EPS
    closeness = [(sample @ c.T).max(axis=1).mean() for c in (sample[:12], one, six)]
    assert closeness == sorted(closeness)
    assert closeness[0] < closeness[2]


def test_seeds(sample):
    before = sample.copy()
    a, b, other = (kmeans(sample, 12, iterations=3, seed=seed) for seed in (5, 5, 6))
    assert a.tobytes() == b.tobytes()
    assert a.tobytes() != other.tobytes()
    assert np.array_equal(sample, before)


def test_one_centroid_is_the_mean_direction(sample):
    mean = sample.astype(np.float64).mean(axis=0)
    # a float32 sum of n unit vectors errs by at most n * eps * n in a coordinate, before division by its length
    tolerance = len(sample) * EPS / np.linalg.norm(mean)
    found = kmeans(sample, 1, iterations=2, seed=0)[0]
    assert np.abs(found - mean / np.linalg.norm(mean)).max() <= tolerance


def test_as_many_centroids_as_vectors(sample):
    assert np.abs(kmeans(3 * sample[:7], 7, iterations=4, seed=0) - sample[:7]).max() <= DIM * EPS


def test_more_centroids_than_vectors(sample):
    with pytest.raises(ValueError, match="6 centroids need at least as many token vectors; given 5"):
        kmeans(sample[:5], 6, iterations=1, seed=0)


def test_repeated_and_zero_vectors(sample):
    repeated = np.concatenate([np.repeat(sample[:3], 10, axis=0), np.zeros((4, DIM), np.float32)])
    for k in (3, 8, len(repeated)):
        centroids = kmeans(repeated, k, iterations=4, seed=0)
        assert centroids.shape == (k, DIM)
        assert np.isfinite(centroids).all()


def test_nothing_is_printed(sample, capfd):
    kmeans(sample, 12, iterations=2, seed=0)
    assert capfd.readouterr() == ("", "")


def test_a_vector_that_is_there_often_is_one_centroid(rng):
    few, many = rng.standard_normal((40, 8)).astype(np.float32), rng.standard_normal((1, 8)).astype(np.float32)
    sample = np.concatenate([few[:20], np.repeat(many, 500, axis=0), few[20:]])
    centroids = kmeans(sample, 16, iterations=4, seed=0)
    nearest = (centroids @ (many[0] / np.linalg.norm(many))) > 1 - 1e-5
    assert nearest.sum() == 1
    assert len(np.unique(assign(few, centroids))) >= 12, "the others share the rest"


def test_fewer_distinct_vectors_than_centroids(rng):
    few = rng.standard_normal((5, 8)).astype(np.float32)
    centroids = kmeans(np.repeat(few, 3, axis=0), 8, iterations=4, seed=0)
    unit = few / np.linalg.norm(few, axis=1, keepdims=True)
    np.testing.assert_allclose(centroids, unit[[0, 1, 2, 3, 4, 0, 1, 2]], rtol=0, atol=4 * np.finfo(np.float32).eps)


def test_weights_do_what_repetitions_do(rng):
    """The mean of a cluster is that of all its tokens, however often the same vector is among them."""
    sample = np.repeat(rng.standard_normal((6, 4)).astype(np.float32), [1, 1, 9, 1, 1, 1], axis=0)
    ids, _, sums = _Sample(*_distinct(sample)).assign_to(sample[[0, 2]])
    whole = assign(sample, sample[[0, 2]] / np.linalg.norm(sample[[0, 2]], axis=1, keepdims=True))
    for centroid in (0, 1):
        np.testing.assert_allclose(sums[centroid], sample[whole == centroid].sum(axis=0), rtol=32 * EPS, atol=32 * EPS)
    assert len(ids) == 6
