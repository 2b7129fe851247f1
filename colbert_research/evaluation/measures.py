"""Measures of a ranking against judgements, by ir-measures.

ir-measures hands measures to providers that break ties of scores in different ways. A `Ranking` has decided them, so providers
are given strictly decreasing scores, one a rank. A query without results counts 0.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from colbert_research.ranking import Ranking
from colbert_research.settings import ConfigError

if TYPE_CHECKING:
    import pandas as pd

_BY_SUBTOPIC = {"pyndeval"}
"""Providers of diversity measures."""


def parse_measures(names: Sequence[str]) -> list[Any]:
    """Measures by the names that ir-measures prints, such as `nDCG@10`. Raises ConfigError for an unknown one or none."""
    import ir_measures

    if not names:
        raise ConfigError("no measures; give some, such as nDCG@10, R@100, RR@10")
    parsed = []
    for name in names:
        try:
            parsed.append(ir_measures.parse_measure(name))
        except (NameError, ValueError, SyntaxError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"unknown measure {name!r}: {error}; ir-measures knows nDCG@10, R@100, RR@10, Success@5, AP, P@10 and others"
            ) from None
        if parsed[-1].params.get("cutoff", 1) < 1:
            raise ConfigError(f"measure {name!r} looks at no document; its cutoff must be at least 1, as in nDCG@10")
        _check_provider(name, parsed[-1])
        _try(name)
    return parsed


@cache
def _try(name: str) -> None:
    """Compute a measure of a made-up ranking: many are listed that no provider here can compute. Raises ConfigError."""
    import ir_measures

    measure = ir_measures.parse_measure(name)
    judged = {"q1": {"d1": 1, "d2": 0}, "q2": {"d1": 0, "d3": 1}}
    ranked = {query: {f"d{i}": float(9 - i) for i in range(9)} for query in judged}
    try:
        values = {found.query_id: float(found.value) for found in ir_measures.iter_calc([measure], judged, ranked)}
    except Exception as error:  # of any provider, each in its own way
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"measure {name!r} cannot be computed: {reason}; choose another one") from error
    if set(values) != set(judged) or not np.isfinite(list(values.values())).all():
        raise ConfigError(f"measure {name!r} cannot be computed: of a made-up ranking it gives {values}; choose another one")


def _check_provider(name: str, measure: Any) -> None:
    """Raise ConfigError for a measure that nothing installed computes from judgements of documents."""
    import ir_measures

    pipeline = ir_measures.DefaultPipeline
    try:
        providers = {provider.NAME for provider in pipeline.providers if provider.is_available() and provider.supports(measure)}
    except AssertionError as error:
        reason = re.sub(r"invalid param (\w+)=<object.*", r"it needs a \1, as nDCG@10 has a cutoff", str(error))
        raise ConfigError(f"measure {name!r}: {reason}") from None
    if not providers - _BY_SUBTOPIC:
        reason = (
            "it needs judgements by subtopic, which collections here do not have" if providers else "no provider is installed"
        )
        raise ConfigError(f"measure {name!r} cannot be computed: {reason}; choose another one, such as nDCG@10")


def check_depth(measures: Sequence[Any], k: int) -> None:
    """Raise ConfigError for a measure that looks at more documents than the `k` that are retrieved."""
    deeper = [str(measure) for measure in measures if measure.params.get("cutoff", 0) > k]
    if deeper:
        raise ConfigError(
            f"{', '.join(deeper)} cannot be told from k={k} documents per query; raise k, or leave them out of `measures`"
        )


def check_grades(measures: Sequence[Any], greatest: int) -> None:
    """Raise ConfigError for a measure whose level of relevance no judgement reaches; `greatest`: the highest grade there is."""
    beyond = [str(measure) for measure in measures if measure.params.get("rel", 1) > greatest]
    if beyond:
        raise ConfigError(
            f"{', '.join(beyond)} count documents from a grade that no judgement of this collection reaches (the highest is "
            f"{greatest}); lower `rel`, or leave them out of `measures`"
        )


def evaluate(ranking: Ranking, qrels: Mapping[str, Mapping[str, int]], measures: Sequence[str]) -> "pd.DataFrame":
    """Every measure of every judged query: a table with columns query_id, measure, value.

    Queries of the ranking that are not judged are left out; judged queries that the ranking lacks, or that found nothing, count
    0. Rows come in the order of `qrels`, then of `measures`. Raises ValueError where a provider gives no value for a query that
    found something.
    """
    import ir_measures
    import pandas as pd

    parsed = parse_measures(measures)
    run: dict[str, dict[str, float]] = {}
    for i, query in enumerate(ranking.query_ids):
        if query in qrels and (found := ranking.top(i)):  # of one that found nothing, providers say what they like
            run[query] = {document: float(len(found) - place) for place, (document, _) in enumerate(found)}
    judged = {query: dict(grades) for query, grades in qrels.items()}
    computed = {(m.query_id, str(m.measure)): float(m.value) for m in ir_measures.iter_calc(parsed, judged, run)}
    lost = [(query, str(m)) for query in run for m in parsed if judged[query] and (query, str(m)) not in computed]
    wrong = [key for key, value in computed.items() if not np.isfinite(value)]
    if lost or wrong:
        query, measure = (lost or wrong)[0]
        given = "none" if lost else str(computed[query, measure])
        raise ValueError(f"{measure} of query {query!r}, which found {len(run[query])} documents, has no value: given {given}")
    rows = [(query, str(m), computed.get((query, str(m)), 0.0)) for query in qrels for m in parsed]
    return pd.DataFrame(rows, columns=["query_id", "measure", "value"])


def mean_measures(per_query: "pd.DataFrame") -> dict[str, float]:
    """The mean over queries of each measure, in the order of the table."""
    return {str(name): float(values.mean()) for name, values in per_query.groupby("measure", sort=False)["value"]}


def overlap(ranking: Ranking, reference: Ranking, k: int) -> float:
    """The mean share of the reference's best `k` documents that are among the ranking's best `k` (overlap@k).

    A query whose reference found fewer than `k` is divided by what it found; one that found nothing is left out.
    """
    if ranking.query_ids != reference.query_ids:
        raise ValueError("overlap compares rankings of the same queries in the same order")
    shares = []
    for query in range(len(reference)):
        wanted = {document for document, _ in reference.top(query)[:k]}
        if wanted:
            shares.append(len(wanted & {document for document, _ in ranking.top(query)[:k]}) / len(wanted))
    return float(np.mean(shares)) if shares else 0.0
