"""What shards add to a search, and what workers add to a job: in turns, on one machine.

    python experiments/benchmarks/fan_out.py "dataset.path=data/nfcorpus" [--executor processes] [--executor ray] [--shards 4]
    python experiments/benchmarks/fan_out.py --job 600 --executor processes --executor ray

Of a search: each query of a collection by the retriever's strategy in this process, then by the shards of each executor, again
and again; printed, as JSON lines, are milliseconds, medians and 95th percentiles, and what the median of a fan-out adds. Beside
them the time of a call that computes nothing, asked of all shards. `--job`: calls of half a second that wait, for so many
seconds by all workers of each executor: what starting it and each call add.
"""

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np

from colbert_research.config import component_of_line, load_config
from colbert_research.evaluation.timing import strategy_of
from colbert_research.executors import EXECUTORS
from colbert_research.experiment import Experiment, ExperimentConfig
from colbert_research.search import Retriever
from colbert_research.serving.fleet_asking import Hedge, ask
from colbert_research.serving.shards import Shards

CALL = 0.5  # seconds


@click.command()
@click.argument("overrides", default="")
@click.option("--config", default="configs/plaid.yaml", show_default=True)
@click.option("--strategy", "strategies", multiple=True, default=("plaid ncells=4 ndocs=1024 n_exact=256", "exhaustive"))
@click.option("--executor", "executors", multiple=True, default=("inline", "processes workers=1", "ray workers=1"))
@click.option("--shards", default=4, show_default=True)
@click.option("--queries", "n_queries", default=100, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--k", default=10, show_default=True)
@click.option("--job", type=float, help="Seconds of work, in place of searches.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File for the JSON lines.")
def main(
    overrides: str,
    config: str,
    strategies: Sequence[str],
    executors: Sequence[str],
    shards: int,
    n_queries: int,
    repeats: int,
    k: int,
    job: float | None,
    output: Path | None,
) -> None:
    """Measure searches, or a job."""
    if job is not None:
        lines = [work(executor, job) for executor in executors]
    else:
        experiment = Experiment(load_config(ExperimentConfig, config, overrides))
        lines = [searches(experiment, line, executors, shards, n_queries, repeats, k) for line in strategies]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if output:
        output.write_text(text, encoding="utf-8")
    click.echo(text)


def searches(
    experiment: Experiment, line: str, executors: Sequence[str], shards: int, n_queries: int, repeats: int, k: int
) -> dict[str, Any]:
    """Milliseconds of a query, and of a call without work, one way after another."""
    index, strategy = experiment.index, strategy_of(line)
    vectors, texts = experiment.query_vectors, experiment.collection.query_texts
    asked = [(vectors.slice(i, i + 1), texts[i : i + 1]) for i in range(min(n_queries, len(vectors)))]
    taken: dict[str, list[float]] = {name: [] for name in ("one process", *executors, *(f"{e}, no work" for e in executors))}
    with ExitStack() as stack:
        retriever = Retriever(index, index.pipeline, strategy)  # type: ignore[arg-type]
        fleets = {e: stack.enter_context(Shards.start(retriever, e, shards=shards)) for e in executors}
        for repeat in range(repeats + 1):  # the first opens what is needed
            for query, text in asked:
                ways: dict[str, Any] = {"one process": lambda q=query, t=text: strategy.search(index, q, k, query_texts=t)}
                for name, fleet in fleets.items():
                    ways[name] = lambda f=fleet, q=query, t=text: f.search(q, k, query_texts=t).ranking
                    nothing = dict.fromkeys(range(shards), 0)
                    ways[f"{name}, no work"] = lambda f=fleet, n=nothing: ask(f.fleet, abs, n, hedge=Hedge())
                for name, way in ways.items():
                    start = time.perf_counter()
                    way()
                    if repeat:
                        taken[name].append(1e3 * (time.perf_counter() - start))
    one = float(np.median(taken["one process"]))
    return {
        "strategy": line,
        "documents": len(index),
        "shards": shards,
        **{
            name: {
                "median_ms": round(float(np.median(times)), 3),
                "p95_ms": round(float(np.quantile(times, 0.95)), 3),
                **({} if name == "one process" or "no work" in name else {"added_ms": round(float(np.median(times)) - one, 3)}),
            }
            for name, times in taken.items()
        },
    }


def work(line: str, seconds: float) -> dict[str, Any]:
    """A job of calls that wait, for so long by all workers: what the start and each call add, and what share that is."""
    config = component_of_line("executor", EXECUTORS, line)
    start = time.perf_counter()
    with config.start() as executor:  # type: ignore[attr-defined]
        workers = executor.workers()
        each = max(2, round(seconds / CALL))  # calls of a worker, one after another
        done = executor.map(time.sleep, [CALL] * (each * workers))
        next(done)
        first = time.perf_counter()
        for _ in done:
            pass
        last = time.perf_counter()
    ended = time.perf_counter()
    return {
        "executor": line,
        "workers": workers,
        "calls": each * workers,
        "start_s": round(first - start - CALL, 2),
        "ms_a_call": round(1e3 * ((last - first) / (each - 1) - CALL), 2),
        "added": f"{(ended - start) / (each * CALL) - 1:.2%}",
    }


if __name__ == "__main__":
    main()
