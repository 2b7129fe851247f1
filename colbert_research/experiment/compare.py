"""Records against one among them, query by query, with the settings that differ and what searching cost."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colbert_research.evaluation.comparison import DEFAULT, Comparison, compare
from colbert_research.evaluation.difference import Criteria
from colbert_research.evaluation.evaluated import Evaluated
from colbert_research.experiment.differing import differing, labels, settings_of_now, value_text
from colbert_research.experiment.library import Found, Library
from colbert_research.experiment.overlaps import DEPTH
from colbert_research.experiment.rankings import rankings_beside
from colbert_research.experiment.record import PER_QUERY, RANKING, RecordError
from colbert_research.ranking import Ranking

if TYPE_CHECKING:
    import pandas as pd


def compare_records(
    records: str | Path | Sequence[str | Path],
    *,
    baseline: str | Path,
    measures: Sequence[str] = (),
    oracle: str | Path | None = None,
    below: str | Path = "experiments",
    criteria: Criteria = DEFAULT,
) -> Comparison:
    """Compare finished experiments with one of them by the values of each query.

    `records`, `baseline`, `oracle`: folders of records, folders below which there are some, or ids, of records in these folders
    or below `below`. `baseline` and `oracle` are one record each and need not be among `records`. `measures`: those of the
    baseline unless given. `oracle`: a record of exact search; agreement with its ranking is then compared, too (see `compare`).

    A system is called by the settings in which it differs, and by its id where these do not tell it. Facts: record; every
    setting that differs; `Record.costs`, as far as they are known. A note says where times are of several machines. Raises
    ConfigError for what names no record or several, RecordError for files that are not those of the record, and ValueError
    for other collections or queries.
    """
    library = Library(below)
    given = [records] if isinstance(records, (str, Path)) else records
    others = [each for name in given for each in library.find(name)]
    first, exact = library.one(baseline, "baseline"), [] if oracle is None else [library.one(oracle, "oracle")]
    found = list({each.path.resolve(): each for each in (first, *others)}.values())
    _check_collections([*found, *exact])
    *rankings, reference = _rankings([*found, *exact]) if exact else [None] * (len(found) + 1)
    runs = {
        name: Evaluated(_per_query(each), ranking, collection=each.record.dataset["fingerprint"], facts=facts)
        for name, each, ranking, facts in zip(_names(found), found, rankings, _facts(found), strict=True)
    }
    compared = compare(runs, next(iter(runs)), measures=measures, oracle=reference, criteria=criteria)
    return replace(compared, notes=_notes(found))


def _check_collections(found: Sequence[Found]) -> None:
    first = found[0].record
    for _, record in found:
        if record.dataset["fingerprint"] != first.dataset["fingerprint"]:
            one, other = (f"{r.id} is of {r.dataset['name']} ({r.dataset['fingerprint'][:12]})" for r in (first, record))
            raise ValueError(f"record {one} and record {other}; only records of one collection can be compared")


def _names(found: Sequence[Found]) -> list[str]:
    """What each record is called: by its settings, where these do not tell it by its id, and else by its folder."""
    names = labels([settings_of_now(record.config) for _, record in found])
    for told in ([record.id for _, record in found], [str(path) for path, _ in found]):
        pairs = list(zip(names, told, strict=True))
        names = [f"{name} ({more})" if name and names.count(name) > 1 else name or more for name, more in pairs]
    return names


def _facts(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Columns beside each record's figures: its id, the settings that differ, costs that are known of any of them."""
    settings = [settings_of_now(record.config) for _, record in found]
    costs = [record.costs() for _, record in found]
    known = [name for name in costs[0] if any(_known(each[name]) for each in costs)]
    return [
        {"record": record.id}
        | {name: _shown(own[name]) if name in own else None for name in differing(settings)}
        | {name: cost[name] for name in known}
        for (_, record), own, cost in zip(found, settings, costs, strict=True)
    ]


def _known(value: Any) -> bool:
    return value != "" and not (isinstance(value, float) and math.isnan(value))


def _shown(value: Any) -> Any:
    """A setting in a cell, in which None would stand for one that the record lacks."""
    return value if isinstance(value, (bool, int, float, str)) else value_text(value)


def _per_query(found: Found) -> "pd.DataFrame":
    import pandas as pd

    _check_file(found, PER_QUERY)
    return pd.read_parquet(found.path / PER_QUERY)


def _rankings(found: Sequence[Found]) -> list[Ranking | None]:
    for each in found:
        if (k := int(each.record.config["k"])) < DEPTH:
            raise ValueError(f"record {each.record.id} ranks k={k} documents; agreement with an oracle needs {DEPTH} at least")
        _check_file(each, RANKING)
    return [*rankings_beside(*(each.path for each in found))]


def _check_file(found: Found, name: str) -> None:
    if not (found.path / name).is_file():
        raise RecordError(
            f"{found.path / name} is not there, as beside records that are committed; run the experiment again, or compare "
            "means with `load_records`"
        )
    found.record.verify(found.path, name)


def _notes(found: Sequence[Found]) -> tuple[str, ...]:
    """A sentence where times were taken on other machines or threads than each other."""
    costs = [record.costs() for _, record in found if record.query_ms]
    machines = dict.fromkeys(f"{each['host'] or 'an unknown host'} (threads={each['threads']})" for each in costs)
    return (f"Times cannot be compared: they are of {', '.join(machines)}.",) if len(machines) > 1 else ()
