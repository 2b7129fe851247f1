"""The heat map and the pairs of two systems: what they show is what the table holds."""

import numpy as np
import pandas as pd
import pytest

from colbert_research.evaluation.heatmap import plot_heatmap
from colbert_research.evaluation.pairs import plot_pairs


def test_a_cell_is_the_mean_of_its_pair():
    table = pd.DataFrame(
        [(4, "b", 0.5), (1, "a", 0.1), (1, "a", 0.3), (4, "a", np.nan)], columns=["codec.nbits", "search.kind", "nDCG@10"]
    )
    figure = plot_heatmap(table, rows="codec.nbits", columns="search.kind", value="nDCG@10")
    grid = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    assert np.allclose(grid, [[np.nan, 0.2], [0.5, np.nan]], equal_nan=True)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["1", "4"]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["b", "a"]
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["0.200", "0.500"]


def test_a_number_has_the_colour_that_is_farther_from_its_cell():
    table = pd.DataFrame({"a": range(11), "b": 0, "c": np.linspace(0, 1, 11)})
    axes = plot_heatmap(table, rows="a", columns="b", value="c").axes[0]
    for text, value in zip(axes.texts, np.linspace(0, 1, 11), strict=True):
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in axes.images[0].to_rgba(value)[:3])
        light = 0.2126 * r + 0.7152 * g + 0.0722 * b
        contrast = {"white": 1.05 / (light + 0.05), "black": (light + 0.05) / 0.05}
        assert contrast[text.get_color()] == max(contrast.values()), value


def test_a_table_that_cannot_be_shown():
    table = pd.DataFrame({"a": [1], "b": [2], "c": [np.nan]})
    with pytest.raises(ValueError, match="lacks the columns d; it has a, b, c"):
        plot_heatmap(table, rows="a", columns="d", value="c")
    with pytest.raises(ValueError, match="no row has a value of c"):
        plot_heatmap(table, rows="a", columns="b", value="c")


def test_points_of_queries():
    values = pd.DataFrame({"base": [0.0, 0.5, 0.5, 1.0], "other": [1.0, 0.5, 0.5, 0.2]}, index=["a", "b", "c", "d"])
    (axes,) = plot_pairs(values, "base", "other").axes
    (markers,) = axes.collections
    offsets = dict(zip(map(tuple, markers.get_offsets().tolist()), markers.get_sizes(), strict=True))
    assert offsets.keys() == {(0.0, 1.0), (0.5, 0.5), (1.0, 0.2)}
    assert offsets[0.5, 0.5] == pytest.approx(14 * 2**0.5)
    assert axes.get_title(loc="left") == "better for 1 queries, worse for 1, same for 2"
    with pytest.raises(ValueError, match="no values of 'third'; there are base, other"):
        plot_pairs(values, "base", "third")
