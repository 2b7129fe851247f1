"""Figures of ablations, small enough for a phone, and told apart without colours: by markers, dashes and shades of grey."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colbert_research.ledger.views import Series, View

WIDTH, HEIGHT, DPI = 4.2, 2.5, 130
MARKERS, DASHES = "os^Dv<>p*X", ("-", "--", "-.", ":")
FEW, LETTERS = 8, 52
"""Values of x that all get a tick; letters in a line of a legend."""


def plot_lines(
    view: "View",
    x: str,
    y: str,
    *,
    by: Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
    log: bool = False,
    join: bool = True,
    lines: Mapping[str, float] | None = None,
    labels: tuple[str, str] | None = None,
) -> Any:
    """A matplotlib figure with a panel per collection: `y` over `x`, figures or settings, a line for each value of `by`.

    `log`: x on a logarithmic axis. `join`: whether the points of one line are joined. `lines`: horizontal lines with a name
    each, such as a paper's number. `labels`: of the axes, where the names of x and y will not do. Without records the panel
    says so.
    """
    return _drawn(view.series(x, y, by, where), by, log=log, lines=lines, labels=labels or (x, y), join=join)


def plot_curves(
    view: "View",
    figures: Mapping[str, float],
    *,
    by: Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
    log: bool = False,
    lines: Mapping[str, float] | None = None,
    labels: tuple[str, str],
) -> Any:
    """`plot_lines` along figures of one kind, such as recall within depths: `figures` says at which x each of them stands."""
    return _drawn(view.curves(figures, by, where), by, log=log, lines=lines, labels=labels)


def _drawn(
    series: "Series",
    by: Sequence[str],
    *,
    log: bool,
    lines: Mapping[str, float] | None,
    labels: tuple[str, str],
    join: bool = True,
) -> Any:
    from matplotlib.ticker import StrMethodFormatter

    figure, panels = _panels(list(series))
    names = list(dict.fromkeys(label for each in series.values() for label in each))
    shades = _shades(len(names))
    for collection, axes in panels.items():
        for label, points in series.get(collection, {}).items():
            i = names.index(label)
            style = {
                "color": shades[i],
                "marker": MARKERS[i % len(MARKERS)],
                "linestyle": DASHES[i % len(DASHES)] if join else "",
            }
            axes.plot(*zip(*points, strict=True), label=label, markersize=4.5, linewidth=1.2, **style)
        for i, (name, height) in enumerate((lines or {}).items()):
            axes.axhline(height, color="0.45", linewidth=0.9, linestyle=DASHES[(i + 1) % len(DASHES)])
            axes.annotate(name, (1, height), xycoords=("axes fraction", "data"), fontsize=7, ha="right", va="bottom")
        if log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            ticks = sorted({at for points in series.get(collection, {}).values() for at, _ in points})
            if len(ticks) <= FEW:
                axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
                axes.minorticks_off()
        axes.set_ylabel(labels[1], fontsize=8)
    list(panels.values())[-1].set_xlabel(labels[0], fontsize=8)
    if names != [""]:
        _legend(figure, list(panels.values()), ", ".join(name.removesuffix(".kind") for name in by))
    return figure


def plot_bars(
    view: "View",
    figure: str,
    *,
    by: Sequence[str],
    where: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
) -> Any:
    """A matplotlib figure with a panel per collection: a bar with its number for each combination of the settings `by`.

    `names`: what a combination, its values joined by blanks, is called; they then stand in this order, others after them.
    """
    table = view.table(by, [figure], where)
    drawn, panels = _panels(view.evidence.collections, rows=max(1, len(table)))
    for collection, axes in panels.items():
        if (figure, collection) not in table.columns:
            continue
        column = table[figure, collection].dropna()
        keys = [
            " ".join(str(part) for part in (key if isinstance(key, tuple) else (key,)) if part != "") for key in column.index
        ]
        called, order = dict(names or {}), list(names or {})
        rows = sorted(zip(keys, column, strict=True), key=lambda row: order.index(row[0]) if row[0] in order else len(order))
        bars = axes.barh([called.get(key, key) for key, _ in rows], [value for _, value in rows], color="0.75", edgecolor="0.2")
        axes.bar_label(bars, fmt="%.4g", fontsize=8, padding=2)
        axes.invert_yaxis()
        axes.margins(x=0.2)
        axes.set_xlabel(figure, fontsize=8)
    return drawn


def plot_grid(view: "View", *, rows: str, columns: str, value: str, where: Mapping[str, Any] | None = None) -> Any:
    """`plot_heatmap` of the means over collections; without records a panel that says so."""
    from colbert_research.evaluation.heatmap import plot_heatmap

    table = view.frame(where)
    drawn = {rows, columns, value} <= {*table.columns} and table[value].notna().any()
    if not drawn:
        return _panels([])[0]
    figure = plot_heatmap(table, rows=rows, columns=columns, value=value)
    figure.axes[0].set_title(f"{value}, mean of {', '.join(sorted(set(table['collection'])))}", fontsize=9, loc="left")
    return figure


def _panels(collections: Sequence[str], rows: int = 0) -> tuple[Any, dict[str, Any]]:
    """A figure with panels one above the other, so that it can be narrow; one that says so where there are no records."""
    from matplotlib.figure import Figure

    shown = list(collections) or ["no records"]
    height = max(1.2, 0.3 * rows + 0.7) if rows else HEIGHT
    figure = Figure(figsize=(WIDTH, height * len(shown)), dpi=DPI, layout="constrained")
    panels = figure.subplots(len(shown), squeeze=False, sharex=not rows)[:, 0]
    for axes, name in zip(panels, shown, strict=True):
        axes.set_title(name, fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
        axes.grid(axis="x" if rows else "both", color="0.92")
        axes.set_axisbelow(True)
    return figure, dict(zip(shown, panels, strict=True))


def _shades(n: int) -> list[Any]:
    """So many colours from dark to light, which a grey printer keeps apart."""
    from matplotlib import colormaps

    return [colormaps["cividis"](0.75 * i / max(1, n - 1)) for i in range(n)]


def _legend(figure: Any, panels: Sequence[Any], title: str) -> None:
    """Below the panels, in as many columns as its labels leave room for."""
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if found:
        columns = max(1, min(len(found), LETTERS // (6 + max(map(len, found)))))
        shown = {"ncols": columns, "fontsize": 8, "frameon": False, "title": title, "title_fontsize": 8}
        figure.legend([*found.values()], [*found], loc="outside lower center", **shown)
