"""How long a search takes: one query after another on a pinned number of threads, several strategies side by side.

Strategies take turns of a few queries: long enough that a strategy finds its own data in the processor's caches again, short
enough that whatever else the machine does slows all of them alike. Every query is searched several times; its time is the
median of them, and the figures of a strategy are taken over these times of its queries.
"""

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.config import component_of_line
from colbert_research.evaluation.measures import overlap
from colbert_research.index import Index
from colbert_research.locks import locked
from colbert_research.ragged import Ragged
from colbert_research.ranking import Ranking
from colbert_research.search import STRATEGIES, Queries, SearchStrategy, Trace
from colbert_research.search.trace import in_order
from colbert_research.threads import pinned_threads

if TYPE_CHECKING:
    import pandas as pd

TURN = 10  # queries of one strategy before the next has its turn
REST = "outside stages"


@dataclass(frozen=True, eq=False)
class Latency:
    """What one strategy took.

    `milliseconds`: `(repeats, n_queries)` float64, each whole search. `stages`: stage -> the same, by the strategy's own trace;
    0 where a query skipped the stage. `work`: stage -> counts of one pass over all queries. `notes`: what the strategy had to
    say. `ranking`: what every pass found.
    """

    name: str
    strategy: SearchStrategy
    threads: int
    milliseconds: NDArray[np.float64]
    stages: Mapping[str, NDArray[np.float64]]
    work: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...]
    ranking: Ranking

    @property
    def per_query(self) -> NDArray[np.float64]:
        """`(n_queries,)`: milliseconds of each query, the median of its repeats."""
        return np.median(self.milliseconds, axis=0)

    def figures(self) -> dict[str, float]:
        """`median`, `p95` and `mean` over the queries, in milliseconds per query."""
        return _figures(self.milliseconds)

    def by_stage(self) -> dict[str, NDArray[np.float64]]:
        """`stages`, and last what the whole search took outside all of them; for each query they add up to its search."""
        return {**self.stages, REST: self.milliseconds - sum(self.stages.values(), np.zeros_like(self.milliseconds))}

    def stage_figures(self) -> dict[str, dict[str, float]]:
        """`figures` of each entry of `by_stage`."""
        return {name: _figures(taken) for name, taken in self.by_stage().items()}

    def table(self) -> "pd.DataFrame":
        """One row per stage, then the whole search: milliseconds per query (median, p95, mean), share, counts per query."""
        import pandas as pd

        whole, queries = self.figures()["mean"], self.milliseconds.shape[1]
        units = next(iter(self.work.values()), {})
        sums = {unit: sum(counts[unit] for counts in self.work.values()) for unit in units}
        work = {**self.work, REST: dict.fromkeys(units, 0), "whole search": sums}
        rows: dict[str, dict[str, float]] = {}
        for name, figures in {**self.stage_figures(), "whole search": self.figures()}.items():
            counts = {unit: total / queries for unit, total in work[name].items()}
            rows[name] = {**figures, "share of mean": figures["mean"] / whole, **counts}
        return pd.DataFrame.from_dict(rows, orient="index").round(3).rename_axis(f"{self.name}, ms per query")

    def to_json(self) -> dict[str, Any]:
        """Settings, figures and the time of each query, for a file."""
        return {
            "strategy": self.strategy.model_dump(mode="json"),
            "threads": self.threads,
            "repeats": len(self.milliseconds),
            **{f"{name}_ms": value for name, value in self.figures().items()},
            "stages": self.stage_figures(),
            "work": {name: dict(counts) for name, counts in self.work.items()},
            "per_query_ms": self.per_query.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Strategies that were measured in turns, in one run over the same index and queries."""

    results: tuple[Latency, ...]
    k: int

    def __getitem__(self, name: str) -> Latency:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Latency]:
        return {result.name: result for result in self.results}

    def table(self) -> "pd.DataFrame":
        """One row per strategy: milliseconds per query (median, p95, mean), the median as a multiple of the first strategy's,
        and the mean share of the first strategy's best documents that it found."""
        import pandas as pd

        first, depth = self.results[0], min(10, self.k)
        rows = {
            result.name: {
                **result.figures(),
                f"times {first.name}": result.figures()["median"] / first.figures()["median"],
                f"overlap@{depth}": overlap(result.ranking, first.ranking, depth),
            }
            for result in self.results
        }
        return pd.DataFrame.from_dict(rows, orient="index").round(3).rename_axis(f"threads={first.threads}, ms per query")

    def to_json(self) -> dict[str, Any]:
        """`k` and every strategy by name, for a file."""
        return {"k": self.k, "strategies": {result.name: result.to_json() for result in self.results}}


def measure(
    strategy: SearchStrategy,
    index: Index,
    queries: Ragged | Queries,
    k: int,
    *,
    threads: int,
    repeats: int = 3,
    name: str = "",
) -> Latency:
    """The latency of one strategy; see `compare`."""
    return compare({name or type(strategy).__name__: strategy}, index, queries, k, threads=threads, repeats=repeats).results[0]


def compare(
    strategies: Mapping[str, SearchStrategy],
    index: Index,
    queries: Ragged | Queries,
    k: int,
    *,
    threads: int,
    repeats: int = 3,
    warmup: int = 5,
) -> Comparison:
    """Search for every query alone, `repeats` times with each strategy, in turns.

    `queries`: token vectors `(n_tokens, dim)`, so encoding them is not part of the times; as `Queries` where a strategy
    needs identifiers or texts. `warmup`: queries searched before anything is timed, which also loads libraries, builds what
    a strategy keeps beside the index and compiles kernels. No other process of this user times on this machine meanwhile
    (see `machine_lock`). Raises ValueError for nothing to measure or numbers below 1, RuntimeError when a repeat finds
    another ranking than the first.
    """
    if not strategies or not len(queries):
        raise ValueError(f"nothing to measure: {len(strategies)} strategies and {len(queries)} queries")
    if repeats < 1 or warmup < 1:
        raise ValueError(f"repeats and warmup must be at least 1; given {repeats} and {warmup}")
    if isinstance(queries, Ragged):
        queries = Queries(queries, tuple(str(i) for i in range(len(queries))))
    runs = {name: _Run(name, strategy, index, queries, k) for name, strategy in strategies.items()}
    for run in runs.values():
        run.warm_up(1)  # before pinning, which reaches only what is loaded
    with locked(machine_lock(), "time searches"), pinned_threads(threads):
        for run in runs.values():
            run.warm_up(warmup)
        order = list(runs.values())
        for _ in range(repeats):
            for start in range(0, len(queries), TURN):
                for run in order:
                    run.turn(range(start, min(start + TURN, len(queries))))
                order = [*order[1:], order[0]]  # so that none is always the one before another
    return Comparison(tuple(run.result(threads) for run in runs.values()), k)


def machine_lock() -> Path:
    """The file whose lock keeps two processes of one user from timing side by side on this machine."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    shared = Path("/tmp")  # not $TMPDIR, which two processes may have different
    folder = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return folder / f"colbert_research-timing-{user}.lock"


def strategy_of(text: str) -> SearchStrategy:
    """The strategy that a line such as `plaid ncells=4 ndocs=1024 n_exact=256` describes: its kind, then its settings.

    Raises ConfigError that names the nearest valid kind or setting.
    """
    found: SearchStrategy = component_of_line("search", STRATEGIES, text)
    return found


class _Run:
    """One strategy being measured: fills in times, query by query, repeat after repeat."""

    def __init__(self, name: str, strategy: SearchStrategy, index: Index, queries: Queries, k: int) -> None:
        self.name, self.strategy, self.index, self.k = name, strategy, index, k
        self.queries, self.ids = list(queries), queries.ids
        self.found: list[Ranking] = []
        self.traces: list[list[Trace]] = [[] for _ in self.queries]
        self.seconds: list[list[float]] = [[] for _ in self.queries]

    def warm_up(self, n: int) -> None:
        for query in self.queries[:n]:
            self._search(query, Trace())

    def _search(self, query: Queries, trace: Trace) -> Ranking:
        texts = query.texts
        return self.strategy.search(self.index, query.vectors, self.k, query_ids=query.ids, query_texts=texts, trace=trace)

    def turn(self, positions: range) -> None:
        for i in positions:
            trace, start = Trace(), time.perf_counter()
            ranking = self._search(self.queries[i], trace)
            self.seconds[i].append(time.perf_counter() - start)
            if len(self.found) == i:
                self.found.append(ranking)
            elif not _same(ranking, self.found[i]):
                raise RuntimeError(
                    f"{self.name} ({self.strategy!r}) found another ranking for query {i} than before; it is not "
                    "deterministic, so its times cannot be compared"
                )
            self.traces[i].append(trace)

    def result(self, threads: int) -> Latency:
        first = [traces[0] for traces in self.traces]
        names = in_order(trace.stages for trace in first)
        taken = [[trace.seconds() for trace in traces] for traces in self.traces]
        stages = {name: 1e3 * np.array([[s.get(name, 0.0) for s in query] for query in taken]).T for name in names}
        work: dict[str, dict[str, int]] = {name: {} for name in names}
        for trace in first:
            for name, counts in trace.work().items():
                work[name] = {unit: work[name].get(unit, 0) + counts[unit] for unit in counts}
        results = [(ranking.positions, ranking.scores) for ranking in self.found]
        ranking = Ranking.of(results, query_ids=self.ids, document_ids=self.index.ids_by_position)
        notes = tuple(dict.fromkeys(note for trace in first for note in trace.notes))
        return Latency(self.name, self.strategy, threads, 1e3 * np.array(self.seconds).T, stages, work, notes, ranking)


def _figures(milliseconds: NDArray[np.float64]) -> dict[str, float]:
    each = np.median(milliseconds, axis=0)
    return {"median": float(np.median(each)), "p95": float(np.quantile(each, 0.95)), "mean": float(each.mean())}


def _same(one: Ranking, other: Ranking) -> bool:
    return np.array_equal(one.positions, other.positions) and np.array_equal(one.scores, other.scores)
