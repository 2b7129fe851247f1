"""Whether two systems differ: the paired randomisation test, Holm's correction, and an interval of the mean difference.

Everything takes the differences of one measure, one per query (see `paired.differences`), and gives the same for the same
differences in any order. The functions are pure; what is drawn is drawn with a stated seed.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from colbert_research.evaluation.paired import EPS, checked, deviation

EXACT = 20
"""Up to so many differences other than 0 all 2^20 assignments are looked at."""
RESAMPLES = 100_000
"""Random assignments beyond that; the number that Smucker et al. use."""
BOOTSTRAPS = 9_999
_GROUP = 12  # differences whose signs are drawn together: their 4096 sums stay in a core's nearest cache
_HELD = 4_000_000  # numbers that a bootstrap holds at once


@dataclass(frozen=True)
class RandomizationTest:
    """`p`: two-sided. `exact`: whether all assignments were looked at. `assignments`: how many were."""

    p: float
    exact: bool
    assignments: int


def randomization_test(differences: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> RandomizationTest:
    """The paired randomisation test (Fisher's) of a mean difference of 0, two-sided.

    If two systems are the same, either could have produced either value of a query, so each sign is as likely as the other.
    p is the share of assignments of signs whose mean is at least as far from 0 as the one that was seen; differences of 0 do
    not count, and where nothing differs p is 1. With at most `EXACT` others all assignments are enumerated. Beyond, `resamples`
    are drawn and the one that was seen is counted as one more, (b + 1) / (resamples + 1), so that p is never 0.

    `differences`: `(n,)`, at least one, finite. Raises ValueError else, and for `resamples` below 1. Means within the
    rounding of a sum are the same mean. `scipy.stats.permutation_test` gives the same p and takes about a hundred times as
    long for 300 queries; with a mean that nearly cancels it does not see such ties.

    Smucker, Allan, Carterette 2007; Phipson and Smyth 2010 (the one that is added).
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1; given {resamples}")
    given = checked(differences)
    sizes = np.sort(np.abs(given[given != 0]))  # p depends neither on the order of the queries nor on that of the systems
    rounding = EPS * len(sizes) * sizes.sum()  # two sums of n terms, each off by at most n/2 eps of the sum of sizes
    least = abs(math.fsum(given)) - rounding
    if len(sizes) <= EXACT:
        sums = _all_sums(sizes)
        return RandomizationTest(float(np.mean(np.abs(sums) >= least)), True, len(sums))
    sums = _drawn_sums(sizes, resamples, np.random.default_rng(seed))
    return RandomizationTest(float((np.sum(np.abs(sums) >= least) + 1) / (resamples + 1)), False, resamples)


def _all_sums(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(2**n,)`: the sum of `sizes` with every assignment of signs."""
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums + size, sums - size])
    return sums


def _drawn_sums(sizes: NDArray[np.float64], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`(n,)`: the sum of `sizes` with random signs, drawn by looking up those of a few at a time."""
    sums = np.zeros(n)
    for start in range(0, len(sizes), _GROUP):
        of_group = _all_sums(sizes[start : start + _GROUP])
        sums += of_group[rng.integers(0, len(of_group), n, dtype=np.uint16)]
    return sums


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p values of a family of tests `(m,)`, adjusted so that the chance of any false rejection is at most alpha.

    The i-th smallest of m is multiplied by m - i + 1, is no smaller than those before it, and at most 1. float64, in the order
    given. Raises ValueError for what is no row of numbers from 0 to 1. Holm 1979.
    """
    given = np.asarray(p_values, np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"p values are a row of numbers from 0 to 1; given {given}")
    order = np.argsort(given, kind="stable")
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)))
    return adjusted


def bootstrap_interval(
    differences: ArrayLike,
    *,
    confidence: float = 0.95,
    method: Literal["BCa", "percentile"] = "BCa",
    resamples: int = BOOTSTRAPS,
    seed: int = 0,
) -> tuple[float, float]:
    """`(low, high)`: a two-sided bootstrap interval of the mean difference, queries being drawn with replacement.

    By `scipy.stats.bootstrap`: bias-corrected and accelerated, or percentiles. Where all queries differ by the same the
    interval is that point; one query tells nothing of others, and its interval is the whole line. Both methods are too
    narrow below some 20 queries. Raises ValueError as `randomization_test` does, and for a confidence outside (0, 1).

    Efron 1987 (BCa); Efron and Tibshirani 1993, chapters 13 and 14.
    """
    from scipy import stats

    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, as .95 does; given {confidence}")
    if resamples < 100:
        raise ValueError(f"an interval needs at least 100 resamples; given {resamples}")
    given = np.sort(checked(differences))
    if len(given) == 1:
        return -np.inf, np.inf
    if deviation(given) == 0:
        return float(given.mean()), float(given.mean())
    found = stats.bootstrap(
        (given,),
        np.mean,
        confidence_level=confidence,
        method=method,
        n_resamples=resamples,
        batch=max(1, _HELD // len(given)),
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
