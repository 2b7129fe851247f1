"""Systems against a baseline, query by query: which differ, by how much, and what the queries cannot tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from colbert_research.evaluation.difference import FIGURES, Criteria, Difference, compared
from colbert_research.evaluation.effect import Outcomes
from colbert_research.evaluation.evaluated import Evaluated, aligned, check_values, measures_of
from colbert_research.evaluation.paired import differences
from colbert_research.ranking import Ranking
from colbert_research.settings import nearest

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = Criteria()


@dataclass(frozen=True, eq=False)
class Comparison:
    """Systems against the `baseline`.

    `rows`: one for each measure and system but the baseline. `values`: measure -> a table of values, a row per query and a
    column per system, the baseline among them. `facts`: system -> what else is known of it. `notes`: sentences to keep in mind.
    """

    baseline: str
    criteria: Criteria
    rows: tuple[Difference, ...]
    values: Mapping[str, "pd.DataFrame"]
    facts: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...] = ()

    def table(self) -> "pd.DataFrame":
        """A row for each measure and system, the baseline first: means, differences and verdicts, rounded, then the facts."""
        import pandas as pd

        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for measure, values in self.values.items():
            rows[measure, self.baseline] = {"mean": values[self.baseline].mean(), "verdict": "baseline"}
            rows |= {(measure, row.system): row.figures() for row in self.rows if row.measure == measure}
        told = pd.DataFrame(list(rows.values()), columns=list(FIGURES))
        told = told.round({name: 6 if name in ("p", "p (Holm)") else 4 for name in FIGURES})
        told = told.astype(dict.fromkeys(Outcomes._fields, "Int64"))  # counts, which the baseline has none of
        known = pd.DataFrame([self.facts[system] for _, system in rows]).convert_dtypes()  # whole numbers stay whole
        table = pd.concat([told, known], axis=1)
        table.index = pd.MultiIndex.from_tuples(rows, names=["measure", "system"])
        return table

    def words(self) -> list[str]:
        """Short sentences: how it was compared, one for each row, then the notes."""
        systems, criteria = len({row.system for row in self.rows}), self.criteria
        how = (
            f"Against {self.baseline}: p of the paired randomisation test, corrected (Holm) over {systems} "
            f"system{'s' if systems > 1 else ''} per measure; bootstrap intervals (BCa), uncorrected; "
            f"margin {criteria.margin:g}, alpha {criteria.alpha:g}."
        )
        return [how, *(row.words(self.baseline, 1 - criteria.alpha) for row in self.rows), *self.notes]

    def most_different(self, measure: str = "") -> str:
        """The system whose mean is farthest from the baseline's, the first of several. `measure`: the first, unless named."""
        measure = measure or next(iter(self.values))
        rows = [row for row in self.rows if row.measure == measure]
        if not rows:
            raise ValueError(f"no values of {measure!r}: {nearest(measure, self.values)}")
        return max(rows, key=lambda row: abs(row.delta)).system

    def biggest_losers(self, system: str, n: int = 10, *, measure: str = "") -> "pd.DataFrame":
        """The `n` queries with the largest loss against the baseline: query_id, value, baseline, difference.

        `measure`: the first, unless named. Fewer rows where fewer queries lost; ties are no losses. Raises ValueError for
        unknown names and for `n` below 1.
        """
        measure = measure or next(iter(self.values))
        if measure not in self.values:
            raise ValueError(f"no values of {measure!r}: {nearest(measure, self.values)}")
        others = [name for name in self.values[measure] if name != self.baseline]
        if system not in others:
            raise ValueError(f"{system!r} is not compared with {self.baseline!r}: {nearest(system, others)}")
        if n < 1:
            raise ValueError(f"expected at least 1 query; given n={n}")
        found = self.values[measure][[system, self.baseline]].set_axis(["value", "baseline"], axis=1)
        found["difference"] = differences(found["value"], found["baseline"])
        lost = found[found["difference"] < -self.criteria.tolerance]
        return lost.sort_values("difference", kind="stable").head(n).rename_axis("query_id").reset_index()


def compare(
    runs: Mapping[str, "pd.DataFrame | Evaluated"],
    baseline: str,
    *,
    measures: Sequence[str] = (),
    oracle: Ranking | None = None,
    criteria: Criteria = DEFAULT,
) -> Comparison:
    """Compare what `evaluate` gave for several systems with that of one among them, by query id.

    `runs`: name -> values of its queries (query_id, measure, value), or these with a ranking, a collection's fingerprint and
    facts (`Evaluated`). `measures`: those of the baseline, in its order, unless given. `oracle`: an exact ranking; the
    systems' agreement with it, overlap@10 and RBO at .9, is then compared as measures are, and tells more of the same queries.

    Raises ValueError for an unknown baseline or nothing to compare it with, for other collections, and where values are not
    those of the same queries (see `aligned`).
    """
    systems = {name: run if isinstance(run, Evaluated) else Evaluated(run) for name, run in runs.items()}
    if baseline not in systems:
        raise ValueError(f"no values of the baseline {baseline!r}: {nearest(baseline, systems)}")
    if len(systems) < 2:
        raise ValueError(f"nothing to compare: there is the baseline {baseline!r} alone; give the values of another system")
    for name, system in systems.items():
        check_values(name, system.values)
    _check_collections(baseline, systems)
    _check_facts(systems)
    names = list(measures) or measures_of(systems[baseline].values)
    if oracle is not None:
        before = set(measures_of(systems[baseline].values))
        systems = {name: system.with_agreement(name, oracle) for name, system in systems.items()}
        names += [name for name in measures_of(systems[baseline].values) if name not in before]
    values = {name: aligned(systems, baseline, name) for name in names}
    rows: list[Difference] = []
    for name, table in values.items():
        columns = {system: table[system].to_numpy(float) for system in table if system != baseline}
        rows += compared(name, columns, table[baseline].to_numpy(float), criteria)
    return Comparison(baseline, criteria, tuple(rows), values, {name: system.facts for name, system in systems.items()})


def _check_collections(baseline: str, systems: Mapping[str, Evaluated]) -> None:
    first = systems[baseline].collection
    for name, system in systems.items():
        if first and system.collection and system.collection != first:
            raise ValueError(
                f"{baseline!r} searched the collection {first} and {name!r} the collection {system.collection}; systems can be "
                "compared on one collection only"
            )


def _check_facts(systems: Mapping[str, Evaluated]) -> None:
    """Raise ValueError for a fact that would be taken for a figure of the comparison."""
    for name, system in systems.items():
        if both := [each for each in FIGURES if each in system.facts]:
            raise ValueError(f"facts of {name!r} are named {', '.join(both)}, as figures of the comparison are; rename them")
