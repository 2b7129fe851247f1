"""RaBitQ: reconstruction values that follow from the dimensions, rotations, and errors that do not depend on the data."""

import numpy as np
import pytest
from scipy.special import gammaln

from colbert_research.codecs import RabitqConfig, ResidualRabitqConfig, ScalarConfig, bytes_per_token
from colbert_research.codecs.rabitq import LENGTH
from colbert_research.codecs.rotated import random_rotation, reconstruction_values
from colbert_research.kernels.operands import unpack_bits
from colbert_research.settings import ConfigError

DIM = 32
EPS = float(np.finfo(np.float32).eps)
GAUSSIAN = {  # Max 1960, table I: of unit variance, to four decimals
    1: [0.7980],
    2: [0.4528, 1.510],
    4: [0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733],
}


def unit(values) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def vectors(rng) -> np.ndarray:
    """Unit vectors, the last dimensions with a tenth of the spread of the first."""
    return unit(rng.standard_normal((500, DIM)) * np.linspace(1, 0.1, DIM))


class TestReconstructionValues:
    @pytest.mark.parametrize("nbits", [1, 2, 4])
    def test_of_many_dimensions_they_are_those_of_a_gaussian(self, nbits):
        values = reconstruction_values(40_000, nbits) * 200
        # published with three or four digits; the density is the Gaussian's up to terms of the order of 1 / dim
        assert values[2 ** (nbits - 1) :] == pytest.approx(GAUSSIAN[nbits], abs=6e-4)
        assert np.array_equal(values, -values[::-1])

    @pytest.mark.parametrize("nbits", [1, 2, 4])
    def test_on_a_sphere_in_three_dimensions_they_rise_in_equal_steps(self, nbits):
        """A coordinate of a point on it is uniform (Archimedes)."""
        n = 2**nbits
        assert reconstruction_values(3, nbits) == pytest.approx((2 * np.arange(n) + 1 - n) / n, abs=1e-8)

    @pytest.mark.parametrize("dim", [2, 5, 48, 128])
    def test_one_bit_is_the_mean_absolute_coordinate(self, dim):
        mean = np.exp(gammaln(dim / 2) - gammaln((dim + 1) / 2)) / np.sqrt(np.pi)
        assert reconstruction_values(dim, 1) == pytest.approx([-mean, mean], rel=1e-12)

    @pytest.mark.parametrize("nbits", [1, 2, 4])
    def test_no_neighbouring_values_err_less(self, nbits, rng):
        """Of coordinates that were drawn, moving the values by a hundredth makes the squared error greater."""
        coordinates = unit(rng.standard_normal((4000, DIM))).ravel()
        values = reconstruction_values(DIM, nbits)

        def error(values):
            return np.square(coordinates - values[np.searchsorted((values[1:] + values[:-1]) / 2, coordinates)]).mean()

        for factor in (0.95, 1.05):
            assert error(values) < error(values * factor)

    def test_one_dimension_is_refused(self):
        with pytest.raises(ConfigError, match=r"at least 2 dimensions; given 1\. Choose codec.kind=scalar"):
            RabitqConfig().fit(np.ones((1, 1), np.float32), n_tokens=1, seed=0)


class TestRotation:
    @pytest.mark.parametrize("dim", [2, 3, 48])
    def test_it_keeps_inner_products(self, dim):
        rotation = random_rotation(dim, seed=3).astype(np.float64)
        assert np.abs(rotation @ rotation.T - np.eye(dim)).max() <= dim * EPS
        assert np.array_equal(random_rotation(dim, seed=3), random_rotation(dim, seed=3))
        assert not np.array_equal(random_rotation(dim, seed=3), random_rotation(dim, seed=4))

    def test_it_leads_anywhere_alike(self):
        """Entries of a uniform one have the mean 0, the mean square 1 / dim and the fourth moment 3 / dim (dim + 2)."""
        dim, n = 5, 2000
        drawn = np.stack([random_rotation(dim, seed=seed) for seed in range(n)]).astype(np.float64)
        fourth, eighth = 3 / (dim * (dim + 2)), 105 / (dim * (dim + 2) * (dim + 4) * (dim + 6))
        # five standard errors of each mean
        assert np.abs(drawn.mean(axis=0)).max() <= 5 * np.sqrt(1 / dim / n)
        assert np.abs((drawn**2).mean(axis=0) - 1 / dim).max() <= 5 * np.sqrt((fourth - 1 / dim**2) / n)
        assert np.abs((drawn**4).mean(axis=0) - fourth).max() <= 5 * np.sqrt((eighth - fourth**2) / n)


def by_hand(codec, vectors, centroids=None) -> np.ndarray:
    """What is quantised, in float64, in the space of the codes."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float64)
    if centroids is not None:
        cosines = (units * centroids).sum(axis=1, keepdims=True)
        multiples = cosines + np.sqrt(np.maximum(0.64 - 1 + cosines**2, 0))
        units = (np.maximum(multiples, 1) * units - centroids) / 0.8
    return units @ codec.rotation.astype(np.float64).T


@pytest.mark.parametrize("nbits", [1, 2, 4])
@pytest.mark.parametrize("centroids", [None, 12])
def test_codes_are_the_nearest_values_in_double_precision(vectors, nbits, centroids):
    config = RabitqConfig(nbits=nbits) if centroids is None else ResidualRabitqConfig(nbits=nbits, centroids=centroids)
    codec = config.fit(vectors, n_tokens=len(vectors), seed=1)
    codes = codec.encode(vectors * np.float32(3))
    nearest = None if centroids is None else codec.centroids[codes["centroid_ids"]].astype(np.float64)
    exact = by_hand(codec, vectors.astype(np.float64), nearest)
    values = reconstruction_values(DIM, nbits)
    cutoffs = (values[1:] + values[:-1]) / 2
    sure = np.abs(exact[:, :, None] - cutoffs).min(axis=2) > 4 * DIM * EPS  # rounding cannot move it across a cutoff
    assert sure.mean() > 0.99
    numbers = unpack_bits(codes["numbers"], nbits, DIM)
    assert np.array_equal(numbers[sure], np.searchsorted(cutoffs, exact)[sure])
    decoded = values[numbers]
    if nearest is not None:
        decoded = 0.8 * decoded + nearest @ codec.rotation.astype(np.float64).T
    decoded = decoded / np.linalg.norm(decoded, axis=1, keepdims=True) @ codec.rotation
    # the inverse norm is a float16
    assert np.abs(codec.decode(codes) - decoded).max() <= np.finfo(np.float16).eps + 2 * DIM * EPS


@pytest.mark.parametrize("nbits", [1, 4])
@pytest.mark.parametrize("sparse", [True, False])
def test_estimates_are_unbiased_and_err_as_the_paper_says(nbits, sparse):
    """RaBitQ, theorem 3.2: with c = <code, vector>, <code, query> / c has the mean <vector, query>.

    Its error, divided by sqrt((1 - c^2) / c^2) and by the part of the query that is orthogonal to the vector, is a coordinate
    of a random unit vector in dim - 1 dimensions: of the order of 1 / sqrt(dim). The vectors are fixed, the rotations drawn.
    """
    rng, n = np.random.default_rng(5), 120
    vector, query = unit(rng.standard_normal((2, DIM))).astype(np.float64)
    if sparse:  # nearly an axis, where signs without a rotation say least
        vector = np.eye(DIM)[3]
    product, errors = vector @ query, []
    for seed in range(n):
        codec = RabitqConfig(nbits=nbits).fit(vector[None].astype(np.float32), n_tokens=1, seed=seed)
        decoded = codec.decode(codec.encode(vector[None].astype(np.float32)))[0].astype(np.float64)
        decoded /= np.linalg.norm(decoded)
        c = decoded @ vector
        errors.append((decoded @ query / c - product) / np.sqrt((1 - c**2) / c**2) / np.sqrt(1 - product**2))
    others, squares = DIM - 1, np.square(errors)
    # five standard errors of the mean, and of the mean square, whose fourth moment is 3 / (d (d + 2))
    assert abs(np.mean(errors)) <= 5 / np.sqrt(others * n)
    assert abs(squares.mean() - 1 / others) <= 5 * np.sqrt((3 / (others * (others + 2)) - 1 / others**2) / n)


def test_errors_do_not_depend_on_the_data():
    """Vectors along single axes: signs of the vectors themselves know next to nothing of them, of rotated ones as ever."""
    axes = np.repeat(np.eye(64, dtype=np.float32), 2, axis=0) * np.tile([[1], [-1]], (64, 1)).astype(np.float32)
    cosines = {}
    for config in (ScalarConfig(nbits=1), RabitqConfig(nbits=1)):
        codec = config.fit(axes[: config.sample_size(len(axes))], n_tokens=len(axes), seed=0)
        cosines[config.kind] = float((codec.decode(codec.encode(axes)) * axes).sum(axis=1).mean())
    # the mean of c is sqrt(dim) times the mean absolute coordinate, about .8; that of one axis is 1 / sqrt(dim)
    assert cosines["rabitq"] == pytest.approx(8 * reconstruction_values(64, 1)[1], abs=5 / np.sqrt(2 * 64 * 64))
    assert cosines["scalar"] == pytest.approx(1 / 8, abs=64 * EPS)


def test_residuals_have_one_length_and_lead_back(vectors):
    codec = ResidualRabitqConfig(nbits=2, centroids=40).fit(vectors, n_tokens=len(vectors), seed=1)
    nearest = codec.centroids[codec.encode(vectors)["centroid_ids"]]
    residuals = codec.left_over(vectors, nearest)
    near = (vectors * nearest).sum(axis=1) >= 0.68 + DIM * EPS
    assert 0.1 < near.mean() < 1
    assert np.abs(np.linalg.norm(residuals[near], axis=1) - LENGTH).max() <= DIM * EPS
    far = np.linalg.norm(residuals[~near], axis=1)
    assert far == pytest.approx(np.linalg.norm((vectors - nearest)[~near], axis=1), abs=4 * EPS)
    assert far.min() >= LENGTH - DIM * EPS and far.max() <= 2
    assert np.abs(unit(nearest + residuals) - vectors).max() <= 4 * EPS


def test_more_bits_and_centroids_err_less(vectors):
    made = {}
    for bits in (1, 2, 4):
        for config in (RabitqConfig(nbits=bits), ResidualRabitqConfig(nbits=bits, centroids=64)):
            codec = config.fit(vectors, n_tokens=len(vectors), seed=2)
            made[config.kind, bits] = float((codec.decode(codec.encode(vectors)) * vectors).sum(axis=1).mean())
            own = 2 if codec.stores_norms else 0
            assert bytes_per_token(codec) == DIM * bits // 8 + own + (2 if codec.n_centroids else 0)
    for kind in ("rabitq", "residual_rabitq"):
        assert made[kind, 1] < made[kind, 2] < made[kind, 4]
    assert all(made["rabitq", bits] < made["residual_rabitq", bits] for bits in (1, 2, 4))
    assert made["rabitq", 4] > 0.99
