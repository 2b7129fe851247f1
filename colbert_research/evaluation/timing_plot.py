"""A picture of a comparison of latencies: where each strategy's time goes, and how it is spread over the queries."""

from typing import Any

import numpy as np

from colbert_research.evaluation.timing import REST, Comparison


def plot_latency(comparison: Comparison, *, title: str = "") -> Any:
    """A matplotlib figure: mean milliseconds by stage as stacked bars; the share of queries answered within a time."""
    import matplotlib
    from matplotlib.figure import Figure

    results = comparison.results
    stages = list(dict.fromkeys(name for result in results for name in result.stages))
    colours = dict(zip(stages, matplotlib.color_sequences["tab10"] * len(stages), strict=False)) | {REST: "lightgrey"}
    figure = Figure(figsize=(12, 2.8 + 0.4 * len(results)), dpi=100, layout="constrained")
    bars, spread = figure.subplots(1, 2)
    positions = np.arange(len(results))[::-1]
    left = np.zeros(len(results))
    for name, colour in colours.items():
        widths = np.array([result.stage_figures().get(name, {"mean": 0.0})["mean"] for result in results]).clip(min=0)
        bars.barh(positions, widths, left=left, color=colour, label=name)
        left += widths
    for result, place, end in zip(results, positions, left, strict=True):
        bars.annotate(f" {result.figures()['mean']:.2f}", (end, place), va="center", fontsize=8)
    bars.set_yticks(positions, [result.name for result in results])
    bars.set_xlim(0, 1.12 * left.max())
    bars.set_xlabel("mean ms per query, by stage")
    bars.legend(fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    for result, colour in zip(results, matplotlib.color_sequences["Dark2"] * len(results), strict=False):
        taken = np.sort(result.per_query)
        spread.step(taken, np.arange(1, len(taken) + 1) / len(taken), where="post", label=result.name, color=colour)
    spread.axhline(0.95, color="grey", linewidth=0.7, linestyle=":")
    if max(r.per_query.max() for r in results) > 10 * min(r.per_query.min() for r in results):
        spread.set_xscale("log")
        spread.xaxis.set_major_formatter("{x:g}")
    spread.set_ylim(0, 1.02)
    spread.set_xlabel("ms per query")
    spread.set_ylabel("share of queries answered")
    spread.legend(fontsize=8, loc="lower right")
    queries, threads = len(results[0].per_query), results[0].threads
    figure.suptitle(title or f"{queries} queries, k={comparison.k}, threads={threads}", fontsize=10)
    return figure
