"""Scalar codes without centroids: signs, equal steps, and what they lose."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from colbert_research.codecs import ScalarConfig, bytes_per_token
from colbert_research.codecs.buckets import Buckets
from colbert_research.kernels.operands import unpack_bits
from colbert_research.ragged import Ragged, offsets_of

DIM = 32


@pytest.fixture
def vectors(rng) -> np.ndarray:
    """Unit vectors, the last dimensions with a tenth of the spread of the first."""
    values = rng.standard_normal((2000, DIM)) * np.linspace(1, 0.1, DIM)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def fitted(vectors, **settings):
    return ScalarConfig(**settings).fit(vectors, n_tokens=len(vectors), seed=0)


def test_one_bit_is_the_sign_of_each_dimension(vectors):
    codec = fitted(vectors, nbits=1)
    codes = codec.encode(vectors)
    assert set(codes) == {"numbers"}
    assert bytes_per_token(codec) == DIM // 8
    assert np.array_equal(np.unpackbits(codes["numbers"], axis=1), vectors > 0)
    expected = np.where(vectors > 0, 1, -1) / np.sqrt(DIM)
    assert np.abs(codec.decode(codes) - expected).max() <= np.finfo(np.float32).eps


def test_signs_for_each_dimension_are_as_large_as_its_spread(vectors):
    codec = fitted(vectors, nbits=1, buckets="per_dimension")
    spread = np.sqrt(np.mean(vectors.astype(np.float64) ** 2, axis=0))
    expected = np.where(vectors > 0, 1, -1) * spread / np.linalg.norm(spread)
    assert np.abs(codec.decode(codec.encode(vectors)) - expected).max() <= 4 * np.finfo(np.float32).eps


def test_scores_of_signs_are_hamming_distances(vectors):
    """(dim - 2 * differing bits) / dim between codes: an independent way to the same number."""
    codec = fitted(vectors, nbits=1)
    codes = codec.encode(vectors[:200])
    signs = codec.decode(codes)
    scores = codec.maxsim(Ragged(signs[:50], offsets_of([1] * 50)), codes, offsets_of([1] * 200))
    bits = np.unpackbits(codes["numbers"], axis=1).astype(int)
    differing = (bits[:50, None] != bits[None]).sum(axis=2)
    # a query of signs is exact in integers: what is left is float32 rounding of sums of dim products
    assert np.abs(scores - (1 - 2 * differing / DIM)).max() <= 4 * DIM * np.finfo(np.float32).eps


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_equal_steps_are_equal_and_symmetric(vectors, bits):
    buckets = Buckets.fit(vectors, bits, scaled=False, levels="uniform")
    steps = np.diff(buckets.levels.astype(np.float64))
    # each level and cutoff is rounded once to float32
    rounding = 2 * np.finfo(np.float32).eps * np.abs(buckets.levels).max()
    assert np.ptp(steps) <= rounding
    assert np.abs(buckets.levels + buckets.levels[::-1]).max() == 0
    assert np.abs(buckets.cutoffs - (buckets.levels[1:] + buckets.levels[:-1]) / 2).max() <= rounding


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_step_errs_less_than_one_that_covers_everything_or_half(vectors, bits):
    vectors = vectors[:200]
    chosen = Buckets.fit(vectors, bits, scaled=False, levels="uniform").levels
    covering = (np.arange(2**bits) - (2**bits - 1) / 2) * 2 * np.abs(vectors).max() / 2**bits

    def squared_error(levels):
        return np.square(np.abs(vectors[:, :, None] - levels).min(axis=2)).sum()

    assert squared_error(chosen) <= squared_error(covering) * (1 + 1e-6)
    assert squared_error(chosen) <= squared_error(covering / 2) * (1 + 1e-6)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float32, (6, 5), elements=st.floats(-4, 4, width=32)),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from(["uniform", "least_squares", "quantiles"]),
)
@example(np.array([[1e-45], [0], [0]], np.float32), 1, "uniform")  # their standard deviation is zero in float32
@example(np.array([[-1, -1], [-3e-27, 0], *[[1, 1]] * 4], np.float32), 8, "least_squares")  # its levels were not ascending
def test_numbers_are_searchsorted(values, bits, levels):
    buckets = Buckets.fit(values, bits, scaled=True, levels=levels)
    assert (np.diff(buckets.cutoffs) >= 0).all()
    assert (np.diff(buckets.levels) >= 0).all()
    expected = np.searchsorted(buckets.cutoffs, values / buckets.scales, side="left")
    assert np.array_equal(buckets.numbers(values), expected)


def test_error_falls_as_bits_rise(vectors):
    for buckets in ("global", "per_dimension"):
        cosines = []
        for bits in (1, 2, 4, 8):
            codec = fitted(vectors, nbits=bits, buckets=buckets)
            cosines.append(float((codec.decode(codec.encode(vectors)) * vectors).sum(axis=1).mean()))
        assert cosines == sorted(cosines)
        assert cosines[-1] > 0.999


def test_dimensions_that_are_no_multiple_of_a_byte(vectors):
    codec = fitted(vectors[:, :13], nbits=2, levels="quantiles")
    numbers = codec.encode(vectors[:, :13])["numbers"]
    assert numbers.shape == (len(vectors), 4)
    expected = np.searchsorted(codec.buckets.cutoffs, vectors[:, :13], side="left")
    assert np.array_equal(unpack_bits(numbers, 2, 13), expected)
