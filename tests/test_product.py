"""Product quantisation: codewords, rotations, and codes that are the nearest."""

import numpy as np
import pytest

from colbert_research import threads
from colbert_research.codecs import ProductConfig, ResidualProductConfig
from colbert_research.codecs.subspaces import balanced_rotation, nearest_codewords, rotate, train_codewords, train_rotated
from colbert_research.settings import ConfigError

DIM = 16
EPS = float(np.finfo(np.float32).eps)


@pytest.fixture
def vectors(rng) -> np.ndarray:
    """Correlated unit vectors: much variance in few directions, none of them an axis."""
    mixed = rng.standard_normal((DIM, DIM)) * np.geomspace(1, 0.03, DIM)
    values = rng.standard_normal((3000, DIM)) @ mixed.T
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def squared_error(vectors, codewords) -> float:
    codes = nearest_codewords(vectors, codewords)
    return float(np.square(codewords[np.arange(len(codewords)), codes].reshape(vectors.shape) - vectors).sum(axis=1).mean())


@pytest.mark.parametrize("m", [1, 4, 16])
def test_codes_are_the_nearest_codewords(vectors, rng, m):
    codewords = rng.standard_normal((m, 256, DIM // m)).astype(np.float32)
    codes = nearest_codewords(vectors[:300], codewords)
    parts = vectors[:300].reshape(300, m, 1, DIM // m).astype(np.float64)
    distances = np.square(parts - codewords[None].astype(np.float64)).sum(axis=3)
    chosen = np.take_along_axis(distances, codes[:, :, None].astype(int), axis=2)[:, :, 0]
    # x . w - |w|^2 / 2 is a float32 sum of dim + 1 terms of at most |w|^2, twice for the two codewords compared
    longest = float(np.square(codewords).sum(axis=2).max())
    assert np.all(chosen <= distances.min(axis=2) + 4 * (DIM + 1) * EPS * longest)


def test_k_means_lowers_the_error(vectors):
    errors = [squared_error(vectors, train_codewords(vectors, 4, iterations=i, seed=0)) for i in (0, 1, 3, 10)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_each_codeword_is_the_mean_of_its_vectors(vectors):
    """After enough iterations nothing moves: the condition that k-means is named by."""
    few = np.repeat(vectors[:5], 20, axis=0)
    codewords = train_codewords(few, 4, iterations=3, seed=0)
    assert np.abs(few.reshape(100, 4, 4) - codewords[np.arange(4), nearest_codewords(few, codewords)]).max() <= 20 * EPS


@pytest.mark.parametrize("n", [1, 3, 256])
def test_no_more_vectors_than_codewords_are_kept_as_they_are(vectors, n):
    codec = ProductConfig(m=4).fit(vectors[:n], n_tokens=n, seed=0)
    decoded = codec.table.values(codec.encode(vectors[:n])["codewords"])
    assert np.abs(decoded - vectors[:n]).max() <= 4 * EPS


def test_rotations_are_rotations(vectors):
    for rotation in (balanced_rotation(vectors, 4), train_rotated(vectors, 4, iterations=3, seed=0)[1]):
        assert np.abs(rotation.astype(np.float64) @ rotation.T - np.eye(DIM)).max() <= DIM * EPS
        back = rotate(rotate(vectors, rotation), np.ascontiguousarray(rotation.T))
        assert np.abs(back - vectors).max() <= 2 * DIM * EPS


def test_variance_is_dealt_evenly():
    """Four directions whose variances are 8, 4, 2 and 1: 8 with 1, and 4 with 2, whichever axes they lie on."""
    scales = np.sqrt([2, 8, 1, 4])
    sample = np.concatenate([np.diag(scales), -np.diag(scales)]).astype(np.float32)
    dealt = np.abs(balanced_rotation(sample, 2))
    assert np.abs(dealt - np.eye(4)[[1, 2, 3, 0]]).max() <= 4 * EPS
    mixed = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    rotated = rotate((sample @ mixed).astype(np.float32), balanced_rotation((sample @ mixed).astype(np.float32), 2))
    # eight vectors, each direction on two of them; a float32 rotation errs by a few eps of the longest
    assert np.abs(np.cov(rotated.T, bias=True) - np.diag([8, 1, 4, 2]) / 4).max() <= 16 * EPS * 8


@pytest.mark.parametrize("m", [2, 4])
def test_a_rotation_lowers_the_error(vectors, m):
    plain = squared_error(vectors, train_codewords(vectors, m, iterations=10, seed=0))
    codewords, rotation = train_rotated(vectors, m, iterations=10, seed=0)
    assert squared_error(rotate(vectors, rotation), codewords) < plain


@pytest.mark.slow
def test_more_sub_spaces_err_less(vectors):
    errors = []
    for m in (1, 2, 4, 8, 16):
        codec = ProductConfig(m=m).fit(vectors, n_tokens=len(vectors), seed=0)
        errors.append(float(np.linalg.norm(codec.decode(codec.encode(vectors)) - vectors, axis=1).mean()))
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("config", [ProductConfig(m=5), ResidualProductConfig(m=5, centroids=4)])
def test_sub_spaces_that_do_not_divide_the_dimensions(vectors, config):
    with pytest.raises(ConfigError, match=r"m=5 sub-spaces cannot share 16 dimensions equally; give one of 1, 2, 4, 8, 16"):
        config.fit(vectors, n_tokens=len(vectors), seed=0)


@pytest.mark.slow
def test_seeds_and_threads(vectors, monkeypatch):
    one, other = (ProductConfig(m=4, rotation="opq").fit(vectors, n_tokens=3000, seed=seed) for seed in (0, 1))
    assert one.codewords.tobytes() != other.codewords.tobytes()
    monkeypatch.setattr(threads, "count", lambda: 5)
    again = ProductConfig(m=4, rotation="opq").fit(vectors, n_tokens=3000, seed=0)
    for name, array in one.state().items():
        assert array.tobytes() == again.state()[name].tobytes()


def test_centroids_stay_as_they_were_clustered(vectors):
    """Search strategies and the inverted lists see centroids in the space of the queries, rotated or not."""
    config = ResidualProductConfig(m=4, centroids=8, rotation="opq")
    centroids = config.cluster(vectors, n_tokens=len(vectors), seed=0)
    codec = config.fit(vectors, n_tokens=len(vectors), seed=0, centroids=centroids)
    assert np.array_equal(codec.centroids, centroids)
    assert not np.allclose(codec.table.centroids, centroids)
