"""The greatest scores on a device: against a sort, over ties, rows of all lengths, and bad input."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colbert_research import kernels
from colbert_research.kernels import cuda_backend
from colbert_research.kernels.cuda import topk
from tests.kernels.cuda_arenas import arena_of, computed, poison_of

arena, _poison = arena_of(topk.KERNELS), poison_of(topk)
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SPECIAL = [-np.inf, np.inf, 0.0, -0.0, 1.0, -1.0, 2.0**-149, -(2.0**-149), 2.0**-126, 3e38, -3e38, 1 + 2.0**-23]


def by_sorting(scores: np.ndarray, k: int) -> list[int]:
    order = sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))
    return [i for i in order if scores[i] > -np.inf][:k]


class TestTopk:
    @few
    @given(scores=st.lists(st.sampled_from(SPECIAL), min_size=1, max_size=60), k=st.integers(1, 70))
    def test_special_numbers_and_ties(self, arena, scores, k):
        scores = np.array(scores, np.float32)
        assert computed(arena, topk.topk, scores, k).tolist() == by_sorting(scores, k)

    @pytest.mark.parametrize("n", [1, 31, 511, 512, 513, 2048, 9001])
    @pytest.mark.parametrize("grain", [0.0, 0.5])
    def test_rows_of_many_lengths(self, rng, arena, n, grain):
        scores = rng.standard_normal(n).astype(np.float32) + np.float32(20)
        scores = np.round(scores / grain) * np.float32(grain) if grain else scores
        scores[rng.random(n) < 0.1] = -np.inf
        for k in {1, 2, min(n, 100), min(n, topk.MOST)}:
            got = computed(arena, topk.topk, scores, k)
            assert got.dtype == np.int64
            assert np.array_equal(got, kernels.topk(scores, k))

    def test_neighbouring_scores_are_told_apart(self, rng, arena):
        """Scores that differ in their last bits alone: the last digit of three decides."""
        bits = np.float32(25).view(np.uint32) + rng.integers(0, 700, 3000).astype(np.uint32)
        scores = bits.view(np.float32)
        for k in (1, 10, 999):
            assert np.array_equal(computed(arena, topk.topk, scores, k), kernels.topk(scores, k))

    @pytest.mark.parametrize("value", [7.5, -np.inf])
    def test_all_equal(self, arena, value):
        scores = np.full(5000, value, np.float32)
        assert np.array_equal(computed(arena, topk.topk, scores, 1234), np.arange(1234 if value > 0 else 0))

    def test_not_a_number(self, rng, arena):
        scores = rng.standard_normal(3000).astype(np.float32)
        scores[[5, 2999]] = np.nan, -np.nan
        with arena, pytest.raises(ValueError, match=r"2 of 3000 scores are not numbers \(NaN\)"):
            topk.topk(arena.tensor(scores), 20)

    def test_as_many_as_a_block_sorts(self, rng, arena):
        scores = rng.integers(0, 3000, 9000).astype(np.float32)
        assert np.array_equal(computed(arena, topk.topk, scores, topk.MOST), kernels.topk(scores, topk.MOST))


def test_a_long_row(rng, arena):
    scores = rng.standard_normal(100_077).astype(np.float32)
    assert np.array_equal(computed(arena, topk.topk, scores, 50), kernels.topk(scores, 50))


def test_any_alignment(rng, arena):
    scores = rng.standard_normal(700).astype(np.float32)
    for start in (1, 2, 3):
        assert np.array_equal(computed(arena, topk.topk, scores[start:], 9), kernels.topk(scores[start:], 9))


class TestGreatest:
    @few
    @given(
        seed=st.integers(0, 10_000), rows=st.integers(1, 40), width=st.integers(1, 700), grain=st.sampled_from([0.0, 0.5, 4.0])
    )
    def test_order_and_ties(self, arena, seed, rows, width, grain):
        rng = np.random.default_rng(seed)
        scores = rng.standard_normal((rows, width)).astype(np.float32)
        scores = np.round(scores / grain) * np.float32(grain) if grain else scores
        n = int(rng.integers(1, width + 1))
        assert np.array_equal(computed(arena, topk.greatest, scores, n), kernels.greatest(scores, n, backend="reference"))

    def test_infinities_and_not_a_number_come_last(self, arena):
        scores = np.array([[np.nan, 1, -np.inf, np.inf, np.nan, -0.0, 0.0, -np.inf]], np.float32)
        for n in range(1, 9):
            got = computed(arena, topk.greatest, scores, n)
            assert np.array_equal(got, kernels.greatest(scores, n, backend="reference"))

    def test_no_rows(self, arena):
        assert computed(arena, topk.greatest, np.zeros((0, 5), np.float32), 2).shape == (0, 2)


class TestBadInput:
    """A Python error before anything is launched."""

    @pytest.mark.parametrize(
        ("function", "scores", "k", "error", "message"),
        [
            (topk.topk, np.zeros(3, np.float32), 0, ValueError, "k must be at least 1; given 0"),
            (topk.topk, np.zeros(0, np.float32), -1, ValueError, "k must be at least 1; given -1"),
            (topk.topk, np.zeros(3), 1, TypeError, "scores must be float32; given float64"),
            (topk.topk, np.zeros((3, 1), np.float32), 1, ValueError, r"scores must have 1 axes; given shape \(3, 1\)"),
            (topk.topk, np.zeros(6, np.float32)[::2], 1, ValueError, "scores must be contiguous"),
            (topk.topk, np.zeros(9000, np.float32), 8193, ValueError, "at most 8192 of a row; given 8193"),
            (topk.topk, [1.0], 1, TypeError, "expected a NumPy or CuPy array"),
            (topk.topk, np.zeros(3, np.float32), 1, ValueError, "takes arrays on a CUDA device; given numpy on the CPU"),
            (topk.greatest, np.zeros((2, 5), np.float32), 0, ValueError, "between 1 and the 5 scores of a row; given 0"),
            (topk.greatest, np.zeros((2, 5), np.float32), 6, ValueError, "between 1 and the 5 scores of a row; given 6"),
            (topk.greatest, np.zeros((2, 9000), np.float32), 8193, ValueError, "at most 8192 of a row; given 8193"),
        ],
    )
    def test_arguments(self, function, scores, k, error, message):
        with pytest.raises(error, match=message):
            function(scores, k)

    def test_nothing_to_choose_from(self, arena):
        assert computed(arena, topk.topk, np.zeros(0, np.float32), 5).shape == (0,)


def test_backend(rng, arena):
    scores = rng.integers(0, 50, (7, 300)).astype(np.float32)
    with arena:
        assert np.array_equal(cuda_backend.topk(scores[0], 9), kernels.topk(scores[0], 9))
        assert isinstance(cuda_backend.topk(arena.tensor(scores[0]), 9), torch.Tensor)
        expected = kernels.greatest(scores, 4, backend="reference")
        assert np.array_equal(kernels.greatest(scores, 4, backend="cuda"), expected)
        assert np.array_equal(kernels.greatest(np.asfortranarray(scores), 4, backend="cuda"), expected)
