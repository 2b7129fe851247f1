"""The front of runs that no other one beats, against its definition, and the picture's figures."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_research.evaluation.tradeoff import pareto_front, plot_tradeoff

NUMBERS = st.one_of(st.integers(0, 4).map(float), st.just(float("nan")))


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=9))
def test_the_front_by_its_definition(runs):
    def beats(one, other) -> bool:
        if any(np.isnan(one)):
            return False
        return one[0] >= other[0] and one[1] <= other[1] and one[2] <= other[2] and one != other

    expected = [not any(np.isnan(run)) and not any(beats(other, run) for other in runs) for run in runs]
    array = np.array(runs, np.float64).reshape(-1, 3)
    assert pareto_front(array[:, 0], array[:, 1], array[:, 2]).tolist() == expected


def table() -> pd.DataFrame:
    rows = [("a", "1.0", 0.3, 10), ("b", "4.0", 0.4, 20), ("c", "9.0", 0.35, 40), ("untimed", "", 0.5, 1)]
    return pd.DataFrame(rows, columns=["label", "ms/query", "nDCG@10", "bytes/token"]).replace("", np.nan)


def test_the_picture_shows_the_tables_figures():
    (axes,) = plot_tradeoff(table()).axes
    (markers,) = axes.collections
    assert markers.get_offsets().tolist() == [[1, 0.3], [4, 0.4], [9, 0.35]]
    assert np.allclose(markers.get_sizes(), [225, 450, 900])
    assert [text.get_text() for text in axes.texts] == ["a", "b", "c"]
    assert axes.lines[0].get_xdata().tolist() == [1, 4]
    assert axes.get_xscale() == "log"


def test_tables_that_cannot_be_shown():
    with pytest.raises(ValueError, match="lacks the columns ms/query; it has label, nDCG@10, bytes/token"):
        plot_tradeoff(table().drop(columns="ms/query"))
    with pytest.raises(ValueError, match=r"no row has ms/query, .*latency\.repeats=3"):
        plot_tradeoff(table().iloc[3:])
