"""Margins, effect sizes and what so many queries can show: against SciPy, by hand, and where nothing varies."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from colbert_research.evaluation.effect import cohens_d, wins_ties_losses
from colbert_research.evaluation.margins import equivalence, non_inferiority
from colbert_research.evaluation.paired import EPS
from colbert_research.evaluation.power import Detectable, detectable, minimum_detectable_difference, t_power

VALUES = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=30)


class TestMargins:
    @settings(max_examples=80, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.floats(-0.02, 0.02), st.integers(2, 50))
    def test_a_rejection_is_an_interval_within_the_margin(self, seed, mean, n):
        """The convention: one-sided at alpha, a two-sided interval of confidence 1 - 2 alpha."""
        values = np.random.default_rng(seed).normal(mean, 0.02, n)
        low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
        assert (non_inferiority(values, 0.01) <= 0.05) == (low >= -0.01)
        assert (equivalence(values, 0.01) <= 0.05) == (low >= -0.01 and high <= 0.01)

    def test_by_hand(self):
        values = np.array([0.02, -0.01, 0.0, 0.03])
        # mean .01, standard deviation .018257, standard error .009129: t = 3.2863 and 1.0954 from the two margins
        error = math.sqrt(sum((v - 0.01) ** 2 for v in values) / 3) / 2
        lower, upper = (float(stats.t.sf(t / error, 3)) for t in (0.01 + 0.02, 0.02 - 0.01))
        assert non_inferiority(values, 0.02) == pytest.approx(lower, rel=1e4 * EPS)
        assert equivalence(values, 0.02) == pytest.approx(upper, rel=1e4 * EPS)
        assert equivalence(-values, 0.02) == equivalence(values, 0.02)

    def test_where_nothing_varies_the_mean_is_known(self):
        ties = np.zeros(30)
        assert non_inferiority(ties, 0.01) == equivalence(ties, 0.01) == 0.0
        lost = np.full(30, -0.02)
        assert (non_inferiority(lost, 0.01), non_inferiority(-lost, 0.01)) == (1.0, 0.0)
        assert equivalence(lost, 0.01) == equivalence(-lost, 0.01) == 1.0
        assert non_inferiority(np.full(4, -0.5), 0.5) == 1.0, "a loss of the margin is not below it"

    def test_one_query_tells_nothing(self):
        assert non_inferiority([0.5], 0.01) == equivalence([0.0], 0.01) == 1.0

    @pytest.mark.parametrize("margin", [0.0, -0.01, math.nan, math.inf])
    def test_what_is_refused(self, margin):
        for test in (non_inferiority, equivalence):
            with pytest.raises(ValueError, match="a margin is a difference above 0"):
                test([0.1, 0.2], margin)
            with pytest.raises(ValueError, match="at least one query"):
                test([], 0.01)


class TestEffect:
    def test_counts(self):
        values = [0.5, 0.01, 0.0, -0.01, -0.011]
        assert wins_ties_losses(values) == (2, 1, 2)
        assert wins_ties_losses(values, tolerance=0.01) == (1, 3, 1)
        assert wins_ties_losses(values, tolerance=1.0)._asdict() == {"wins": 0, "ties": 5, "losses": 0}
        for wrong in (-0.1, math.nan, math.inf):
            with pytest.raises(ValueError, match="a tolerance is 0 or"):
                wins_ties_losses(values, tolerance=wrong)

    @settings(max_examples=60, deadline=None)
    @given(VALUES)
    def test_d_is_student_s_t_without_the_number_of_queries(self, values):
        found = cohens_d(values)
        if math.isfinite(found) and found:
            t = stats.ttest_1samp(values, 0.0).statistic
            # two means and two deviations of n terms each
            assert found == pytest.approx(t / math.sqrt(len(values)), rel=8 * len(values) * EPS)
        assert cohens_d(-np.array(values)) == -found

    def test_d_where_nothing_varies(self):
        assert cohens_d([0.0] * 5) == cohens_d([0.0]) == 0.0
        assert cohens_d([0.1] * 5) == cohens_d([0.1]) == math.inf
        assert cohens_d([-0.1] * 5) == -math.inf


class TestPower:
    @pytest.mark.parametrize("freedom", [2, 5, 30, 322, 6979])
    @pytest.mark.parametrize("mean", [0.0, 1.0, 2.8, 5.0])
    def test_power_is_that_of_scipy_s_noncentral_t(self, freedom, mean):
        theirs = stats.nct.sf(2.0, freedom, mean) + stats.nct.cdf(-2.0, freedom, mean)
        # 4,001 terms, and what an upper tail beyond nine standard deviations leaves out
        assert t_power(mean, 2.0, freedom) == pytest.approx(theirs, abs=4001 * EPS + 2 * stats.norm.sf(9))

    @settings(max_examples=40, deadline=None)
    @given(st.integers(2, 2000), st.floats(0.001, 0.2), st.floats(0.3, 0.99))
    def test_the_difference_is_found_with_the_power_that_is_stated(self, n, alpha, power):
        found = minimum_detectable_difference(n, 0.1, alpha=alpha, power=power)
        reached = t_power(found * math.sqrt(n) / 0.1, float(stats.t.isf(alpha / 2, n - 1)), n - 1)
        assert reached == pytest.approx(power, abs=1e-9)  # brentq's xtol of 2e-12, at a slope of at most .4, and rounding

    def test_by_the_normal_approximation(self):
        """Of many queries it is (z_{1 - alpha/2} + z_{power}) standard errors: 2.802 of them for .05 and .8."""
        found = minimum_detectable_difference(100_000, 0.08)
        assert found == pytest.approx(2.8016 * 0.08 / math.sqrt(100_000), rel=1e-4)

    @pytest.mark.slow
    def test_by_simulation(self, rng):
        """Two thousand experiments of 20 queries whose true difference is the minimum detectable one."""
        true = minimum_detectable_difference(20, 0.1, alpha=0.05, power=0.8)
        found = stats.ttest_1samp(rng.normal(true, 0.1, (2000, 20)), 0.0, axis=1).pvalue <= 0.05
        assert abs(found.mean() - 0.8) <= 4 * math.sqrt(0.8 * 0.2 / 2000)

    @settings(max_examples=30, deadline=None)
    @given(VALUES, st.floats(-1, 1))
    def test_it_does_not_look_at_the_mean(self, values, shift):
        here, there = (detectable(np.array(values) + by).difference for by in (0.0, shift))
        # the shift rounds each value by eps at most
        assert there == pytest.approx(here, rel=1e-6, abs=100 * EPS)

    def test_words(self, rng):
        found = detectable(np.tile([0.031, -0.031], 150))
        assert (found.queries, found.alpha, found.power) == (300, 0.05, 0.8)
        assert found.words() == (
            "300 queries cannot show a difference below 0.005 with power 0.8 "
            "(paired t, two-sided, alpha 0.05, standard deviation of the differences 0.0311)."
        )

    def test_nothing_to_go_by(self):
        assert detectable([0.2]) == Detectable(math.inf, 1, 0.0, 0.05, 0.8)
        assert detectable([0.2]).words() == "1 query cannot show any difference."
        assert detectable([0.2, 0.2]).difference == 0.0

    @pytest.mark.parametrize(("n", "deviation"), [(0, 0.1), (10, -0.1), (10, math.nan)])
    def test_what_is_refused(self, n, deviation):
        with pytest.raises(ValueError, match="at least one query and a deviation of 0 or more"):
            minimum_detectable_difference(n, deviation)

    @pytest.mark.parametrize("terms", [{"alpha": 0.0}, {"power": 1.0}, {"alpha": 0.5, "power": 0.4}])
    def test_odd_terms_are_refused(self, terms):
        with pytest.raises(ValueError, match="0 < alpha < power < 1"):
            minimum_detectable_difference(10, 0.1, **terms)
