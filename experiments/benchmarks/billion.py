"""A query that waits for the slowest of many shards: ten real ones, one after the other on disk, and draws from their times.

    python experiments/benchmarks/billion.py --folder SHARDS [--shards 10] [--tokens 1000000] [--centroids 4096] \
        [--strategy "plaid ncells=4 ndocs=1024 n_exact=256"]... [--output lines.jsonl] [--figure shards.png]

One synthetic collection (`data/synthetic.py`, 128 dimensions) is cut into shards, which share the centroids of the first, as
the segments of one index do; each is built into FOLDER, where a run that was interrupted goes on. All queries are searched on
all shards, shard by shard and several times. A query of n shards is then the slowest of n times: drawn from the times of that
query, from all times as if queries had nothing in common, and, up to the number of real shards, that of the shards themselves.
What merging n rankings takes is timed; a network is not. One JSON line a strategy.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from bench_build import codec_of
from numpy.typing import NDArray

from colbert_research import threads as thread_count
from colbert_research.artifacts import write_text
from colbert_research.costs.tails import drawn
from colbert_research.data import Collection
from colbert_research.data.synthetic import Synthetic
from colbert_research.evaluation.timing import strategy_of
from colbert_research.experiment.origin import code_version, host
from colbert_research.index import Index, build_index
from colbert_research.ragged import NpyWriter, Ragged, load_npy, offsets_of
from colbert_research.ranking import Ranking
from colbert_research.search import SearchStrategy

STRATEGIES = ("plaid ncells=4 ndocs=1024 n_exact=256", "exhaustive")
NUMBERS = (1, 2, 5, 10, 20, 50, 100)
LENGTHS = (4, 32)
"""Fewest and most tokens of a query."""
WARM_UP, DRAWS, QUANTILES = 5, 100_000, {"median": 0.5, "p95": 0.95, "p99": 0.99}


@click.command()
@click.option("--folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where the shards are built.")
@click.option("--shards", default=10, show_default=True, type=click.IntRange(min=2))
@click.option("--tokens", default=1_000_000, show_default=True, type=click.IntRange(min=30_000), help="Of one shard.")
@click.option("--centroids", default=4096, show_default=True, type=click.IntRange(min=1))
@click.option("--nbits", default=2, show_default=True)
@click.option("--strategy", "strategies", multiple=True, default=STRATEGIES, show_default=True, help="Kind and settings.")
@click.option("--queries", default=200, show_default=True, type=click.IntRange(min=2))
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--k", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, thread_count.available()))
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File for the JSON lines.")
@click.option("--figure", type=click.Path(dir_okay=False, path_type=Path), help="Picture of the tails.")
def main(
    folder: Path, strategies: Sequence[str], output: Path | None, figure: Path | None, threads: int, **settings: int
) -> None:
    """Build what is not there yet, search, draw."""
    chosen = {line: strategy_of(line) for line in strategies}
    synthetic = Synthetic(tokens=settings["shards"] * settings["tokens"])
    indexes = build(
        folder, synthetic, settings["shards"], f"residual nbits={settings['nbits']} centroids={settings['centroids']}"
    )
    asked = of_many_lengths(synthetic.queries(settings["queries"], tokens=LENGTHS[1])[0].vectors)
    lines = []
    for name, strategy in chosen.items():
        strategy.search(indexes[0], asked.slice(0, 1), settings["k"])  # before pinning, which reaches only what is loaded
        with thread_count.pinned_threads(threads):
            found = searched(strategy, indexes, asked, settings["k"], settings["repeats"])
        facts = {"tokens_of_a_shard": indexes[0].n_tokens, "code": code_version(), "host": host()}
        lines.append({"strategy": name, **facts, "settings": {**settings, "threads": threads}, **summary(found)})
        lines[-1]["merge_ms"] = merging(settings["k"])
        click.echo(json.dumps(lines[-1]))
    if output:
        write_text(output, "".join(json.dumps(line) + "\n" for line in lines))
    if figure:
        draw(lines, figure)


def of_many_lengths(queries: Ragged) -> Ragged:
    """Queries cut to a number of tokens of their own, uniformly drawn: what makes a query slow on every shard."""
    lengths = np.random.default_rng(0).integers(LENGTHS[0], LENGTHS[1] + 1, len(queries))
    return Ragged.from_list([np.asarray(query)[:length] for query, length in zip(queries, lengths, strict=True)])


def build(folder: Path, synthetic: Synthetic, shards: int, codec: str) -> list[Index]:
    """The shards of a collection; those that are there already are only opened."""
    paths = [folder / f"shard-{number:03d}" for number in range(shards)]
    if not all((path / "manifest.json").is_file() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        for path, (vectors, file) in zip(paths, pieces(synthetic, shards, folder), strict=True):
            if not (path / "manifest.json").is_file():
                first = None if path == paths[0] else Index.open(paths[0]).codec.centroids
                collection = Collection.from_texts([""] * len(vectors), ids=[f"{path.name}-{i}" for i in range(len(vectors))])
                build_index(path, collection, vectors, codec_of(codec), centroids=first)
            file.unlink()
    return [Index.open(path) for path in paths]


def pieces(synthetic: Synthetic, n: int, folder: Path) -> Iterator[tuple[Ragged, Path]]:
    """The token vectors of a collection in `n` pieces of whole parts, each in a file, which is named."""
    parts, documents = synthetic.parts(), 0
    for number in range(n):
        path, lengths = folder / f"vectors-{number:03d}.npy", []
        with NpyWriter(path, np.float16, (synthetic.dim,)) as writer:
            while documents < (number + 1) * synthetic.n_documents // n:
                part = next(parts)
                writer.append(part.vectors.values)
                lengths.append(part.vectors.lengths)
                documents += len(part.vectors)
        yield Ragged(load_npy(path, mmap=True), offsets_of(np.concatenate(lengths))), path


def searched(strategy: SearchStrategy, indexes: Sequence[Index], asked: Ragged, k: int, repeats: int) -> NDArray[np.float64]:
    """Milliseconds `(repeats, n_queries, n_shards)` of each query on each shard."""
    taken = np.empty((repeats, len(asked), len(indexes)))
    for repeat in range(repeats):
        for shard in np.roll(np.arange(len(indexes)), repeat):
            for query in (*range(min(WARM_UP, len(asked))), *range(len(asked))):
                start = time.perf_counter()
                strategy.search(indexes[shard], asked.slice(query, query + 1), k)
                taken[repeat, query, shard] = 1e3 * (time.perf_counter() - start)
    return taken


def merging(k: int, *, times: int = 50) -> dict[str, float]:
    """Median milliseconds of merging the rankings of one query, of `k` documents each, by the number of shards."""
    rng, found = np.random.default_rng(0), {}
    for n in NUMBERS:
        ids = tuple(map(str, range(n * k)))
        parts = [
            Ranking.of([(np.arange(i * k, i * k + k), rng.random(k, np.float32))], query_ids=("q",), document_ids=ids)
            for i in range(n)
        ]
        taken = []
        for _ in range(times):
            start = time.perf_counter()
            Ranking.merge(parts, k)
            taken.append(1e3 * (time.perf_counter() - start))
        found[str(n)] = round(float(np.median(taken)), 4)
    return found


def summary(taken: NDArray[np.float64]) -> dict[str, Any]:
    """Figures of one shard, what the times of a query have in common, and the slowest of n shards in three ways."""
    typical = np.median(taken, axis=0)
    apart = np.corrcoef(np.log(typical).T)[np.triu_indices(typical.shape[1], 1)]
    one = {name: float(np.quantile(taken, q)) for name, q in QUANTILES.items()}
    each = taken.transpose(1, 0, 2).reshape(taken.shape[1], -1)  # all times of a query, over repeats and shards
    slowest = []
    for n in NUMBERS:
        row: dict[str, Any] = {"shards": n}
        for name, correlated in (("", True), ("independent_", False)):
            times = drawn(each, n, draws=DRAWS, seed=n, correlated=correlated)
            row |= {f"{name}{key}": round(float(np.quantile(times, q)) / one[key], 4) for key, q in QUANTILES.items()}
        if n <= taken.shape[2]:
            real = taken[:, :, :n].max(axis=2)
            row |= {f"real_{key}": round(float(np.quantile(real, q)) / one[key], 4) for key, q in QUANTILES.items()}
        slowest.append(row)
    return {
        "one_ms": {name: round(value, 4) for name, value in one.items()},
        "correlation_of_shards": round(float(apart.mean()), 4),
        "slowest": slowest,
    }


def draw(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Median and p99 of the slowest over the number of shards, in greys, small enough for a phone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 2.2 * len(lines)), dpi=130, layout="constrained")
    for axes, line in zip(np.atleast_1d(figure.subplots(len(lines), 1, sharex=True)), lines, strict=True):
        numbers = [row["shards"] for row in line["slowest"]]
        for label, prefix, shade, dashes in (("same query", "", "0", "-"), ("independent", "independent_", "0.55", "--")):
            for name, marker in (("median", "o"), ("p99", "^")):
                values = [row[prefix + name] * line["one_ms"][name] for row in line["slowest"]]
                axes.plot(
                    numbers, values, dashes, color=shade, marker=marker, markersize=4, linewidth=1.2, label=f"{name}, {label}"
                )
        real = [
            (row["shards"], row["real_median"] * line["one_ms"]["median"]) for row in line["slowest"] if "real_median" in row
        ]
        axes.plot(*zip(*real, strict=True), "x", color="0", markersize=7, label="median, real shards")
        axes.set_xscale("log")
        axes.set_xticks(numbers, [str(n) for n in numbers], fontsize=8)
        axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("ms", fontsize=9)
        axes.set_title(line["strategy"].split(" ")[0], fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("shards", fontsize=9)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    main()
