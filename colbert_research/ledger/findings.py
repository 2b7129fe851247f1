"""What judging a claim gives, and what every rule has: verdicts, bounds, and figures of records by collection."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import model_validator

from colbert_research.config import Config
from colbert_research.ledger.evidence import Evidence, Item
from colbert_research.settings import nearest

REPRODUCED, TREND, REFUTED, UNTESTABLE = "reproduced", "trend only", "not reproduced", "not testable here"
VERDICTS = (REPRODUCED, TREND, REFUTED, UNTESTABLE)
TREND_CORRELATION = 0.8
"""Spearman's correlation from which an order that is not kept everywhere is still a trend."""


@dataclass(frozen=True)
class Finding:
    """A verdict, `ours` (what was measured), a sentence with the reason, and the ids of the records behind it."""

    verdict: str
    ours: str
    reason: str
    records: tuple[str, ...] = ()


def with_trend(found: Finding, trend: Finding) -> Finding:
    """What a claim's rule found, with what the weaker rule of its trend found in the same records.

    The trend where the weaker one holds and the claim's own does not; not reproduced where the weaker one does not hold and
    the claim's own cannot tell.
    """
    if found.verdict == REPRODUCED or not trend.records:
        return found
    verdict = TREND if trend.verdict == REPRODUCED else found.verdict
    verdict = REFUTED if (verdict, trend.verdict) == (UNTESTABLE, REFUTED) else verdict
    ours = "; trend: ".join(dict.fromkeys(each for each in (found.ours, trend.ours) if each))
    return Finding(verdict, ours, f"{found.reason}; trend: {trend.reason}", tuple(dict.fromkeys(found.records + trend.records)))


class LackingError(LookupError):
    """A record has no such figure, or no values of such a measure."""


class Rule(Config, ABC):
    """Base of all rules."""

    @abstractmethod
    def judge(self, evidence: Evidence) -> Finding:
        """The verdict of some records."""

    @abstractmethod
    def violated(self, evidence: Evidence) -> Evidence:
        """Made-up records by which the claim does not hold, to see that the rule can fail."""


class Bounds(Config):
    """From `low` to `high`, of which one may be left out."""

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _can_fail(self) -> Self:
        low, high = self.bounds
        if not low <= high or (low, high) == (-math.inf, math.inf):
            raise ValueError(f"give low, high, or both, low <= high; with low={self.low} and high={self.high} it is no rule")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        return (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)

    def inside(self, value: float) -> bool:
        low, high = self.bounds
        return low <= value <= high

    def wanted(self) -> str:
        if self.low is None or self.high is None:
            return f"at most {self.high:g}" if self.low is None else f"at least {self.low:g}"
        return f"from {self.low:g} to {self.high:g}"


class Bounded(Bounds, Rule):
    """Rules that ask whether a number lies from `low` to `high`."""


def judged(means: Mapping[str, Any], rule: Bounded, items: Iterable[Item], what: str) -> Finding:
    """The finding of a bounded figure of each collection: the trend where it is inside on half of several, or more."""
    ours = "; ".join(f"{name}: {float(value):.4g}" for name, value in means.items())
    inside = [rule.inside(float(value)) for value in means.values()]
    reason = f"{what}, wanted {rule.wanted()}"
    if all(inside):
        return Finding(REPRODUCED, ours, reason, ids_of(items))
    return Finding(TREND if len(inside) > 1 and 2 * sum(inside) >= len(inside) else REFUTED, ours, reason, ids_of(items))


def none_of(evidence: Evidence, *settings: Mapping[str, Any]) -> Finding:
    """That no records have such settings, or none of the first beside one of the second, and what those that are there have."""
    told = [" ".join(f"{name}={value}" for name, value in each.items()) or "any" for each in settings]
    if not evidence.items:
        return Finding(UNTESTABLE, "", f"no records of {' beside '.join(told)}: the sweep has not run")
    for each, words in zip(settings, told, strict=True):
        if not evidence.where(each):
            alone = [_values(evidence, name) for name, value in each.items() if not evidence.where({name: value})]
            why = "; ".join(alone) or "each has others of these settings"
            return Finding(UNTESTABLE, "", f"no records of {words}: in the {len(evidence.items)} that are here, {why}")
    apart = ", ".join(sorted(evidence.between(*settings)))
    why = f"the nearest differ in {apart} as well, which `of` and `to` do not name" if apart else "they are the same"
    return Finding(UNTESTABLE, "", f"no record of {' has one beside it of '.join(told)}: {why}")


def lacking(evidence: Evidence, along: str, values: Sequence[Any], means: Sequence[Mapping[str, Any]]) -> Finding:
    """Which values of a setting no record has, on some collections; `means`: for each value what there is by collection."""
    wanted = sorted({name for each in means for name in each}) or evidence.collections
    if not wanted:
        return none_of(evidence, {along: list(values)})
    holes = [
        f"{along}={value} on {', '.join(name for name in wanted if name not in each)}"
        for value, each in zip(values, means, strict=True)
        if each.keys() != {*wanted}
    ]
    return Finding(UNTESTABLE, "", f"no records of {'; '.join(holes)}: in those that are here, {_values(evidence, along)}")


def _values(evidence: Evidence, name: str) -> str:
    """Which values of a setting there are."""
    found = sorted({(isinstance(v, str), v if isinstance(v, int | float) else 0, str(v)) for v in _of(evidence, name)})
    return f"{name} is {', '.join(text for _, _, text in found)}"


def _of(evidence: Evidence, name: str) -> Iterator[Any]:
    return (item.settings[name] for item in evidence.items if name in item.settings)


def by_collection(items: Iterable[Item], figure: str) -> dict[str, list[float]]:
    """Collection, by name -> the figure of each of its records."""
    found: dict[str, list[float]] = defaultdict(list)
    for item in items:
        found[item.collection].append(figure_of(item, figure))
    return dict(sorted(found.items()))


def figure_of(item: Item, name: str) -> float:
    """A figure of a record. Raises LackingError."""
    if not math.isfinite(item.figures.get(name, math.nan)):
        known = [other for other, value in item.figures.items() if math.isfinite(value)]
        raise LackingError(f"record {item.id} has no {name}; {nearest(name, known)}")
    return item.figures[name]


def ratio_of(one: Item, other: Item, name: str) -> float:
    """A figure of a record divided by that of another. Raises LackingError, also where one of the two is not above 0."""
    values = [figure_of(item, name) for item in (one, other)]
    if min(values) <= 0:
        raise LackingError(f"{name} of records {one.id} and {other.id} is {values[0]:g} and {values[1]:g}: no ratio above 0")
    return values[0] / values[1]


def values_of(item: Item, measure: str) -> Mapping[str, float]:
    """Query -> value, of a record. Raises LackingError."""
    if measure not in item.values:
        raise LackingError(f"record {item.id} has no values of {measure}; {nearest(measure, item.values)}")
    return item.values[measure]


def far(rule: Bounds) -> float:
    """A shift that leads any figure out of the range: figures are less than 10^12."""
    return 1e13 if rule.low is None else -1e13


def rank_correlation(one: Any, other: Any) -> float:
    """Spearman's correlation; 0 where one of the two is the same everywhere."""
    from scipy import stats

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(stats.spearmanr(one, other).statistic)


def ids_of(items: Iterable[Item]) -> tuple[str, ...]:
    """Their ids, each once."""
    return tuple(dict.fromkeys(item.id for item in items))
