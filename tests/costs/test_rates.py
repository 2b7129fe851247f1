"""Fits: what they recover, what they never do, and how well they predict what was measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_research.codecs import CODECS
from colbert_research.config import component_of_line
from colbert_research.costs import Measurements
from colbert_research.costs.rates import Growth, Rates, work_of

POINTS = st.lists(
    st.tuples(st.integers(1, 10**9), st.floats(1e-3, 1e4)), min_size=1, max_size=8, unique_by=lambda point: point[0]
)
GOAL = 0.25


def of(line):
    return component_of_line("codec", CODECS, line)


def test_work_follows_the_codec():
    residual = of("residual centroids=100 iterations=3 points_per_centroid=10")
    assert work_of("cluster", residual, 10_000, 8) == (1000 * 100 * 8 * 3, 1000 * 8)
    assert work_of("codes", residual, 10_000, 8) == (10_000 * 100 * 8, 10_000 * 8)
    assert work_of("codes", of("scalar"), 10_000, 8) == (0, 10_000 * 8)
    assert work_of("encode", of("exact"), 10_000, 8) == (0, 10_000)


@given(st.floats(1e-13, 1e-9), st.floats(1e-9, 1e-5))
def test_rates_that_made_the_seconds_are_recovered(first, second):
    tokens = np.array([1e5, 3e5, 1e6, 1e7])
    work = np.column_stack([tokens**1.5, tokens])
    rates = Rates(work, work @ [first, second])
    assert rates.at((1e12, 1e8)) == pytest.approx(first * 1e12 + second * 1e8, rel=1e-6)
    assert np.abs(rates.errors).max() < 1e-6


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=6))
def test_no_rate_is_negative_and_few_measurements_give_one_term(seconds):
    tokens = np.geomspace(1e4, 1e7, len(seconds))
    rates = Rates(np.column_stack([tokens**1.5, tokens]), np.array(seconds))
    assert (rates.rates >= 0).all()
    assert len(rates.errors) == (len(seconds) if len(seconds) > 1 else 0)
    if len(seconds) < 3:
        assert rates.rates[1] == 0


def test_work_that_no_measurement_had_is_not_predicted_from_its_term():
    rates = Rates(np.array([[0.0, 1e6], [0.0, 2e6], [0.0, 3e6]]), np.array([1.0, 2.0, 3.0]))
    assert rates.at((0.0, 5e6)) == pytest.approx(5)


@given(POINTS, st.floats(1, 1e13))
def test_growth_is_what_was_measured_and_never_more_than_proportion_beyond(points, tokens):
    growth = Growth.of(points)
    for size, value in points:
        assert growth.at(size) == pytest.approx(value)
    low, high = growth.interval(tokens)
    assert 0 < low <= growth.at(tokens) <= high
    last_size, last = growth.tokens[-1], growth.values[-1]
    if tokens > last_size:
        assert last * (1 - 1e-9) <= growth.at(tokens) <= last * tokens / last_size * (1 + 1e-9)
        assert growth.beyond(tokens) == pytest.approx(tokens / last_size)
    if growth.tokens[0] <= tokens <= last_size:
        assert growth.beyond(tokens) == 1
        assert growth.values.min() * (1 - 1e-9) <= growth.at(tokens) <= growth.values.max() * (1 + 1e-9)


@given(st.floats(0.05, 1.0), st.floats(1e-3, 10))
def test_the_exponent_of_a_power_is_found(power, factor):
    sizes = np.geomspace(1e4, 1e8, 6)
    growth = Growth.of(zip(sizes, factor * sizes**power, strict=True))
    assert growth.exponent == pytest.approx(power)
    assert growth.at(3e6) == pytest.approx(factor * 3e6**power)
    assert np.abs(growth.errors[1:-1]).max() < 1e-9, "between its neighbours a power is read off exactly"


def test_one_size_may_grow_like_a_root_or_in_proportion():
    growth = Growth.of([(1e6, 4.0), (1e6, 2.0), (1e6, 6.0)])
    assert growth.at(1e6) == 4
    assert growth.interval(1e8) == pytest.approx((40, 400))
    assert np.isnan(growth.exponent)
    assert len(growth.errors) == 0


def timings(stage):
    rows = [each for each in Measurements.shipped().timings if each.stage == stage and each.source.startswith("benchmarks")]
    work = np.array([work_of(stage, of(each.by), each.tokens, each.dim) for each in rows])
    return Rates(work, np.array([each.seconds * each.threads for each in rows]))


@pytest.mark.parametrize("stage", ["cluster", "codes"])
def test_build_times_of_one_run_are_predicted_within_a_quarter(stage):
    rates = timings(stage)
    assert len(rates.errors) >= 6
    assert np.abs(rates.errors).max() <= GOAL


@pytest.mark.parametrize("figure", ["median", "mean"])
def test_latencies_of_plaid_are_predicted_within_a_quarter(figure):
    rows = [e for e in Measurements.shipped().latencies if e.strategy.startswith("plaid") and e.source.startswith("benchmarks")]
    growth = Growth.of((each.tokens, getattr(each, figure)) for each in rows)
    assert len(growth.errors) >= 6
    assert np.abs(growth.errors).max() <= GOAL
