"""What quality costs: which runs no other one beats in all respects, and a picture of all of them."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

LARGEST, LEAST = 900.0, 30.0  # areas of markers, in square points


def pareto_front(quality: NDArray[np.float64], *costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of runs `(n,)`, those that no other one beats: none is at least as good, costs at most as much, and differs in one.

    Runs in which a figure is not a number are in no front.
    """
    figures = np.stack([np.asarray(quality, np.float64), *(-np.asarray(cost, np.float64) for cost in costs)], axis=1)
    known: Any = np.isfinite(figures).all(axis=1)
    at_least = (figures[None, :, :] >= figures[:, None, :]).all(axis=2)
    better = (figures[None, :, :] > figures[:, None, :]).any(axis=2)
    beaten: Any = (at_least & better & known[None]).any(axis=1)
    front: NDArray[np.bool_] = known & ~beaten
    return front


def plot_tradeoff(
    table: "pd.DataFrame", *, cost: str = "ms/query", quality: str = "nDCG@10", size: str = "bytes/token", label: str = "label"
) -> Any:
    """A matplotlib figure with a marker per row: quality against cost (on a logarithmic axis), its area as the bytes are.

    Runs that no other one beats in quality and cost are joined. Raises ValueError for a table without such columns or rows.
    """
    from matplotlib.figure import Figure

    if missing := [name for name in (cost, quality, size, label) if name not in table.columns]:
        raise ValueError(f"the table lacks the columns {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
    rows = table.assign(**{name: table[name].astype(float) for name in (cost, quality, size)}).dropna(
        subset=[cost, quality, size]
    )
    if not len(rows):
        raise ValueError(f"no row has {cost}, {quality} and {size}; time the searches with latency.repeats=3")
    rows = rows.sort_values(cost)
    figure = Figure(figsize=(6.4, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    areas = np.maximum(LEAST, LARGEST * rows[size].to_numpy() / rows[size].max())
    front = pareto_front(rows[quality].to_numpy(), rows[cost].to_numpy())
    axes.plot(rows[cost][front], rows[quality][front], color="0.75", linewidth=1, zorder=1)
    axes.scatter(rows[cost], rows[quality], s=areas, c=np.where(front, "tab:blue", "white"), edgecolors="0.35", zorder=2)
    height = rows[quality].rank(method="first").astype(int)
    middle = np.sqrt(rows[cost].min() * rows[cost].max())
    for x, y, text, i in zip(rows[cost], rows[quality], rows[label], height, strict=True):
        beside, side = (7, "left") if x <= middle else (-7, "right")  # into the picture
        above = 6 if i % 2 else -12  # neighbours in quality, one above and one below
        axes.annotate(str(text), (x, y), textcoords="offset points", xytext=(beside, above), fontsize=7, ha=side)
    axes.set_xscale("log")
    axes.margins(x=0.24, y=0.14)
    axes.set_xlabel(cost)
    axes.set_ylabel(quality)
    axes.set_title(f"area of a marker: {size}; filled: beaten by none in both", fontsize=9, loc="left")
    return figure
