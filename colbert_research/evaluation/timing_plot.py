"""A picture of a comparison of latencies: what each strategy's time is spent on, and how it is spread over the queries."""

import textwrap
from typing import Any

import numpy as np

from colbert_research.evaluation.alignment import WIDTH
from colbert_research.evaluation.timing import REST, Comparison

COLUMNS = 3
"""Of the legend."""


def plot_latency(comparison: Comparison, *, title: str = "") -> Any:
    """A matplotlib figure: mean milliseconds by stage as stacked bars; the share of queries answered within a time.

    Of the width of a phone: one below the other."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    results = comparison.results
    stages = list(dict.fromkeys(name for result in results for name in result.stages))
    colours = dict(zip(stages, matplotlib.color_sequences["tab10"] * len(stages), strict=False)) | {REST: "lightgrey"}
    names, n = [result.name for result in results], len(results)
    legend_rows = -(-len(colours) // COLUMNS)
    heights = (0.6 + 0.3 * n + 0.2 * legend_rows, 2.4)
    figure = Figure(figsize=(WIDTH, 0.4 + sum(heights)), dpi=100, layout="constrained")
    bars, spread = figure.subplots(2, 1, height_ratios=heights)
    positions = np.arange(n)[::-1]
    left = np.zeros(n)
    for name, colour in colours.items():
        widths = np.array([result.stage_figures().get(name, {"mean": 0.0})["mean"] for result in results]).clip(min=0)
        bars.barh(positions, widths, left=left, color=colour, label=name)
        left += widths
    for result, place, end in zip(results, positions, left, strict=True):
        bars.annotate(f" {result.figures()['mean']:.2f}", (end, place), va="center", fontsize=8)
    bars.set_yticks(positions, ["\n".join(textwrap.wrap(name, 14)) for name in names])
    bars.set_xlim(0, 1.18 * left.max())
    bars.set_xlabel("mean ms per query, by stage", fontsize=8)
    bars.legend(
        fontsize=8, ncols=COLUMNS, loc="lower right", bbox_to_anchor=(1, 1), frameon=False, columnspacing=1, handlelength=1
    )
    for result, colour in zip(results, matplotlib.color_sequences["Dark2"] * n, strict=False):
        taken = np.sort(result.per_query)
        spread.step(taken, np.arange(1, len(taken) + 1) / len(taken), where="post", label=result.name, color=colour)
    spread.axhline(0.95, color="grey", linewidth=0.7, linestyle=":")
    if max(r.per_query.max() for r in results) > 10 * min(r.per_query.min() for r in results):
        spread.set_xscale("log")
        spread.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        spread.xaxis.set_major_formatter("{x:g}")
        spread.xaxis.set_minor_formatter(NullFormatter())
    spread.set_ylim(0, 1.02)
    spread.set_xlabel("ms per query", fontsize=8)
    spread.set_ylabel("share of queries answered", fontsize=8)
    spread.legend(fontsize=8, loc="lower right")
    for axes in (bars, spread):
        axes.tick_params(labelsize=8)
    queries, threads = len(results[0].per_query), results[0].threads
    figure.suptitle(title or f"{queries} queries, k={comparison.k}, threads={threads}", fontsize=9)
    return figure
