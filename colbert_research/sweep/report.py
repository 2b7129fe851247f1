"""A sweep as files to read and to cite: a page, its tables as Markdown, CSV and LaTeX, its figures as pictures."""

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colbert_research.artifacts import write_text
from colbert_research.evaluation.comparison import Comparison
from colbert_research.evaluation.difference import FIGURES
from colbert_research.evaluation.heatmap import plot_heatmap
from colbert_research.evaluation.tradeoff import plot_tradeoff
from colbert_research.experiment.summary import markdown

if TYPE_CHECKING:
    import pandas as pd

PAGE = "index.html"
LOSERS = 5
"""Queries shown of each run."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 90rem; padding: 0 1rem; color: #222 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 12px; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .45rem; border-bottom: 1px solid #ddd; text-align: left; overflow-wrap: break-word; max-width: 14rem }
th { background: #f4f4f4; vertical-align: bottom } .number { text-align: right; white-space: nowrap }
th:first-child, td:first-child { position: sticky; left: 0; background: #f4f4f4; min-width: 6rem }
td:nth-child(2) { white-space: nowrap }
img { max-width: 100% } code { overflow-wrap: anywhere } ul { padding-left: 1.2rem }
"""


@dataclass(frozen=True, eq=False)
class Reported:
    """What a report is of: the table of runs, a sentence, the settings that vary and the axes of the grid, the measures, and
    the command that looks into a query of a run, by the ids of both."""

    name: str
    words: str
    runs: "pd.DataFrame"
    varied: Sequence[str]
    axes: Sequence[str]
    measures: Sequence[str]
    command: Callable[[str, str], str]


def write_report(sweep: Reported, comparisons: Mapping[str, Comparison], folder: Path) -> Path:
    """Write the report of a sweep, with comparisons by collection, into a folder; returns its page."""
    frame = sweep.runs.reset_index()
    tables: dict[str, pd.DataFrame] = {"runs": frame.round(4)}
    for collection, comparison in comparisons.items():
        compared = comparison.table().reset_index()
        tables[f"{collection} compared"] = compared[["system", *compared.columns.drop("system")]]
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"<h1>{html.escape(sweep.name)}</h1>", f"<p>{html.escape(sweep.words)}</p>"]
    for name, table in tables.items():
        file = _file(name)
        table.to_csv(folder / f"{file}.csv", index=False)
        write_text(folder / f"{file}.md", markdown(table.astype(object).where(table.notna(), "").astype(str)))
        write_text(folder / f"{file}.tex", _latex(table))
        parts.append(f"<h2>{html.escape(name)}</h2>")
        parts.append(f'<div class="wide">{_html(_shown(table))}</div>')
        if name != "runs":
            how, *said = comparisons[name.removesuffix(" compared")].words()
            lines = "".join(f"<li>{html.escape(each)}</li>" for each in said)
            parts.append(f"<p>{html.escape(how)}</p><details><summary>In words</summary><ul>{lines}</ul></details>")
        if name != "runs":
            parts += _losers(sweep, comparisons[name.removesuffix(" compared")])
        parts.append("<p>" + " ".join(f'<a href="{file}.{kind}">{file}.{kind}</a>' for kind in ("csv", "md", "tex")) + "</p>")
    for name, figure in _figures(sweep, frame):
        figure.savefig(folder / f"{name}.png")
        parts.append(f'<h2>{html.escape(name.replace("_", " "))}</h2><img src="{name}.png" alt="{html.escape(name)}">')
    body = "\n".join(parts)
    page = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    write_text(folder / PAGE, f"{page}<title>{html.escape(sweep.name)}</title><style>{STYLE}</style>\n{body}\n</html>\n")
    return folder / PAGE


def _losers(sweep: Reported, comparison: Comparison) -> Iterator[str]:
    """For each run the queries that lose most against the baseline, and the commands that show why."""
    measure = next(iter(comparison.values))
    systems = [name for name in comparison.values[measure] if name != comparison.baseline]
    found = {system: comparison.biggest_losers(system, LOSERS, measure=measure) for system in systems}
    if not any(len(losers) for losers in found.values()):
        return
    yield f"<h3>Queries that lose most in {html.escape(measure)}</h3>"
    yield "<p>Each command executes a notebook that shows what the search did for the query, and where it lost documents.</p>"
    for system, losers in found.items():
        if len(losers):
            run = str(comparison.facts[system]["record"])
            yield f"<details><summary>{html.escape(system)}</summary><ul>"
            for query, value, baseline in losers[["query_id", "value", "baseline"]].itertuples(index=False):
                command = html.escape(sweep.command(run, str(query)))
                yield f"<li>{html.escape(str(query))}: {value:.4f} against {baseline:.4f}<br><code>{command}</code></li>"
            yield "</ul></details>"


def _figures(sweep: Reported, frame: "pd.DataFrame") -> Iterator[tuple[str, Any]]:
    """A heat map of each measure over the two longest axes of the grid, per collection; quality against cost where known."""
    done = frame[frame["state"] == "done"]
    if not len(done):
        return
    axes = [name for name in sweep.axes if name in done.columns and name != "dataset.path" and done[name].nunique() > 1]
    axes = sorted(axes, key=lambda name: -done[name].nunique())[:2]
    measures = [name for name in sweep.measures if name in done.columns]
    for collection, rows in done.groupby("collection", sort=False):
        for measure in measures if len(axes) == 2 else ():
            yield _file(f"{collection} {measure}"), plot_heatmap(rows, rows=axes[1], columns=axes[0], value=measure)
        if "ms/query" in rows.columns and rows["ms/query"].notna().any():
            varied = [name for name in sweep.varied if name not in ("dataset.path",)]
            labelled = rows.assign(label=[" ".join(str(row[name]) for name in varied) for _, row in rows.iterrows()])
            yield _file(f"{collection} tradeoff"), plot_tradeoff(labelled, quality=measures[0])


def _shown(table: "pd.DataFrame") -> "pd.DataFrame":
    """What the page shows of a table: of a comparison the figures, for settings and costs stand in that of the runs."""
    return table[["system", "measure", *FIGURES, "record"]] if "system" in table.columns else table


def _html(table: "pd.DataFrame") -> str:
    """A table whose numbers stand to the right and whose texts may be broken; a hole where nothing is known."""
    import pandas as pd

    numbers = [pd.api.types.is_numeric_dtype(table[name]) for name in table.columns]

    def cell(tag: str, value: Any, number: bool) -> str:
        said = "" if pd.isna(value) else value
        if isinstance(said, float):
            said = f"{said:.1f}" if abs(said) >= 10 else f"{said:.4f}" if said == 0 or abs(said) >= 0.001 else f"{said:.2g}"
        return f"<{tag}{' class=number' if number else ''}>{html.escape(str(said))}</{tag}>"

    head = "".join(cell("th", name, number) for name, number in zip(table.columns, numbers, strict=True))
    rows = (zip(row, numbers, strict=True) for row in table.astype(object).itertuples(index=False, name=None))
    body = "".join(f"<tr>{''.join(cell('td', value, number) for value, number in row)}</tr>\n" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _latex(table: "pd.DataFrame") -> str:
    text: str = table.to_latex(index=False, na_rep="", escape=True, float_format="%.4g")
    return text


def _file(name: str) -> str:
    """A name as that of a file."""
    return "".join(c if c.isalnum() or c in "-@." else "_" for c in name)
