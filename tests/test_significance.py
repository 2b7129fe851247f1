"""Tests and intervals of paired differences: by hand, by enumeration, against SciPy, and what holds whatever is given."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from colbert_research.evaluation.paired import EPS, deviation, differences
from colbert_research.evaluation.significance import bootstrap_interval, holm, randomization_test

STEPS = st.lists(st.integers(-8, 8), min_size=1, max_size=10)
"""Differences that are sums of powers of two, so that sums of them are exact."""


def enumerated(values) -> float:
    """The definition: every assignment of which system is which, zeros among them."""
    seen = abs(sum(values))
    assignments = itertools.product((1, -1), repeat=len(values))
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in assignments]
    return sum(each >= seen for each in sums) / len(sums)


class TestDifferences:
    def test_what_rounding_makes_is_a_tie(self):
        found = differences([0.1 + 0.2, 0.5, 1e-300, 0.25], [0.3, 0.4, 0.0, 0.5])
        assert found[0] == 0.0
        assert found.tolist()[2:] == [1e-300, -0.25]

    @pytest.mark.parametrize("wrong", [([1.0], [1.0, 2.0]), (1.0, 1.0), ([[1.0]], [[1.0]])])
    def test_other_shapes(self, wrong):
        with pytest.raises(ValueError, match="two rows of the same queries"):
            differences(*wrong)

    def test_values_that_are_none(self):
        with pytest.raises(ValueError, match="of `baseline`, position 1 holds nan"):
            differences([1.0, 2.0], [1.0, math.nan])

    def test_deviation(self, rng):
        values = rng.standard_normal(50)
        assert deviation(values) == np.std(values, ddof=1)
        assert deviation(np.array([0.3])) == deviation(np.full(9, 0.1 + 0.2)) == 0.0
        assert deviation(np.array([0.3, 0.1 + 0.2])) == 0.0


class TestRandomization:
    @settings(max_examples=60, deadline=None)
    @given(STEPS)
    def test_few_queries_are_enumerated(self, steps):
        values = np.array(steps) / 16
        found = randomization_test(values)
        assert (found.exact, found.assignments) == (True, 2 ** np.count_nonzero(values))
        assert found.p == enumerated(list(values))

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=8), st.randoms(use_true_random=False))
    def test_neither_the_order_of_queries_nor_of_systems_counts(self, values, random):
        found = randomization_test(values).p
        shuffled = random.sample(values, len(values))
        assert randomization_test(shuffled).p == randomization_test(-np.array(values)).p == found
        assert 0 < found <= 1

    def test_it_is_scipy_s_when_exact(self, rng):
        values = rng.normal(0.3, 1.0, 12)
        theirs = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=2**12)
        assert randomization_test(values).p == theirs.pvalue

    def test_many_queries_are_drawn(self, rng):
        values = rng.normal(0.005, 0.05, 300)
        found = randomization_test(values, resamples=50_000, seed=3)
        assert (found.exact, found.assignments) == (False, 50_000)
        assert found == randomization_test(values[::-1], resamples=50_000, seed=3)
        theirs = stats.permutation_test(
            (values,),
            lambda x, axis: np.abs(x.mean(axis=axis)),
            permutation_type="samples",
            alternative="greater",
            n_resamples=4_000,
            rng=np.random.default_rng(1),
        )
        # both count successes; seven standard deviations of the difference of the two shares
        error = math.sqrt(found.p * (1 - found.p) * (1 / 50_000 + 1 / 4_000))
        assert abs(found.p - theirs.pvalue) <= 7 * error
        # and Student's test, which it comes near to for means of many
        assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)

    def test_drawing_agrees_with_enumerating(self, monkeypatch, rng):
        from colbert_research.evaluation import significance

        values = rng.normal(0.4, 1.0, 15)
        exact = randomization_test(values).p
        monkeypatch.setattr(significance, "EXACT", 14)
        drawn = randomization_test(values)
        assert not drawn.exact
        assert abs(drawn.p - exact) <= 7 * math.sqrt(exact * (1 - exact) / drawn.assignments) + 1 / drawn.assignments

    def test_p_is_never_0(self):
        assert randomization_test(np.full(400, 0.1), resamples=999).p == 1 / 1000
        assert randomization_test(np.full(20, 0.1)).p == 2 / 2**20

    def test_sums_that_nearly_cancel_tie(self):
        """Of four assignments of .1 and -.1, with .3 = .1 + .2 as well, exact arithmetic sees ties that rounding hides."""
        values = [0.1, 0.2, -0.3]  # a mean of 0, but for rounding
        assert sum(values) != 0
        assert randomization_test(values).p == 1.0
        tied = [0.1, 0.2, 0.3, -0.7, 0.1]
        assert randomization_test(tied).p == enumerated([1, 2, 3, -7, 1])

    def test_nothing_differs(self):
        assert randomization_test([0.0, 0.0]).p == 1.0
        assert randomization_test([0.5]).p == 1.0, "one query tells nothing"
        assert randomization_test([0.5] + [0.0] * 500) == randomization_test([-0.2])

    @pytest.mark.parametrize(("wrong", "says"), [([], "at least one query"), ([math.nan], "finite"), ([[1.0]], "as a row")])
    def test_what_is_refused(self, wrong, says):
        for function in (randomization_test, bootstrap_interval):
            with pytest.raises(ValueError, match=says):
                function(wrong)
        with pytest.raises(ValueError, match="at least 1"):
            randomization_test([1.0], resamples=0)

    @pytest.mark.slow
    def test_a_true_null_is_rejected_as_often_as_stated(self, rng):
        """400 pairs of equal systems: rejections at .05 are binomial; four standard deviations of them."""
        rejected = sum(randomization_test(rng.laplace(0, 0.1, 40), resamples=999).p <= 0.05 for _ in range(400))
        assert abs(rejected - 20) <= 4 * math.sqrt(400 * 0.05 * 0.95)


class TestHolm:
    def test_by_hand(self):
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02], rel=4 * EPS)
        assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
        assert holm([0.02]).tolist() == [0.02]
        assert holm([]).shape == (0,)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
    def test_it_rejects_what_stepping_down_rejects(self, p_values, alpha):
        """Holm's procedure as he wrote it: from the smallest, until one is above alpha / (those that are left)."""
        m, rejected = len(p_values), set()
        for step, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
            assume(abs(p_values[i] * (m - step) - alpha) > 4 * EPS)  # where the two ways of writing it may round apart
            if p_values[i] > alpha / (m - step):
                break
            rejected.add(i)
        adjusted = holm(p_values)
        assert {i for i in range(m) if adjusted[i] <= alpha} == rejected
        assert (adjusted >= p_values).all()
        assert (adjusted <= np.minimum(1, np.array(p_values) * m * (1 + 4 * EPS))).all(), "never above Bonferroni"

    @pytest.mark.parametrize("wrong", [[-0.1], [1.1], [math.nan], [[0.1]]])
    def test_what_is_refused(self, wrong):
        with pytest.raises(ValueError, match="from 0 to 1"):
            holm(wrong)


class TestBootstrap:
    @pytest.mark.parametrize("method", ["BCa", "percentile"])
    def test_it_is_scipy_s(self, rng, method):
        values = rng.gamma(1.0, 0.1, 60) - 0.05
        low, high = bootstrap_interval(values, method=method, confidence=0.9, resamples=500, seed=5)
        theirs = stats.bootstrap(
            (np.sort(values),), np.mean, confidence_level=0.9, method=method, n_resamples=500, rng=np.random.default_rng(5)
        )
        assert (low, high) == tuple(theirs.confidence_interval)
        assert bootstrap_interval(values[::-1], method=method, confidence=0.9, resamples=500, seed=5) == (low, high)

    def test_percentiles_by_hand(self, rng):
        values = np.sort(rng.standard_normal(30))
        drawn = values[np.random.default_rng(0).integers(0, 30, (200, 30))].mean(axis=1)
        expected = np.quantile(drawn, [0.025, 0.975])
        # means of 30 terms, summed in another order
        found = bootstrap_interval(values, method="percentile", resamples=200)
        assert found == pytest.approx(expected, abs=30 * EPS * np.abs(values).max())

    def test_it_holds_only_so_many_numbers_at_once(self, rng, monkeypatch):
        from colbert_research.evaluation import significance

        values = rng.standard_normal(40)
        whole = bootstrap_interval(values, resamples=300)
        monkeypatch.setattr(significance, "_HELD", 80)
        assert bootstrap_interval(values, resamples=300) == whole

    def test_nothing_to_draw_from(self):
        assert bootstrap_interval([0.25] * 4) == (0.25, 0.25)
        assert bootstrap_interval([0.0] * 4) == (0.0, 0.0)
        assert bootstrap_interval([0.25]) == (-math.inf, math.inf)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.sampled_from([0.0, 0.0, 0.5, -0.5, 0.1, 0.3, -0.9]), min_size=2, max_size=40))
    def test_differences_as_measures_give_them(self, values):
        """Many ties and few distinct values: always an interval, and it holds only values that a mean can have."""
        low, high = bootstrap_interval(values, resamples=200)
        assert min(values) - EPS <= low <= high <= max(values) + EPS

    @pytest.mark.parametrize(("wrong", "says"), [({"confidence": 1.0}, "between 0 and 1"), ({"resamples": 9}, "at least 100")])
    def test_what_is_refused(self, wrong, says):
        with pytest.raises(ValueError, match=says):
            bootstrap_interval([0.1, 0.2], **wrong)
