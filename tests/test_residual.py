"""The residual codec: its buckets and levels, its codes by hand, and what is fitted on what."""

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.codecs import ResidualCodec, ResidualConfig
from colbert_research.codecs.buckets import Buckets
from colbert_research.kernels.operands import unpack_bits
from tests.contracts.codec_cases import DIM, clustered, error, fit


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(3000)


@pytest.mark.parametrize("buckets", ["per_dimension", "global"])
def test_error_falls_as_bits_rise(vectors, buckets):
    errors = [error(fit(ResidualConfig(nbits=b, centroids=16, buckets=buckets), vectors), vectors) for b in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 4


def test_buckets_for_each_dimension_follow_its_spread(vectors):
    own = error(fit(ResidualConfig(nbits=2, centroids=16), vectors), vectors)
    shared = error(fit(ResidualConfig(nbits=2, centroids=16, buckets="global"), vectors), vectors)
    assert own < shared


@pytest.mark.parametrize("levels", ["least_squares", "quantiles"])
@pytest.mark.parametrize("buckets", ["per_dimension", "global"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_each_residual_and_its_level_lie_in_one_bucket(vectors, bits, buckets, levels):
    """So the error of a coordinate is at most the width of its bucket; the outermost end where the sample's residuals do."""
    config = ResidualConfig(nbits=bits, centroids=16, buckets=buckets, levels=levels, points_per_centroid=1000)
    codec = config.fit(vectors, n_tokens=len(vectors), seed=3)
    codes = codec.encode(vectors)
    scales = codec.buckets.scales
    residuals = (vectors - codec.centroids[codes["centroid_ids"]]) / scales
    edges = np.concatenate([[residuals.min()], codec.buckets.cutoffs, [residuals.max()]])
    chosen = unpack_bits(codes["residuals"], bits, DIM).astype(int)
    level = codec.buckets.levels[chosen]
    rounding = 2 * np.finfo(np.float32).eps * np.abs(residuals).max()
    for value in (residuals, level):
        assert np.all(value >= edges[chosen] - rounding)
        assert np.all(value <= edges[chosen + 1] + rounding)
    unscaled = codec.centroids[codes["centroid_ids"]] + scales * level
    assert np.all(np.abs(unscaled - vectors) <= (np.diff(edges)[chosen] + 2 * rounding) * scales)
    lengths = np.linalg.norm(unscaled, axis=1, keepdims=True)
    # a float16 inverse norm errs by half a unit in its last place
    assert np.abs(codec.decode(codes) - unscaled / lengths).max() <= np.finfo(np.float16).eps + 4 * np.finfo(np.float32).eps


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_levels_of_least_squares_are_better_than_quantiles(vectors, bits):
    errors = [
        error(fit(ResidualConfig(nbits=bits, centroids=16, levels=name), vectors), vectors)
        for name in ("least_squares", "quantiles")
    ]
    assert errors[0] < errors[1]


def test_levels_of_least_squares_by_hand():
    """Two clumps of values and two levels: the means of the clumps, and the cutoff half-way."""
    buckets = Buckets.fit(np.array([[-3.0, -1.0, 4.0, 6.0, 5.0]]).T, 1, scaled=False, levels="least_squares")
    assert buckets.levels.tolist() == [-2, 5]
    assert buckets.cutoffs.tolist() == [1.5]
    assert buckets.scales.tolist() == [1]


def test_codes_by_hand():
    """A residual on a cutoff belongs to the bucket below it."""
    buckets = Buckets(np.array([1, 2], np.float32), np.array([-1, 0, 1], np.float32), np.array([-2, -0.5, 0.5, 2], np.float32))
    codec = ResidualCodec(ResidualConfig(nbits=2, centroids=1), np.zeros((1, 2), np.float32), buckets)
    codes = codec.encode(np.array([[-1, -1], [0, 1], [1, 3]], np.float32))
    assert codes["centroid_ids"].tolist() == [0, 0, 0]
    assert unpack_bits(codes["residuals"], 2, 2).tolist() == [[0, 1], [1, 2], [2, 3]]
    lengths = np.hypot([-2, -0.5, 0.5], [-1, 1, 4])
    assert codes["inverse_norms"].tolist() == (1 / lengths).astype(np.float16).tolist()


def test_vectors_of_zeros_stay_zeros():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((400, 16)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    values[:100] = 0
    codec = ResidualConfig(nbits=4).fit(values, n_tokens=400, seed=0)
    decoded = codec.decode(codec.encode(values))
    assert not decoded[:100].any()
    assert np.abs(np.linalg.norm(decoded[100:], axis=1) - 1).max() <= 2 * np.finfo(np.float16).eps


def test_the_seed_matters(vectors):
    config = ResidualConfig(nbits=2, centroids=16)
    assert not np.array_equal(fit(config, vectors, seed=3).centroids, fit(config, vectors, seed=4).centroids)


def test_held_out_tokens_make_the_buckets():
    """From 4096 held-out tokens (5 % of 81 920) on, the residuals of tokens that k-means did not see are measured."""
    many = clustered(82_000)
    config = ResidualConfig(nbits=2, centroids=4, iterations=1, points_per_centroid=20_500, levels="quantiles")
    codec = config.fit(many, n_tokens=len(many), seed=0)
    held = many[np.sort(np.random.default_rng(0).permutation(len(many))[: int(0.05 * len(many))])]
    residuals = held - codec.centroids[kernels.assign(held, codec.centroids)]
    scales = np.sqrt(np.mean(residuals.astype(np.float64) ** 2, axis=0)).astype(np.float32)
    assert np.array_equal(codec.buckets.scales, scales)
    cutoffs = np.quantile(residuals.astype(np.float64) / scales, [0.25, 0.5, 0.75])
    assert np.array_equal(codec.buckets.cutoffs, cutoffs.astype(np.float32))
