"""Reducers, against NumPy's own SVD and the definitions."""

import numpy as np
import pytest

from colbert_research.encoders.reduce import REDUCERS, IdentityConfig, RandomProjectionConfig, SVDConfig, project
from colbert_research.settings import ConfigError

EPS = float(np.finfo(np.float32).eps)
DIM, KEPT = 16, 5


@pytest.fixture
def sample(rng) -> np.ndarray:
    """`(200, DIM)`, with singular values that halve, so that every subspace is well defined."""
    left, _ = np.linalg.qr(rng.standard_normal((200, DIM)))
    right, _ = np.linalg.qr(rng.standard_normal((DIM, DIM)))
    return (left * 0.5 ** np.arange(DIM) @ right.T).astype(np.float32)


def test_svd_finds_the_leading_directions(sample):
    found = SVDConfig(dim=KEPT).fit(sample, seed=0).astype(np.float64)
    expected = np.linalg.svd(sample.astype(np.float64))[2][:KEPT].T
    # rounding a unit column to float32 moves it by at most EPS / 2; V V' by twice that, times sqrt(KEPT) in Frobenius norm;
    # the float64 part, eps64 * |G| / gap = eps64 * 4**KEPT * 4 / 3, is far below. Factor 2 for the second-order term
    assert np.linalg.norm(found @ found.T - expected @ expected.T) <= 2 * EPS * np.sqrt(KEPT)
    # and column by column, up to sign: |<found, expected>| = 1
    np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=0)), 1, rtol=0, atol=2 * EPS)


def test_svd_does_not_centre():
    sample = np.zeros((50, 3), np.float32)
    sample[:, 0] = 10
    sample[:, 1] = np.resize([1, -1], 50)
    assert np.abs(SVDConfig(dim=1).fit(sample, seed=0)).argmax() == 0, "the mean is a direction, not an offset"


@pytest.mark.parametrize("config", [SVDConfig(dim=KEPT), RandomProjectionConfig(dim=KEPT)])
def test_the_same_sample_and_seed_give_the_same_bytes(sample, config):
    first = config.fit(sample, seed=3)
    assert (first.shape, first.dtype) == ((DIM, KEPT), np.float32)
    assert config.fit(sample.copy(), seed=3).tobytes() == first.tobytes()


def test_the_sign_of_svd_does_not_hang_on_the_data(sample):
    directions = SVDConfig(dim=KEPT).fit(sample, seed=0)
    assert (directions[np.abs(directions).argmax(axis=0), np.arange(KEPT)] > 0).all()
    assert SVDConfig(dim=KEPT).fit(-sample, seed=1).tobytes() == directions.tobytes()


@pytest.mark.parametrize("dim", [1, KEPT, DIM])
def test_random_projection_is_orthonormal_and_seeded(dim):
    empty = np.empty((0, DIM), np.float32)
    found = RandomProjectionConfig(dim=dim).fit(empty, seed=1)
    wide = found.astype(np.float64)
    # two unit columns, each rounded by at most EPS / 2: their product moves by at most EPS; twice it for second order
    np.testing.assert_allclose(wide.T @ wide, np.eye(dim), rtol=0, atol=2 * EPS)
    assert not np.array_equal(RandomProjectionConfig(dim=dim).fit(empty, seed=2), found)


def test_svd_keeps_at_least_as_much_as_a_random_projection(sample):
    wide = sample.astype(np.float64)
    kept = np.sum((wide @ SVDConfig(dim=KEPT).fit(sample, seed=0)) ** 2)
    # squared length kept changes by at most 2 * (EPS / 2) * sqrt(KEPT) of the whole, on either side
    slack = 2 * EPS * np.sqrt(KEPT) * np.sum(wide**2)
    for seed in range(20):
        assert kept >= np.sum((wide @ RandomProjectionConfig(dim=KEPT).fit(sample, seed=seed)) ** 2) - slack
    best = np.sum(np.linalg.svd(wide, compute_uv=False)[:KEPT] ** 2)
    assert abs(kept - best) <= slack


@pytest.mark.parametrize("config", [SVDConfig(dim=DIM + 1), RandomProjectionConfig(dim=DIM + 1)])
def test_more_dimensions_than_there_are(sample, config):
    with pytest.raises(ConfigError, match=r"reducer\.dim=17 is more than the 16"):
        config.fit(sample, seed=0)


def test_projected_vectors_are_l2_normalised_and_have_the_right_direction(sample, rng):
    projection = SVDConfig(dim=KEPT).fit(sample, seed=0)
    vectors = rng.standard_normal((40, DIM)).astype(np.float32)
    vectors[7] = 0
    found = project(vectors, projection)
    assert found.dtype == np.float32
    assert (found[7] == 0).all(), "a vector without length stays so"
    others = np.delete(np.arange(40), 7)
    # KEPT squares summed, a root and a division in float32: at most (KEPT + 3) roundings of EPS / 2 in the length
    np.testing.assert_allclose(np.linalg.norm(found[others].astype(np.float64), axis=1), 1, rtol=0, atol=(KEPT + 3) * EPS)
    exact = vectors[others].astype(np.float64) @ projection
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    # a product of DIM terms errs by DIM * EPS * |v| (the columns have norm one), here against |projected v|
    bound = (DIM + KEPT + 3) * EPS * np.linalg.norm(vectors[others], axis=1, keepdims=True) / lengths
    assert (np.abs(found[others] - exact / lengths) <= 2 * bound).all()


def test_identity_only_converts():
    vectors = np.array([[3.0, 4.0]], np.float16)
    found = project(vectors, IdentityConfig().fit(vectors, seed=0))
    assert found.dtype == np.float32
    assert found.tolist() == [[3.0, 4.0]]


def test_sample_sizes():
    assert SVDConfig(sample=10).sample_size(7) == 7
    assert SVDConfig(sample=10).sample_size(70) == 10
    assert [REDUCERS[kind]().sample_size(99) for kind in ("identity", "random_projection")] == [0, 0]
