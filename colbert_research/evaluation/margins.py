"""Whether a system is no worse than another by more than a margin: non-inferiority and equivalence, by paired t tests.

Convention: each test is one-sided at alpha, so that a rejection at alpha says the same as a two-sided t interval of confidence
1 - 2 alpha (90 % for .05) that lies above -margin, or within the margins. The margin is chosen before the values are seen.
Where the differences do not vary at all the mean is taken as known: p is 0 or 1. One query tells nothing: p is 1.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from colbert_research.evaluation.paired import checked, deviation


def non_inferiority(differences: ArrayLike, margin: float) -> float:
    """p of the hypothesis that the mean difference is -margin or lower; where it is small, the loss is below the margin.

    `differences`: system minus baseline, `(n,)`; `margin`: above 0, in the unit of the measure. Raises ValueError for others.
    Schuirmann 1987, one of his two tests.
    """
    return _above(checked(differences), -_margin(margin))


def equivalence(differences: ArrayLike, margin: float) -> float:
    """p of the hypothesis that the mean difference is as far from 0 as the margin, or further: two one-sided tests (TOST).

    The larger p of the two. Arguments and errors as of `non_inferiority`. Schuirmann 1987.
    """
    given = checked(differences)
    return max(_above(given, -_margin(margin)), _above(-given, -margin))


def _above(differences: NDArray[np.float64], bound: float) -> float:
    """p of the hypothesis that the mean is `bound` or lower."""
    from scipy import stats

    if len(differences) == 1:
        return 1.0
    if deviation(differences) == 0:
        return 0.0 if differences.mean() > bound else 1.0
    return float(stats.ttest_1samp(differences, bound, alternative="greater").pvalue)


def _margin(margin: float) -> float:
    if not 0 < margin < math.inf:
        raise ValueError(f"a margin is a difference above 0, such as .01; given {margin}")
    return margin
