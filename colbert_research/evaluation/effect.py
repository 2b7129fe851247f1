"""How large a difference is: how many queries gain and lose, and its mean beside its spread."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from colbert_research.evaluation.paired import checked, deviation


class Outcomes(NamedTuple):
    """Numbers of queries on which a system is better than the baseline, as good, and worse."""

    wins: int
    ties: int
    losses: int


def wins_ties_losses(differences: ArrayLike, *, tolerance: float = 0.0) -> Outcomes:
    """Counts of the differences `(n,)` above `tolerance`, within it (the tolerance itself too) and below minus it.

    Raises ValueError for differences that are none or not finite, and for a tolerance below 0.
    """
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"a tolerance is 0 or a difference above it; given {tolerance}")
    given = checked(differences)
    wins, losses = int(np.sum(given > tolerance)), int(np.sum(given < -tolerance))
    return Outcomes(wins, len(given) - wins - losses, losses)


def cohens_d(differences: ArrayLike) -> float:
    """Cohen's d of paired samples (d_z): the mean difference in standard deviations of the differences.

    Where there is no deviation, as with one query, it is 0 for a mean of 0 and else infinite with the sign of the mean. Raises
    ValueError as `wins_ties_losses` does. Cohen 1988, chapter 2.
    """
    given = checked(differences)
    mean, spread = float(given.mean()), deviation(given)
    if spread == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / spread
