"""A picture of one figure over two settings: a cell for each pair of values, with its number."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

DARK = 0.179
"""The luminance below which white has more contrast than black: sqrt(1.05 * 0.05) - 0.05."""


def plot_heatmap(table: "pd.DataFrame", *, rows: str, columns: str, value: str) -> Any:
    """A matplotlib figure with the mean of `value` for each pair of values of the columns `rows` and `columns`.

    Numbers stand in ascending order, other values in the order of the table; a pair without any is left blank. Raises
    ValueError for a table without such columns or rows.
    """
    from matplotlib.figure import Figure

    if missing := [name for name in (rows, columns, value) if name not in table.columns]:
        raise ValueError(f"the table lacks the columns {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
    known = table.dropna(subset=[value])
    if not len(known):
        raise ValueError(f"no row has a value of {value}")
    down, across = _ordered(known[rows]), _ordered(known[columns])
    cells = known.groupby([rows, columns], sort=False)[value].mean()
    grid = np.array([[float(cells.get((r, c), np.nan)) for c in across] for r in down])
    figure = Figure(figsize=(1.6 + 0.75 * len(across), 1.3 + 0.42 * len(down)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(grid, cmap="Blues", aspect="auto")
    for (i, j), number in np.ndenumerate(grid):
        if np.isfinite(number):
            dark = _luminance(image.to_rgba(number)) < DARK
            axes.text(j, i, f"{number:.3f}", ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set_xticks(range(len(across)), [str(each) for each in across], fontsize=8)
    axes.set_yticks(range(len(down)), [str(each) for each in down], fontsize=8)
    axes.set_xlabel(columns, fontsize=9)
    axes.set_ylabel(rows, fontsize=9)
    axes.set_title(value, fontsize=9, loc="left")
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def _luminance(rgba: Any) -> float:
    """The relative luminance of a colour in sRGB (WCAG 2)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _ordered(values: Any) -> list[Any]:
    distinct = list(dict.fromkeys(values))
    numbers = all(isinstance(value, (int, float, np.number)) for value in distinct)
    return sorted(distinct) if numbers else distinct
