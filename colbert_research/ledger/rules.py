"""How a claim is judged by records: each rule says what must hold, and computes one of four verdicts. Nothing else sets one."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from colbert_research.config import Config
from colbert_research.evaluation.paired import differences
from colbert_research.evaluation.power import detectable
from colbert_research.evaluation.significance import bootstrap_interval
from colbert_research.ledger.evidence import Evidence, Item

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


class Bounded(Rule):
    """Rules that ask whether a number lies from `low` to `high`, of which one may be left out."""

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


class MeanDifference(Bounded):
    """The mean over queries of `measure`, of records with the settings `of` less those with `to`, lies in [low, high].

    Records are paired that differ in nothing else that varies; a query that several pairs have counts once, by its mean; the
    queries of all collections are pooled. Reproduced where the 95 % bootstrap interval of the mean lies inside, not reproduced
    where it lies outside; between, the trend where the mean is inside, and not testable where it is not.
    """

    kind: Literal["mean_difference"] = "mean_difference"
    measure: str = "nDCG@10"
    of: Mapping[str, Any]
    to: Mapping[str, Any]

    def judge(self, evidence: Evidence) -> Finding:
        pairs = list(evidence.pairs(self.of, self.to))
        if not pairs:
            return _none(self.of, self.to)
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for one, other in pairs:
            mine, theirs = (_values(item, self.measure) for item in (one, other))
            if mine.keys() != theirs.keys():
                return Finding(UNTESTABLE, "", f"records {one.id} and {other.id} are of different queries")
            for query, value in zip(mine, _difference(mine, theirs), strict=True):
                found[one.collection, query].append(value)
        each = np.array([np.mean(values) for values in found.values()])
        mean, (low, high) = float(each.mean()), bootstrap_interval(each)
        ours = f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
        ids = tuple(dict.fromkeys(item.id for pair in pairs for item in pair))
        told = f"{self.measure} over {len(each)} queries, wanted {self.wanted()}"
        if self.inside(low) and self.inside(high):
            return Finding(REPRODUCED, ours, told, ids)
        if high < self.bounds[0] or low > self.bounds[1]:
            return Finding(REFUTED, ours, told, ids)
        reason = f"{told}. {detectable(each).words()}"
        return Finding(TREND if self.inside(mean) else UNTESTABLE, ours, reason, ids)

    def violated(self, evidence: Evidence) -> Evidence:
        by = 3 + abs(self.high or 0) if self.low is None else -3 - abs(self.low)  # measures lie from 0 to 1
        return evidence.replaced(evidence.where(self.of), lambda item: item.shifted(by))


class Figure(Bounded):
    """A figure of the records with the settings `of` lies in [low, high] on every collection; it is their mean on each.

    The trend where it does so on half of the collections or more.
    """

    kind: Literal["figure"] = "figure"
    figure: str
    of: Mapping[str, Any]

    def judge(self, evidence: Evidence) -> Finding:
        items = evidence.where(self.of)
        if not items:
            return _none(self.of)
        means = _by_collection(items, self.figure)
        return _judged({name: np.mean(values) for name, values in means.items()}, self, items, self.figure)

    def violated(self, evidence: Evidence) -> Evidence:
        return evidence.replaced(evidence.where(self.of), lambda item: item.shifted(_far(self)))


class Ratio(Bounded):
    """A figure of records with the settings `of`, divided by that of the records with `to`, lies in [low, high].

    Records are paired as by `MeanDifference`; on each collection it is the geometric mean of the pairs. The trend where it does
    so on half of the collections or more.
    """

    kind: Literal["ratio"] = "ratio"
    figure: str
    of: Mapping[str, Any]
    to: Mapping[str, Any]
    low: float | None = Field(None, gt=0)

    def judge(self, evidence: Evidence) -> Finding:
        pairs = list(evidence.pairs(self.of, self.to))
        if not pairs:
            return _none(self.of, self.to)
        found: dict[str, list[float]] = defaultdict(list)
        for one, other in pairs:
            found[one.collection].append(math.log(_figure(one, self.figure) / _figure(other, self.figure)))
        means = {name: math.exp(float(np.mean(values))) for name, values in found.items()}
        return _judged(means, self, [item for pair in pairs for item in pair], f"ratio of {self.figure}")

    def violated(self, evidence: Evidence) -> Evidence:
        factor = 1e9 if self.low is None else 1e-9
        return evidence.replaced(evidence.where(self.of), lambda item: item.scaled(factor))


class Ordered(Rule):
    """A figure rises (or falls) with a setting, on every collection, from one of its `values` to the next.

    Steps against the order by no more than `tolerance` count as level. Other settings that vary are averaged. The trend where
    Spearman's correlation is at least .8 over all.
    """

    kind: Literal["ordered"] = "ordered"
    figure: str
    along: str
    values: tuple[Any, ...] = Field(min_length=2)
    direction: Literal["rising", "falling"] = "rising"
    of: Mapping[str, Any] = {}
    tolerance: float = Field(0.0, ge=0)

    def judge(self, evidence: Evidence) -> Finding:
        from scipy import stats

        items = evidence.where({**self.of, self.along: list(self.values)})
        means = [_by_collection([i for i in items if i.has({self.along: value})], self.figure) for value in self.values]
        if any(not each or each.keys() != means[0].keys() for each in means):
            return Finding(UNTESTABLE, "", f"no records for every value of {self.along} on every collection")
        rows = {name: np.array([np.mean(each[name]) for each in means]) for name in means[0]}
        sign = 1 if self.direction == "rising" else -1
        kept = all(np.all(sign * np.diff(row) >= -self.tolerance) for row in rows.values())
        moved = all(sign * (row[-1] - row[0]) > self.tolerance for row in rows.values())
        ours = "; ".join(f"{name}: " + ", ".join(f"{value:.4g}" for value in row) for name, row in rows.items())
        reason = f"{self.figure} {self.direction} with {self.along} over {', '.join(map(str, self.values))}"
        ids = tuple(dict.fromkeys(item.id for item in items))
        if kept and moved:
            return Finding(REPRODUCED, ours, reason, ids)
        correlations = [sign * _correlation(stats, row) for row in rows.values()]
        said = f"{reason}; Spearman's correlation is {min(correlations):.2f} at least"
        return Finding(TREND if min(correlations) >= TREND_CORRELATION else REFUTED, ours, said, ids)

    def violated(self, evidence: Evidence) -> Evidence:
        step = (1.0 + self.tolerance) * (-1 if self.direction == "rising" else 1)
        found = evidence
        for number, value in enumerate(self.values):
            chosen = [item for item in found.where(self.of) if item.has({self.along: value})]
            greatest = max((abs(item.figures.get(self.figure, 0.0)) for item in evidence.items), default=1.0)
            by = 3 * number * step * (1 + greatest)
            found = found.replaced(chosen, lambda item, by=by: item.shifted(by))  # type: ignore[misc]
        return found


class Untestable(Rule):
    """A claim that cannot be tested with what is here, and why. It stays in the ledger, so that nobody takes it for tested."""

    kind: Literal["untestable"] = "untestable"
    reason: str = Field(min_length=10)

    def judge(self, evidence: Evidence) -> Finding:
        return Finding(UNTESTABLE, "", self.reason)

    def violated(self, evidence: Evidence) -> Evidence:
        return evidence


AnyRule = Annotated[MeanDifference | Figure | Ratio | Ordered | Untestable, Field(discriminator="kind")]


def _judged(means: Mapping[str, Any], rule: Bounded, items: Sequence[Item], what: str) -> Finding:
    ours = "; ".join(f"{name}: {float(value):.4g}" for name, value in means.items())
    inside = [rule.inside(float(value)) for value in means.values()]
    reason = f"{what}, wanted {rule.wanted()}"
    ids = tuple(dict.fromkeys(item.id for item in items))
    if all(inside):
        return Finding(REPRODUCED, ours, reason, ids)
    return Finding(TREND if len(inside) > 1 and 2 * sum(inside) >= len(inside) else REFUTED, ours, reason, ids)


def _none(*settings: Mapping[str, Any]) -> Finding:
    told = " beside ".join(" ".join(f"{name}={value}" for name, value in each.items()) or "any" for each in settings)
    return Finding(UNTESTABLE, "", f"no records of {told}: the sweep has not run")


def _by_collection(items: Sequence[Item], figure: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for item in items:
        found[item.collection].append(_figure(item, figure))
    return dict(found)


def _figure(item: Item, name: str) -> float:
    if name not in item.figures or math.isnan(item.figures[name]):
        raise LackingError(f"record {item.id} has no {name}; it has {', '.join(sorted(item.figures))}")
    return item.figures[name]


def _values(item: Item, measure: str) -> Mapping[str, float]:
    if measure not in item.values:
        raise LackingError(f"record {item.id} has no values of {measure}; it has {', '.join(item.values)}")
    return item.values[measure]


def _difference(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Any:
    return differences(list(ours.values()), [theirs[query] for query in ours])


def _far(rule: Bounded) -> float:
    """A shift that leads any figure out of the range: figures are less than 10^12."""
    return 1e13 if rule.low is None else -1e13


def _correlation(stats: Any, row: Any) -> float:
    if np.ptp(row) == 0:
        return 0.0
    return float(stats.spearmanr(np.arange(len(row)), row).statistic)
