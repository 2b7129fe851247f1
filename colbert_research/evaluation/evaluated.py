"""What is known of a system's answers to some queries, and several of them lined up by query."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from colbert_research.evaluation.agreement import agreement
from colbert_research.ranking import Ranking

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("query_id", "measure", "value")


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A system's `values`, a table as `evaluate` gives it (query_id, measure, value), and what else is known of it.

    `ranking`: what it found, which agreement with an oracle needs. `collection`: the fingerprint of the collection that it
    searched; empty where it is not known. `facts`: further columns of a table, such as settings and costs.
    """

    values: "pd.DataFrame"
    ranking: Ranking | None = None
    collection: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def with_agreement(self, name: str, oracle: Ranking) -> "Evaluated":
        """The same with the measures of `agreement`, at the table's end. Raises ValueError without a ranking of its queries."""
        import pandas as pd

        if self.ranking is None:
            raise ValueError(f"agreement with an oracle needs the ranking of {name!r}; give it as `Evaluated(values, ranking)`")
        place = {query: i for i, query in enumerate(self.ranking.query_ids)}
        check_queries(("the oracle", oracle.query_ids), (repr(name), self.ranking.query_ids), "rankings")
        found = agreement(self.ranking.take([place[query] for query in oracle.query_ids]), oracle)
        twice = sorted(set(found["measure"]) & set(self.values["measure"]))
        if twice:
            raise ValueError(f"{name!r} has values of {', '.join(twice)} already; leave them out, or the oracle")
        return replace(self, values=pd.concat([self.values, found], ignore_index=True))


def check_values(name: str, values: "pd.DataFrame") -> None:
    """Raise ValueError for a table without the columns that `evaluate` gives, or without rows."""
    lacking = [column for column in COLUMNS if column not in values.columns]
    if lacking:
        raise ValueError(f"{name!r}: expected a table with columns {', '.join(COLUMNS)}; it lacks {', '.join(lacking)}")
    if not len(values):
        raise ValueError(f"{name!r} has no values: no query was evaluated")


def measures_of(values: "pd.DataFrame") -> list[str]:
    """The measures of a table, in its order."""
    return [str(name) for name in values["measure"].drop_duplicates()]


def aligned(systems: Mapping[str, Evaluated], baseline: str, measure: str) -> "pd.DataFrame":
    """The values of one measure: a row per query, in the order of the baseline, and a column per system.

    Raises ValueError, which names system and queries, where one lacks the measure, has values for other queries than the
    baseline, two for one query, or one that is not finite.
    """
    import pandas as pd

    columns = {name: _column(name, system.values, measure) for name, system in systems.items()}
    queries = columns[baseline].index
    for name, column in columns.items():
        check_queries((repr(baseline), queries), (repr(name), column.index), measure)
    return pd.DataFrame({name: column.reindex(queries) for name, column in columns.items()})


def check_queries(one: tuple[str, Iterable[str]], other: tuple[str, Iterable[str]], what: str) -> None:
    """Raise ValueError, which names some of them, where two have other queries than each other."""
    alone = [_alone(one, other), _alone(other, one)]
    if any(alone):
        raise ValueError(
            f"{one[0]} and {other[0]} cannot be compared by {what}, since their queries are not the same: "
            f"{'; '.join(each for each in alone if each)}; evaluate both on the same queries"
        )


def _alone(one: tuple[str, Iterable[str]], other: tuple[str, Iterable[str]]) -> str:
    theirs = set(other[1])
    found = [repr(query) for query in one[1] if query not in theirs]
    return f"{len(found)} of {one[0]} alone ({', '.join(found[:3])}{', …' if len(found) > 3 else ''})" if found else ""


def _column(name: str, values: "pd.DataFrame", measure: str) -> "pd.Series[float]":
    rows = values[values["measure"] == measure].set_index("query_id")["value"]
    if not len(rows):
        raise ValueError(f"{name!r} has no values of {measure}; it has {', '.join(measures_of(values))}: name some of these")
    if rows.index.has_duplicates:
        raise ValueError(f"{name!r} has two values of {measure} for query {rows.index[rows.index.duplicated()][0]!r}; give one")
    wrong = ~np.isfinite(rows.to_numpy(np.float64))
    if wrong.any():
        raise ValueError(f"{measure} of query {rows.index[wrong][0]!r} is {rows[wrong].iloc[0]} in {name!r}; expected a number")
    return rows
