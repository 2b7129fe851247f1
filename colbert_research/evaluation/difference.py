"""One system against a baseline by one measure: all that can be said of it, and a verdict in words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.evaluation.effect import Outcomes, cohens_d, wins_ties_losses
from colbert_research.evaluation.margins import non_inferiority
from colbert_research.evaluation.paired import differences
from colbert_research.evaluation.power import Detectable, detectable
from colbert_research.evaluation.significance import RESAMPLES, bootstrap_interval, holm, randomization_test

CANNOT_TELL = "cannot tell"
FIGURES = ("mean", "delta", "verdict", "low", "high", "p", "p (Holm)", *Outcomes._fields, "effect size", "detectable")
"""Columns of a table of differences."""


@dataclass(frozen=True)
class Criteria:
    """By what systems are compared; chosen before their values are seen.

    `margin`: the loss that is of no account, in the unit of the measure. `alpha`: of every test, and of the intervals (of
    confidence 1 - alpha). `power`: of the minimum detectable difference. `tolerance`: the largest difference that is a tie.
    `resamples`: random assignments of a randomisation test (see `randomization_test`). `seed`: of all that is drawn. Raises
    ValueError for values out of range.
    """

    margin: float = 0.01
    alpha: float = 0.05
    power: float = 0.8
    tolerance: float = 0.0
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.margin < math.inf and 0 <= self.tolerance < math.inf):
            raise ValueError(f"margins are above 0 and tolerances not below it; given {self.margin} and {self.tolerance}")
        if not 0 < self.alpha < self.power < 1:
            raise ValueError(f"expected 0 < alpha < power < 1; given alpha={self.alpha} and power={self.power}")
        if self.resamples < 1 or self.seed < 0:
            raise ValueError(f"resamples are at least 1 and a seed at least 0; given {self.resamples} and {self.seed}")


@dataclass(frozen=True)
class Difference:
    """A system against the baseline by one measure.

    `mean`: of the system. `delta`: mean difference to the baseline. `low`, `high`: its bootstrap interval. `p`: of the paired
    randomisation test; `p_holm`: corrected over all systems that are compared by this measure. `p_margin`: of the hypothesis
    that the system loses the margin or more, corrected likewise. `outcomes`: queries won, tied, lost. `effect_size`: Cohen's d.
    `detectable`: the minimum detectable difference at alpha divided by the number of systems, to which Holm's correction
    holds the smallest p. `verdict`: see `verdict`.
    """

    system: str
    measure: str
    mean: float
    delta: float
    low: float
    high: float
    p: float
    p_holm: float
    p_margin: float
    outcomes: Outcomes
    effect_size: float
    detectable: Detectable
    verdict: str

    def figures(self) -> dict[str, Any]:
        """A row of a table: `FIGURES` and their values."""
        values = (self.mean, self.delta, self.verdict, self.low, self.high, self.p, self.p_holm, *self.outcomes)
        return dict(zip(FIGURES, (*values, self.effect_size, self.detectable.difference), strict=True))

    def words(self, baseline: str, confidence: float) -> str:
        """A sentence, and where nothing can be told another one, which says why."""
        interval = f"{100 * confidence:g} % interval {self.low:+.4f} to {self.high:+.4f}"
        told = f"{self.measure} of {self.system}: {self.mean:.4f}, {self.delta:+.4f} against {baseline}"
        sentence = f"{told} ({interval}, corrected p {self.p_holm:.2g}): {self.verdict}."
        return f"{sentence} {self.detectable.words()}" if self.verdict == CANNOT_TELL else sentence


def compared(
    measure: str, values: Mapping[str, NDArray[np.float64]], baseline: NDArray[np.float64], criteria: Criteria
) -> list[Difference]:
    """Each of the systems in `values` (name -> `(n,)`) against the values of the baseline `(n,)`: one family of tests."""
    found = {name: differences(each, baseline) for name, each in values.items()}
    tests = [randomization_test(each, resamples=criteria.resamples, seed=criteria.seed).p for each in found.values()]
    corrected = holm(tests)
    margins = holm([non_inferiority(each, criteria.margin) for each in found.values()])
    rows = []
    for i, (name, each) in enumerate(found.items()):
        delta, p_holm, p_margin = float(each.mean()), float(corrected[i]), float(margins[i])
        low, high = bootstrap_interval(each, confidence=1 - criteria.alpha, seed=criteria.seed)
        rows.append(
            Difference(
                system=name,
                measure=measure,
                mean=float(values[name].mean()),
                delta=delta,
                low=low,
                high=high,
                p=tests[i],
                p_holm=p_holm,
                p_margin=p_margin,
                outcomes=wins_ties_losses(each, tolerance=criteria.tolerance),
                effect_size=cohens_d(each),
                detectable=_detectable(each, len(found), criteria),
                verdict=verdict(delta, p_holm, p_margin, criteria, n=len(each)),
            )
        )
    return rows


def _too_few(n: int, alpha: float) -> bool:
    """Whether none of the 2^n assignments of the randomisation test could be rare enough: the smallest p is 2^(1-n)."""
    return 2.0 ** (1 - n) > alpha


def _detectable(values: NDArray[np.float64], systems: int, criteria: Criteria) -> Detectable:
    found = detectable(values, alpha=criteria.alpha / systems, power=criteria.power)
    return replace(found, difference=math.inf) if _too_few(len(values), criteria.alpha) else found


def verdict(delta: float, p: float, p_margin: float, criteria: Criteria, *, n: int) -> str:
    """What two corrected p values of `n` queries say: `better`; `worse`, which a loss below the margin may be, too; else
    whether the loss is below the margin (`not inferior by more than` it); else `cannot tell`.

    Queries that are too few for the randomisation test to find anything cannot tell.
    """
    if _too_few(n, criteria.alpha):
        return CANNOT_TELL
    differs, within = p <= criteria.alpha, p_margin <= criteria.alpha
    if differs and delta > 0:
        return "better"
    if differs and delta < 0:
        return f"worse, by less than {criteria.margin:g}" if within else "worse"
    return f"not inferior by more than {criteria.margin:g}" if within else CANNOT_TELL
