"""Rules about several figures or settings: correlations, slopes, gains, shares of variance, and that some setting exists."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from colbert_research.ledger.evidence import Evidence, Item
from colbert_research.ledger.findings import (
    REFUTED,
    REPRODUCED,
    TREND,
    UNTESTABLE,
    Bounded,
    Bounds,
    Finding,
    LackingError,
    Rule,
    by_collection,
    far,
    figure_of,
    ids_of,
    judged,
    lacking,
    none_of,
    rank_correlation,
    ratio_of,
)

FEWEST = 3
"""Records that a correlation or a slope needs."""


class Correlation(Bounded):
    """Spearman's correlation of two figures of the records with the settings `of` lies in [low, high] on every collection."""

    kind: Literal["correlation"] = "correlation"
    figure: str
    beside: str
    of: Mapping[str, Any] = {}

    @model_validator(mode="after")
    def _is_a_correlation(self) -> Self:
        if self.bounds[0] <= -1 and self.bounds[1] >= 1:
            raise ValueError("a correlation always lies between -1 and 1, so that this is no rule")
        return self

    def judge(self, evidence: Evidence) -> Finding:
        items = evidence.where(self.of)
        one, other = by_collection(items, self.figure), by_collection(items, self.beside)
        if not items or any(len(each) < FEWEST for each in one.values()):
            return none_of(evidence, self.of) if not items else _too_few(self.of)
        means = {name: rank_correlation(other[name], one[name]) for name in one}
        return judged(means, self, items, f"Spearman's correlation of {self.figure} and {self.beside}")

    def violated(self, evidence: Evidence) -> Evidence:
        sign = -1 if self.bounds[0] > -1 else 1
        return evidence.replaced(
            evidence.where(self.of), lambda item: item.given(self.figure, sign * item.figures[self.beside])
        )


class Slope(Bounded):
    """The slope of log(figure) over log(`over`), by least squares over the records with the settings `of`, lies in [low, high].

    `over`: a figure, or a setting that is a number. All collections together, for their size may be what varies. So does the
    slope over the larger half of the range, from the median up, where extrapolation begins: constant costs flatten the small
    end. The trend where only one of the two does.
    """

    kind: Literal["slope"] = "slope"
    figure: str
    over: str
    of: Mapping[str, Any] = {}

    def judge(self, evidence: Evidence) -> Finding:
        items = evidence.where(self.of)
        x = np.log([_number(item, self.over) for item in items])
        if len(items) < FEWEST or np.ptp(x) == 0:
            return none_of(evidence, self.of) if not items else _too_few(self.of)
        y = np.log([_number(item, self.figure) for item in items])
        slopes = {f"{len(items)} records": float(np.polyfit(x, y, 1)[0])}
        larger = x >= np.median(x)
        if np.ptp(x[larger]) > 0:
            slopes[f"the largest {larger.sum()}"] = float(np.polyfit(x[larger], y[larger], 1)[0])
        return judged(slopes, self, items, f"slope of log {self.figure} over log {self.over}")

    def violated(self, evidence: Evidence) -> Evidence:
        low, high = self.bounds
        power = high + 1 if math.isfinite(high) else low - 1
        items = evidence.where(self.of)
        return evidence.replaced(items, lambda item: item.given(self.figure, _number(item, self.over) ** power))


class Gain(Bounded):
    """What a figure gains from the second to the third of three values of a setting, in parts of its gain from the first to
    the second, lies in [low, high] on every collection. Other settings that vary are averaged."""

    kind: Literal["gain"] = "gain"
    figure: str
    along: str
    values: tuple[Any, Any, Any]
    of: Mapping[str, Any] = {}

    def judge(self, evidence: Evidence) -> Finding:
        items = evidence.where({**self.of, self.along: list(self.values)})
        means = [by_collection([i for i in items if i.has({self.along: value})], self.figure) for value in self.values]
        if any(not each or each.keys() != means[0].keys() for each in means):
            return lacking(evidence, self.along, self.values, means)
        rows = {name: [float(np.mean(each[name])) for each in means] for name in means[0]}
        if any(row[1] <= row[0] for row in rows.values()):
            told = "; ".join(f"{name}: {', '.join(f'{value:.4g}' for value in row)}" for name, row in rows.items())
            return Finding(REFUTED, told, f"{self.figure} gains nothing from the first value to the second", ids_of(items))
        gains = {name: (third - second) / (second - first) for name, (first, second, third) in rows.items()}
        a, b, c = self.values
        told = f"gain of {self.figure} from {self.along}={b} to {c} in parts of that from {a} to {b}"
        return judged(gains, self, items, told)

    def violated(self, evidence: Evidence) -> Evidence:
        low, high = self.bounds
        third = 1 + (high + 1 if math.isfinite(high) else low - 1)
        for value, figure in zip(self.values, (0.0, 1.0, third), strict=True):
            chosen = [item for item in evidence.where(self.of) if item.has({self.along: value})]
            evidence = evidence.replaced(chosen, lambda item, to=figure: item.given(self.figure, to))  # type: ignore[misc]
        return evidence


class Shares(Rule):
    """Of the settings `axes`, each explains more of the variance of a figure than the next, on every collection.

    A setting's share is that of the sum of squares between its values (its main effect) in the sum over all records with the
    settings `of`, which should be a full grid. The trend where the first explains most.
    """

    kind: Literal["shares"] = "shares"
    figure: str
    axes: tuple[str, ...] = Field(min_length=2)
    of: Mapping[str, Any] = {}

    def judge(self, evidence: Evidence) -> Finding:
        evidence.check(self.axes)
        found: dict[str, list[Item]] = defaultdict(list)
        for item in evidence.where(self.of):
            found[item.collection].append(item)
        shares = {name: [self._share(items, axis) for axis in self.axes] for name, items in sorted(found.items())}
        if not shares or any(math.isnan(share) for row in shares.values() for share in row):
            return Finding(UNTESTABLE, "", f"no records in which all of {', '.join(self.axes)} vary: the sweep has not run")
        told = "; ".join(f"{name}: " + ", ".join(f"{share:.3f}" for share in row) for name, row in shares.items())
        reason = f"share of the variance of {self.figure} by {', '.join(self.axes)}, wanted descending"
        ids = ids_of(item for items in found.values() for item in items)
        if all(all(np.diff(row) < 0) for row in shares.values()):
            return Finding(REPRODUCED, told, reason, ids)
        return Finding(TREND if all(row[0] == max(row) for row in shares.values()) else REFUTED, told, reason, ids)

    def _share(self, items: Iterable[Item], axis: str) -> float:
        levels: dict[str, list[float]] = defaultdict(list)
        for item in items:
            levels[str(item.settings.get(axis))].append(figure_of(item, self.figure))
        every = np.concatenate([*map(np.asarray, levels.values())])
        whole = float(((every - every.mean()) ** 2).sum())
        between = sum(len(each) * (float(np.mean(each)) - float(every.mean())) ** 2 for each in levels.values())
        return between / whole if len(levels) > 1 and whole > 0 else math.nan

    def violated(self, evidence: Evidence) -> Evidence:
        items = evidence.where(self.of)
        levels = {axis: sorted({str(item.settings.get(axis)) for item in items}) for axis in self.axes}

        def changed(item: Item) -> Item:
            ranks = [levels[axis].index(str(item.settings.get(axis))) / len(levels[axis]) for axis in self.axes]
            return item.given(self.figure, float(np.dot(ranks, 100.0 ** np.arange(len(ranks)))))

        return evidence.replaced(items, changed)


class Condition(Bounds):
    """A figure of a record lies in [low, high]; with `ratio`, that figure divided by that of the record beside it."""

    figure: str
    ratio: bool = False


class Exists(Rule):
    """On every collection, some record with the settings `of` satisfies all conditions. The trend where on some collections.

    `to`: the settings of the records beside which conditions with `ratio` are seen, paired as by `mean_difference`.
    """

    kind: Literal["exists"] = "exists"
    of: Mapping[str, Any]
    to: Mapping[str, Any] | None = None
    conditions: tuple[Condition, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ratios_have_records_beside(self) -> Self:
        if any(each.ratio for each in self.conditions) and self.to is None:
            raise ValueError("a condition with ratio needs `to`, the settings of the records that figures are divided by")
        return self

    def judge(self, evidence: Evidence) -> Finding:
        pairs = [(item, item) for item in evidence.where(self.of)] if self.to is None else [*evidence.pairs(self.of, self.to)]
        if not pairs:
            return none_of(evidence, self.of, *([] if self.to is None else [self.to]))
        held: dict[str, list[Item]] = {one.collection: [] for one, _ in pairs}
        for one, other in pairs:
            if all(each.inside(_seen(each, one, other)) for each in self.conditions):
                held[one.collection].append(one)
        told = "; ".join(f"{name}: {items[0].id if items else 'none'}" for name, items in sorted(held.items()))
        wanted = ", ".join(f"{'ratio of ' * each.ratio}{each.figure} {each.wanted()}" for each in self.conditions)
        reason = f"a record with {wanted}, of {len({one.id for one, _ in pairs})}"
        ids = ids_of(items[0] for items in held.values() if items) or ids_of(one for one, _ in pairs)
        if all(held.values()):
            return Finding(REPRODUCED, told, reason, ids)
        return Finding(TREND if any(held.values()) else REFUTED, told, reason, ids)

    def violated(self, evidence: Evidence) -> Evidence:
        first = self.conditions[0]
        return evidence.replaced(evidence.where(self.of), lambda item: item.given(first.figure, far(first)))


def _seen(condition: Condition, one: Item, other: Item) -> float:
    return ratio_of(one, other, condition.figure) if condition.ratio else figure_of(one, condition.figure)


def _number(item: Item, name: str) -> float:
    """A figure, or a setting that is a number."""
    value = item.figures.get(name, item.settings.get(name))
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise LackingError(f"{name} of record {item.id} is {value!r}; a slope over logarithms needs numbers above 0")
    return float(value)


def _too_few(of: Mapping[str, Any]) -> Finding:
    named = " ".join(f"{name}={value}" for name, value in of.items()) or "any settings"
    return Finding(UNTESTABLE, "", f"fewer than {FEWEST} different records of {named} on a collection")
