"""Two systems query by query, as a picture."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def plot_pairs(values: "pd.DataFrame", baseline: str, system: str) -> Any:
    """A matplotlib figure with a point per query: its value under the baseline across, under the system up; `values`: a row per
    query and a column per system. Points of several queries are larger. Raises ValueError for a system that has no column."""
    from matplotlib.figure import Figure

    if missing := [name for name in (baseline, system) if name not in values.columns]:
        raise ValueError(f"no values of {missing[0]!r}; there are {', '.join(map(str, values.columns))}")
    counts = values[[baseline, system]].round(4).value_counts()
    across, up = (counts.index.get_level_values(i).to_numpy(float) for i in range(2))
    better, worse = int(counts[up > across].sum()), int(counts[up < across].sum())
    figure = Figure(figsize=(3.8, 3.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.axline((0, 0), slope=1, color="0.8", linewidth=1, zorder=1)
    axes.scatter(across, up, s=14 * counts.to_numpy(float) ** 0.5, alpha=0.6, zorder=2)
    axes.set_aspect("equal")
    axes.set_xlabel(f"baseline: {baseline}", fontsize=7)
    axes.set_ylabel(system, fontsize=7)
    axes.set_title(
        f"better for {better} queries, worse for {worse}, same for {len(values) - better - worse}", fontsize=8, loc="left"
    )
    return figure
