"""The rules by which claims are judged: differences, figures, ratios, orders; those of several figures are in `relations`."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from colbert_research.evaluation.paired import differences
from colbert_research.evaluation.power import detectable
from colbert_research.evaluation.significance import bootstrap_interval, randomization_test
from colbert_research.ledger.evidence import Evidence
from colbert_research.ledger.findings import (
    REFUTED,
    REPRODUCED,
    TREND,
    TREND_CORRELATION,
    UNTESTABLE,
    Bounded,
    Finding,
    Rule,
    by_collection,
    far,
    ids_of,
    judged,
    lacking,
    none_of,
    rank_correlation,
    ratio_of,
    values_of,
)
from colbert_research.ledger.relations import Correlation, Exists, Gain, Shares, Slope

FEW, ALPHA = 20, 0.05
"""So many queries have their signs enumerated, for a bootstrap of so few is too narrow; above this p they tell nothing."""


class MeanDifference(Bounded):
    """The mean over queries of `measure`, of records with the settings `of` less those with `to`, lies in [low, high].

    Records are paired that differ in nothing else that varies; a query that several pairs have counts once, by its mean; the
    queries of all collections are pooled. Reproduced where the 95 % bootstrap interval of the mean lies inside, not reproduced
    where it lies outside; between, the trend where the mean is inside, and not testable where it is not. So it is where no more
    than 20 queries differ from a bound, a bootstrap of which is too narrow, and their signs alone (the exact randomisation
    test) have p > .05.
    """

    kind: Literal["mean_difference"] = "mean_difference"
    measure: str = "nDCG@10"
    of: Mapping[str, Any]
    to: Mapping[str, Any]

    @model_validator(mode="after")
    def _is_a_difference(self) -> Self:
        if self.bounds[0] <= -1 and self.bounds[1] >= 1:
            raise ValueError("measures lie from 0 to 1 and their differences from -1 to 1, so that this is no rule")
        return self

    def judge(self, evidence: Evidence) -> Finding:
        pairs = list(evidence.pairs(self.of, self.to))
        if not pairs:
            return none_of(evidence, self.of, self.to)
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for one, other in pairs:
            mine, theirs = (values_of(item, self.measure) for item in (one, other))
            if mine.keys() != theirs.keys():
                return Finding(UNTESTABLE, "", f"records {one.id} and {other.id} are of different queries")
            for query, value in zip(mine, _difference(mine, theirs), strict=True):
                found[one.collection, query].append(value)
        each = np.array([np.mean(values) for values in found.values()])
        mean, (low, high) = float(each.mean()), bootstrap_interval(each)
        ours = f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
        ids = ids_of(item for pair in pairs for item in pair)
        told = f"{self.measure} over {len(each)} queries, wanted {self.wanted()}"
        outside = high < self.bounds[0] or low > self.bounds[1]
        if (outside or (self.inside(low) and self.inside(high))) and (few := self._few(each)):
            return Finding(TREND if self.inside(mean) else UNTESTABLE, ours, f"{told}. {few}", ids)
        if self.inside(low) and self.inside(high):
            return Finding(REPRODUCED, ours, told, ids)
        if outside:
            return Finding(REFUTED, ours, told, ids)
        reason = f"{told}. {detectable(each).words()}"
        return Finding(TREND if self.inside(mean) else UNTESTABLE, ours, reason, ids)

    def _few(self, each: NDArray[np.float64]) -> str:
        """That so few queries differ from a bound that their signs tell nothing; empty where that is not so."""
        for bound in filter(math.isfinite, self.bounds):
            differing = np.count_nonzero(each - bound)
            if 0 < differing <= FEW and (p := randomization_test(each - bound).p) > ALPHA:
                return f"Only {differing} of them differ from {bound:g}, and signs like theirs come by chance with p = {p:.2g}"
        return ""

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
            return none_of(evidence, self.of)
        means = by_collection(items, self.figure)
        return judged({name: np.mean(values) for name, values in means.items()}, self, items, self.figure)

    def violated(self, evidence: Evidence) -> Evidence:
        return evidence.replaced(evidence.where(self.of), lambda item: item.shifted(far(self)))


class Ratio(Bounded):
    """A figure of records with the settings `of`, divided by that of the records with `to`, lies in [low, high].

    Records are paired as by `mean_difference`; on each collection it is the geometric mean of the pairs. The trend where it
    does so on half of the collections or more.
    """

    kind: Literal["ratio"] = "ratio"
    figure: str
    of: Mapping[str, Any]
    to: Mapping[str, Any]
    low: float | None = Field(None, gt=0)

    def judge(self, evidence: Evidence) -> Finding:
        pairs = list(evidence.pairs(self.of, self.to))
        if not pairs:
            return none_of(evidence, self.of, self.to)
        found: dict[str, list[float]] = defaultdict(list)
        for one, other in pairs:
            found[one.collection].append(math.log(ratio_of(one, other, self.figure)))
        means = {name: math.exp(float(np.mean(values))) for name, values in sorted(found.items())}
        return judged(means, self, [item for pair in pairs for item in pair], f"ratio of {self.figure}")

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
        items = evidence.where({**self.of, self.along: list(self.values)})
        means = [by_collection([i for i in items if i.has({self.along: value})], self.figure) for value in self.values]
        if any(not each or each.keys() != means[0].keys() for each in means):
            return lacking(evidence, self.along, self.values, means)
        rows = {name: np.array([np.mean(each[name]) for each in means]) for name in means[0]}
        sign = 1 if self.direction == "rising" else -1
        kept = all(np.all(sign * np.diff(row) >= -self.tolerance) for row in rows.values())
        moved = all(sign * (row[-1] - row[0]) > self.tolerance for row in rows.values())
        ours = "; ".join(f"{name}: " + ", ".join(f"{value:.4g}" for value in row) for name, row in rows.items())
        reason = f"{self.figure} {self.direction} with {self.along} over {', '.join(map(str, self.values))}"
        ids = ids_of(items)
        if kept and moved:
            return Finding(REPRODUCED, ours, reason, ids)
        correlations = [sign * rank_correlation(np.arange(len(row)), row) for row in rows.values()]
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


AnyRule = Annotated[
    MeanDifference | Figure | Ratio | Ordered | Correlation | Slope | Gain | Shares | Exists | Untestable,
    Field(discriminator="kind"),
]
RULES: Mapping[str, type[Rule]] = {rule.model_fields["kind"].default: rule for rule in get_args(get_args(AnyRule)[0])}
"""The rules by their kind."""


def _difference(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Any:
    return differences(list(ours.values()), [theirs[query] for query in ours])
