"""One setting of a search strategy, up and down: what it does to one query."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from colbert_research.config import explain
from colbert_research.evaluation.measures import overlap
from colbert_research.evaluation.timing import compare
from colbert_research.index import Index
from colbert_research.search import Exhaustive, Queries, SearchStrategy
from colbert_research.search.explanation import RESULT
from colbert_research.search.trace import in_order
from colbert_research.settings import ConfigError

if TYPE_CHECKING:
    import pandas as pd


def vary(
    strategy: SearchStrategy,
    setting: str,
    values: Sequence[Any],
    index: Index,
    query: Queries,
    k: int,
    *,
    documents: Sequence[str] = (),
    repeats: int = 9,
) -> "pd.DataFrame":
    """A column for each value of a setting, and a last one of exhaustive search: how many documents each stage looked at, the
    rank of some `documents` in the result, overlap with exhaustive search, milliseconds (median of `repeats`, one thread).

    `query`: one query. Exhaustive search has one stage, which stands with the last of the strategy's. Raises ConfigError for a
    setting or a value that the strategy does not have.
    """
    import pandas as pd

    varied = {f"{setting}={value}": _with(strategy, setting, value) for value in values}
    timed = compare({"exhaustive": Exhaustive(), **varied}, index, query, k, threads=1, repeats=repeats)
    explained = {
        name: each.explain(index, query.vectors, k, query_ids=query.ids, query_texts=query.texts)
        for name, each in ({"exhaustive": Exhaustive()} | varied).items()
    }
    stages = in_order([step.stage for step in explained[name].steps[:-1]] for name in varied)
    depth, columns = min(10, k), {}
    for result, title in zip(timed.results, ["exhaustive", *values], strict=True):
        found = {step.stage: len(step) for step in explained[result.name].steps}
        found |= {stages[-1]: found["score"]} if result is timed.results[0] else {}
        ranks = explained[result.name].table(*documents).loc[RESULT].drop("documents").to_dict()
        shared = round(overlap(result.ranking, timed.results[0].ranking, depth), 2)
        ms = round(result.figures()["median"], 2)
        column = {**{s: found.get(s, "-") for s in stages}, **ranks, f"overlap@{depth}": shared, "ms": ms}
        columns[title] = pd.Series(column, dtype=object)  # counts stay whole numbers
    return pd.DataFrame({title: columns[title] for title in (*values, "exhaustive")}).rename_axis(columns=setting)


def _with(strategy: SearchStrategy, setting: str, value: Any) -> SearchStrategy:
    try:
        return type(strategy).model_validate({**strategy.model_dump(), setting: value})
    except ValidationError as error:
        raise ConfigError(f"{setting}={value!r}: {explain(error, type(strategy))}") from None
