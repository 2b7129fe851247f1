"""Timing of searches: whose time is counted where, that turns are fair, what figures follow, and what is refused."""

import itertools
import json
import time
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

from colbert_research import threads
from colbert_research.codecs import ResidualConfig
from colbert_research.data import Collection
from colbert_research.evaluation.timing import REST, TURN, compare, measure, strategy_of
from colbert_research.evaluation.timing_plot import plot_latency
from colbert_research.index import build_index
from colbert_research.search import Exhaustive, Plaid, SearchStrategy, Trace
from colbert_research.settings import ConfigError
from tests.conftest import random_ragged

N_DOCUMENTS, N_QUERIES, DIM = 40, 23, 16


@pytest.fixture(scope="module")
def queries():
    return random_ragged(np.random.default_rng(1), [3] * N_QUERIES, DIM)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    vectors = random_ragged(np.random.default_rng(2), [8] * N_DOCUMENTS, DIM)
    collection = Collection.from_texts(["text"] * N_DOCUMENTS)
    return build_index(tmp_path_factory.mktemp("timing") / "index", collection, vectors, ResidualConfig(centroids=8))


class Scripted(SearchStrategy):
    """A strategy whose searches take, on the fake clock, what `cost` says; it notes its calls."""

    kind: Literal["scripted"] = "scripted"
    name: str
    log: ClassVar[list[tuple[str, int, int, int]]] = []
    clock: ClassVar[list[float]] = [0.0]
    cost: ClassVar[Any] = staticmethod(lambda name, query, call: (1.0, 0.0))

    def exhaustive_equivalent(self, index):
        return self

    def _search(self, index, queries, k, scope, trace):
        query = round(float(queries.vectors.values[0, 0]))
        call = sum(entry[:2] == (self.name, query) for entry in self.log)
        self.log.append((self.name, query, threads.count(), torch.get_num_threads()))
        inside, outside = self.cost(self.name, query, call)
        with trace.stage("work") as count:
            self.clock[0] += inside / 1e3
            count.documents += query
        if query % 2:
            with trace.stage("odd only"):
                pass
        self.clock[0] += outside / 1e3
        return [(np.array([query % N_DOCUMENTS]), np.array([1.0], np.float32))]


@pytest.fixture
def numbered(queries):
    """Queries that say which one they are."""
    return queries.map(lambda v: np.repeat(np.arange(N_QUERIES, dtype=np.float32), 3)[:, None] * np.ones_like(v))


@pytest.fixture
def scripted(monkeypatch):
    """Sets the cost of searches on a clock that only they advance."""
    Scripted.log.clear()
    Scripted.clock[0] = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: Scripted.clock[0])

    def set_cost(cost):
        monkeypatch.setattr(Scripted, "cost", staticmethod(cost))

    return set_cost


def test_figures_are_those_of_the_queries_times(index, numbered, scripted):
    scripted(lambda name, query, call: (query + 1.0, 0.25))
    found = measure(Scripted(name="a"), index, numbered, 5, threads=1, repeats=2, name="a")
    expected = np.arange(N_QUERIES) + 1.25
    assert found.milliseconds == pytest.approx(np.tile(expected, (2, 1)))
    assert found.stages["work"] == pytest.approx(found.milliseconds - 0.25)
    assert found.by_stage()[REST] == pytest.approx(0.25)
    figures = found.figures()
    assert figures["median"] == pytest.approx(float(np.median(expected)))
    assert figures["p95"] == pytest.approx(float(np.percentile(expected, 95)))
    assert figures["mean"] == pytest.approx(float(np.mean(expected)))
    table = found.table()
    assert list(table.index) == ["work", "odd only", REST, "whole search"]
    assert table["share of mean"].drop("whole search").sum() == pytest.approx(1, abs=2e-3)  # rounded to three decimals
    assert table["documents"].tolist() == pytest.approx([np.mean(np.arange(N_QUERIES)), 0, 0, np.mean(np.arange(N_QUERIES))])


def test_a_slow_moment_does_not_move_the_figures(index, numbered, scripted):
    # the warm-up is a query's first calls; of three repeats, the middle one is disturbed
    scripted(lambda name, query, call: (2.0 if call != (4 if query == 0 else 3 if query < 5 else 1) else 900.0, 0.0))
    found = measure(Scripted(name="a"), index, numbered, 5, threads=1, repeats=3)
    assert (found.milliseconds > 800).sum() == N_QUERIES
    assert found.figures() == pytest.approx({"median": 2, "p95": 2, "mean": 2})


def test_work_is_that_of_one_pass(index, numbered, scripted):
    once, thrice = (
        measure(Scripted(name=str(repeats)), index, numbered, 5, threads=1, repeats=repeats).work for repeats in (1, 3)
    )
    assert once == thrice
    assert once["work"]["documents"] == sum(range(N_QUERIES))


def test_strategies_take_turns(index, numbered, scripted):
    names = ["a", "b", "c"]
    compare({name: Scripted(name=name) for name in names}, index, numbered, 5, threads=1, repeats=3, warmup=4)
    measured = Scripted.log[len(names) * (1 + 4) :]
    assert len(measured) == 3 * len(names) * N_QUERIES
    for name in names:
        assert [q for n, q, *_ in measured if n == name] == 3 * list(range(N_QUERIES))
    turns = [(name, len(list(group))) for name, group in itertools.groupby((n, q // TURN) for n, q, *_ in measured)]
    assert max(length for _, length in turns) == TURN
    rounds = [[name for (name, _), _ in turns[i : i + 3]] for i in range(0, len(turns), 3)]
    assert all(sorted(round_) == names for round_ in rounds)
    assert [round_[0] for round_ in rounds] == list(itertools.islice(itertools.cycle(names), len(rounds)))


def test_threads_are_pinned_while_it_is_timed_and_put_back(index, numbered, scripted):
    before = threads.count(), torch.get_num_threads()
    measure(Scripted(name="a"), index, numbered, 5, threads=1, repeats=1)
    assert {entry[2:] for entry in Scripted.log[1:]} == {(1, 1)}
    assert (threads.count(), torch.get_num_threads()) == before


class Restless(Scripted):
    """Finds something else whenever it is asked again."""

    kind: Literal["restless"] = "restless"

    def _search(self, index, queries, k, scope, trace):
        super()._search(index, queries, k, scope, trace)
        return [(np.array([len(self.log) % N_DOCUMENTS]), np.array([1.0], np.float32))]


def test_a_strategy_that_changes_its_mind_is_an_error(index, numbered, scripted):
    with pytest.raises(RuntimeError, match=r"Restless .* another ranking for query 0 .* not deterministic"):
        measure(Restless(name="x"), index, numbered, 5, threads=1, repeats=2)
    assert threads.count() == threads.available()


def test_a_comparison_in_figures(index, numbered, scripted):
    scripted(lambda name, query, call: ({"a": 4.0, "b": 1.0}[name], 0.0))
    found = compare({"slow": Scripted(name="a"), "fast": Scripted(name="b")}, index, numbered, 5, threads=1)
    table = found.table()
    assert list(table.index) == ["slow", "fast"]
    assert table["times slow"].tolist() == [1, 0.25]
    assert table["overlap@5"].tolist() == [1, 1]
    saved = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert saved["k"] == 5
    assert saved["strategies"]["fast"]["median_ms"] == pytest.approx(1)
    assert saved["strategies"]["fast"]["per_query_ms"] == pytest.approx([1] * N_QUERIES)
    assert saved["strategies"]["fast"]["work"] == found["fast"].work


@pytest.fixture(scope="module")
def real(index, queries):
    strategies = {
        "exhaustive": Exhaustive(),
        "plaid": Plaid(ncells=2, ndocs=20, n_exact=10, centroid_score_threshold={"quantile": 0.5}),
    }
    return strategies, compare(strategies, index, queries, 10, threads=1, repeats=2)


def test_real_strategies_find_and_do_what_they_do_untimed(index, queries, real):
    for name, strategy in real[0].items():
        trace = Trace()
        expected = strategy.search(index, queries, 10, trace=trace)
        assert np.array_equal(real[1][name].ranking.positions, expected.positions)
        assert real[1][name].work == trace.work()


def test_stages_lie_within_the_search(real):
    for found in real[1].results:
        assert (found.milliseconds > 0).all()
        assert found.by_stage()[REST].min() >= 0, "stages are timed inside the search and do not overlap"


def test_the_picture_shows_the_tables_figures(index, numbered, scripted):
    scripted(lambda name, query, call: ({"a": 4.0, "b": 1.0}[name], 0.5))
    found = compare({"slow": Scripted(name="a"), "fast": Scripted(name="b")}, index, numbered, 5, threads=1)
    figure = plot_latency(found)
    bars, spread = figure.axes
    for container, name in zip(bars.containers, found["slow"].by_stage(), strict=True):
        means = [result.stage_figures()[name]["mean"] for result in found.results]
        assert [bar.get_width() for bar in container] == pytest.approx(means)
    assert [text.get_text().strip() for text in bars.texts] == ["4.50", "1.50"]
    for line, result in zip(spread.lines, found.results, strict=False):
        assert line.get_ydata()[-1] == 1
        assert line.get_xdata() == pytest.approx(np.sort(result.per_query))
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] <= 3.8, "what a phone shows"


def test_nothing_to_measure_and_bad_numbers(index, queries):
    with pytest.raises(ValueError, match="0 strategies and 23 queries"):
        compare({}, index, queries, 5, threads=1)
    with pytest.raises(ValueError, match="1 strategies and 0 queries"):
        measure(Exhaustive(), index, queries.slice(0, 0), 5, threads=1)
    with pytest.raises(ValueError, match="repeats and warmup must be at least 1; given 0 and 5"):
        measure(Exhaustive(), index, queries, 5, threads=1, repeats=0)
    with pytest.raises(ValueError, match="the number of threads must be a whole number from 1"):
        measure(Exhaustive(), index, queries, 5, threads=0)


def test_a_strategy_in_one_line():
    assert strategy_of("exhaustive") == Exhaustive()
    assert strategy_of(" plaid  ncells=2 ndocs=64 n_exact=16 ") == Plaid(ncells=2, ndocs=64, n_exact=16)
    threshold = strategy_of("plaid centroid_score_threshold.quantile=0.5")
    assert threshold == Plaid(centroid_score_threshold={"quantile": 0.5})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plaids", "did you mean 'plaid'"),
        ("", "expected a mapping with a `kind`"),
        ("plaid ncell=2", "did you mean 'ncells'"),
        ("plaid ncells=0", "greater than or equal to 1"),
        ("plaid ncells", "not of the form name=value"),
    ],
)
def test_a_line_that_is_no_strategy(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        strategy_of(text)
    assert repr(text) in str(caught.value)
