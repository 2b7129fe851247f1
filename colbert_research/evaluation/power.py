"""What so many queries can show: the smallest difference that a paired t test finds with a stated power."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from colbert_research.evaluation.paired import checked, deviation


@dataclass(frozen=True)
class Detectable:
    """The minimum detectable `difference` of so many `queries` whose differences deviate by `deviation`."""

    difference: float
    queries: int
    deviation: float
    alpha: float
    power: float

    def words(self) -> str:
        """A sentence that says it, and of which test."""
        if self.difference == math.inf:
            return f"{'1 query' if self.queries == 1 else f'{self.queries} queries'} cannot show any difference."
        terms = f"paired t, two-sided, alpha {self.alpha:.3g}, standard deviation of the differences {self.deviation:.3g}"
        least = f"{self.difference:.2g} with power {self.power:g}"
        return f"{self.queries} queries cannot show a difference below {least} ({terms})."


def detectable(differences: ArrayLike, *, alpha: float = 0.05, power: float = 0.8) -> Detectable:
    """The minimum detectable difference of the queries whose differences `(n,)` these are, by their standard deviation.

    It does not look at their mean: it says what another experiment of the same size and spread could show. Raises ValueError
    for differences that are none or not finite, and as `minimum_detectable_difference` does.
    """
    given = checked(differences)
    spread = deviation(given)
    found = minimum_detectable_difference(len(given), spread, alpha=alpha, power=power)
    return Detectable(found, len(given), spread, alpha, power)


def minimum_detectable_difference(queries: int, deviation: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The true mean difference that a two-sided paired t test at `alpha` finds with probability `power`.

    `deviation`: of the differences. Infinite for one query, 0 where nothing deviates. The power is that of the noncentral t
    distribution with `queries` - 1 degrees of freedom, of both tails. Raises ValueError for fewer than one query, a deviation
    below 0, and unless 0 < alpha < power < 1. Cohen 1988, chapter 2; for queries, Sakai 2018.
    """
    if queries < 1 or not 0 <= deviation < math.inf:
        raise ValueError(f"expected at least one query and a deviation of 0 or more; given {queries} and {deviation}")
    if not 0 < alpha < power < 1:
        raise ValueError(f"expected 0 < alpha < power < 1, such as .05 and .8; given alpha={alpha} and power={power}")
    if queries == 1:
        return math.inf
    return _noncentrality(queries - 1, alpha, power) * deviation / float(np.sqrt(queries))


@cache
def _noncentrality(freedom: int, alpha: float, power: float) -> float:
    """The mean, in standard errors, that is found with probability `power`."""
    from scipy import optimize, stats

    critical = float(stats.t.isf(alpha / 2, freedom))
    high = critical + 1.0
    while t_power(high, critical, freedom) < power:
        high *= 2
    return float(optimize.brentq(lambda mean: t_power(mean, critical, freedom) - power, 0.0, high))


def t_power(mean: float, critical: float, freedom: int) -> float:
    """The probability that a noncentral t with mean `mean` of its normal part lies beyond `critical` on either side.

    The mean of the chi square's distribution function over the normal part, by the trapezoidal rule; `scipy.stats.nct` does
    not converge for few degrees of freedom.
    """
    from scipy import special

    normal = np.linspace(-9.0, 9.0, 4_001)
    weights = np.exp(-(normal**2) / 2)
    beyond = special.gammainc(freedom / 2, freedom / 2 * ((normal + mean) / critical) ** 2)
    return float(weights @ beyond / weights.sum())
