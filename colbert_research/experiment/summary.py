"""A summary of records: what was chosen, what it cost and what it gave, one row per record, to commit and to show."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colbert_research.artifacts import write_text
from colbert_research.config import load_config
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.differing import as_of_now, value_text
from colbert_research.experiment.overlaps import overlap_of, pooling_of
from colbert_research.experiment.record import Record, rows_of_records
from colbert_research.settings import ConfigError, flat, merge, parse_overrides

if TYPE_CHECKING:
    import pandas as pd

END = "end of records"
SHORT = ("collection", "dim", "codec", "search", "nDCG@10", "R@100", "overlap@10", "bytes/token", "record")
"""Columns of a table of some records, whose settings are in the table of all."""
LOCATIONS = ("dataset.", "encoder.model", "encoder.revision", "executor.")
"""Settings that a summary leaves out: they say where data lie, and where it was computed."""


def summarize(
    folder: str | Path, *, configs: str | Path = "configs", measures: tuple[str, ...] = ("nDCG@10", "R@100", "RR@10")
) -> "pd.DataFrame":
    """Every finished record below `folder`, ordered by collection, width, pooling, codec and search.

    `settings`: the base in `configs` from which a record's config differs least, and how. `overlap@10`: with the record that
    scores all exact vectors of the same width exhaustively, where there is one (see `overlaps`). `ms/query`, `p95`:
    median and 95th percentile over the queries. `anisotropy`: see `Record.anisotropy`. `bytes/token`: of codes,
    codec, inverted lists and what the search keeps beside them.
    """
    import pandas as pd

    bases = _bases(Path(configs))

    def row(path: Path, record: Record) -> dict[str, Any]:
        times, agreement = record.query_ms, overlap_of(path, record)
        return {
            "collection": record.dataset["name"],
            "documents": record.dataset["documents"],
            "dim": record.index["dim"],
            "pooling": pooling_of(record),
            "codec": _codec(record),
            "search": str(record.config["search"]["kind"]),
            "settings": settings_of(record.config, bases),
            **{name: f"{record.metrics[name]:.4f}" for name in measures if name in record.metrics},
            "overlap@10": "" if agreement is None else f"{agreement:.3f}",
            "ms/query": f"{times['median']:.1f}" if times else "",
            "p95": f"{times['p95']:.1f}" if times else "",
            "tokens/document": f"{record.index['tokens'] / max(1, record.dataset['documents']):.1f}",
            **{name: f"{value:.4f}" for name, value in record.index_figures().items() if name == "anisotropy"},
            "bytes/token": f"{record.bytes_per_token:.0f}",
            "record": record.id,
        }

    rows = list(rows_of_records(folder, row))
    if not rows:
        return pd.DataFrame()
    return (
        pd.DataFrame(rows)
        .fillna("")
        .sort_values(
            ["collection", "documents", "dim", "pooling", "codec", "search", "settings"],
            ascending=[True, True, False, True, True, True, True],
        )
    )


def markdown(table: "pd.DataFrame") -> str:
    """A table as Markdown, without columns in which nothing stands."""
    shown = table[[name for name in table.columns if (table[name].astype(str) != "").any()]]
    rows = [
        list(shown.columns),
        ["---"] * len(shown.columns),
        *([str(v) for v in row] for row in shown.itertuples(index=False)),
    ]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def put_into(page: Path, folder: str | Path, table: "pd.DataFrame") -> None:
    """Replace the tables between the marks `<!-- records of FOLDER -->` and `<!-- end of records -->` of a page.

    A mark may name some records, `<!-- records of FOLDER: ID ID -->`, which are then shown in that order, in fewer columns.
    Raises ConfigError for a page without such marks, and for records that are not in the table.
    """
    put_between(
        page,
        f"records of {Path(folder).as_posix()}",
        END,
        lambda ids: markdown(some(table, ids.split()) if ids else table),
    )


def put_between(page: Path, start: str, end: str, made: Callable[[str], str]) -> None:
    """Replace what stands between the comments `start` and `end` of a page, which may stand there several times.

    `made`: what to put there; it is given what follows `start: ` in the comment, or nothing. All else, its line ends too, stays
    as it is. Raises ConfigError for a page without such comments, for one that is no UTF-8, and for one that nobody may write.
    """
    page = page.resolve()  # a link stays one
    try:
        text = page.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{page} is not UTF-8: {error}; is it the page that is meant?") from error
    if not page.stat().st_mode & 0o222:
        raise ConfigError(f"{page} may not be written to; make it writable, or name another page")
    pattern = rf"<!-- {re.escape(start)}(?:: ([^\n]+))? -->\r?\n(.*?)<!-- {re.escape(end)} -->(?:\r?\n|\Z)"
    marks = list(re.finditer(pattern, text, re.DOTALL))
    if not marks:
        others = ", ".join(dict.fromkeys(re.findall(rf"<!-- {start.split()[0]} of [^\n]*? -->", text)))
        raise ConfigError(
            f"{page} lacks the lines '<!-- {start} -->' and '<!-- {end} -->', between which the table is put"
            + f"; it has {others}" * bool(others)
        )
    for mark in reversed(marks):
        text = f"{text[: mark.start(2)]}\n{made(mark[1] or '')}\n{text[mark.end(2) :]}"
    write_text(page, text)


def some(table: "pd.DataFrame", ids: Sequence[str]) -> "pd.DataFrame":
    """The rows of some records, in their order, and the columns that tell them apart. Raises ConfigError for unknown ones."""
    rows = table.set_index("record", drop=False)
    if unknown := [each for each in ids if each not in rows.index]:
        raise ConfigError(f"no records {', '.join(unknown)}; there are {', '.join(rows.index)}")
    return rows.loc[list(ids), [name for name in SHORT if name in rows.columns]]


def settings_of(config: Mapping[str, Any], bases: Mapping[str, Mapping[str, Any]]) -> str:
    """The file among `bases` (name -> its settings) that a config is nearest to, and the overrides that lead to it."""
    config = as_of_now(config)
    own = dict(flat(config))
    changes = {name: _overrides(own, dict(flat(base))) for name, base in bases.items()}
    if not changes:
        return ""
    best = min(changes, key=lambda name: (len(changes[name]), len(" ".join(changes[name])), name))
    return " ".join([best, *_needed(config, bases[best], changes[best])])


def _overrides(own: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """Assignments that change the settings of `base` to those of `own`; a new kind starts from the defaults of its axis."""
    told = [name for name in own if not name.startswith(LOCATIONS)]
    different = [name for name in told if name not in base or base[name] != own[name]]
    return [f"{name}={value_text(own[name])}" for name in sorted(different, key=lambda n: (not n.endswith("kind"), n))]


def _needed(config: Mapping[str, Any], base: Mapping[str, Any], overrides: list[str]) -> list[str]:
    """The assignments without those that say what stands there anyway, such as the defaults of a new kind."""
    kept = list(overrides)
    for each in overrides:
        fewer = [other for other in kept if other != each]
        made = merge(base, {**parse_overrides(" ".join(fewer)), "dataset": config["dataset"]})
        try:
            if _told(ExperimentConfig.model_validate(made).model_dump(mode="json")) == _told(config):
                kept = fewer
        except ValueError:  # of an earlier version, or it cannot be left out
            continue
    return kept


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flat(config) if not name.startswith(LOCATIONS)}


def _bases(folder: Path) -> dict[str, dict[str, Any]]:
    return {p.name: load_config(ExperimentConfig, p).model_dump(mode="json") for p in sorted(folder.glob("*.yaml"))}


def _codec(record: Record) -> str:
    """Kind and size, and what is not the usual choice of its kind."""
    codec = record.config["codec"]
    parts = [codec["kind"], f"{codec['nbits']}-bit" if "nbits" in codec else codec.get("dtype", "")]
    parts += [f"m={codec['m']}" if "m" in codec else "", codec.get("rotation", "").replace("identity", "")]
    parts += [codec.get("method", "").replace("kmeans", ""), "quantiles" if codec.get("levels") == "quantiles" else ""]
    return " ".join(part for part in parts if part)
