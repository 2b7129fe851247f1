"""An index that grows by additions, beside one that is built of the same content at once: time of each addition, latencies.

    python experiments/benchmarks/updates.py [--documents 100000] [--added 10000] [--batch 100] [--centroids K] \
        [--deleted 0.0] [--strategy "plaid ncells=4 ndocs=1024 n_exact=256"]... [--output lines.jsonl]

Token vectors are synthetic (`data/synthetic.py`), 128 dimensions, about 80 a document. Both indexes have the same centroids.
The structures of the strategies are built before the first addition, so that every addition extends them. Latencies are medians
over queries, one query after another, taken in turns: grown, fresh, compacted, then the next query; what is meant are their
ratios. `first` is the first query after an addition, which makes a block of small segments anew.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from colbert_research import threads as thread_count
from colbert_research.codecs import ResidualConfig
from colbert_research.data import Collection
from colbert_research.data.synthetic import Synthetic
from colbert_research.evaluation.timing import strategy_of
from colbert_research.experiment.origin import code_version
from colbert_research.index import Index, build_index
from colbert_research.ragged import Ragged
from colbert_research.search import SearchStrategy

STRATEGIES = ("plaid ncells=4 ndocs=1024 n_exact=256", "auto", "exhaustive", "warp")


@click.command()
@click.option("--documents", default=100_000, show_default=True, type=click.IntRange(min=1))
@click.option("--added", default=10_000, show_default=True, type=click.IntRange(min=1))
@click.option("--batch", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("--centroids", type=click.IntRange(min=1), help="Instead of the codec's default for so many tokens.")
@click.option("--deleted", default=0.0, show_default=True, type=click.FloatRange(0, 0.9), help="Share deleted at the end.")
@click.option("--strategy", "strategies", multiple=True, default=STRATEGIES, show_default=True, help="Kind and settings.")
@click.option("--queries", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File for the JSON lines.")
def main(
    documents: int,
    added: int,
    batch: int,
    centroids: int | None,
    deleted: float,
    strategies: Sequence[str],
    queries: int,
    repeats: int,
    output: Path | None,
) -> None:
    """Grow, build, compact, compare."""
    synthetic, n = Synthetic(tokens=80 * (documents + added)), documents + added
    chosen = [strategy_of(line) for line in strategies]
    with tempfile.TemporaryDirectory() as folder:
        vectors, asked = synthetic.write(Path(folder) / "vectors").vectors, synthetic.queries(queries)[0].vectors
        start = time.perf_counter()
        codec = ResidualConfig(nbits=4, centroids=centroids)
        index = build_index(Path(folder) / "grown", *part(vectors, 0, documents), codec)
        built = time.perf_counter() - start
        for strategy in chosen:
            strategy.search(index, asked.slice(0, 1), 10)
        adds, firsts = [], []
        for low in range(documents, n, batch):
            given = part(vectors, low, min(low + batch, n))
            start = time.perf_counter()
            index = index.add(*given)
            middle = time.perf_counter()
            chosen[0].search(index, asked.slice(0, 1), 10)
            adds.append(middle - start)
            firsts.append(time.perf_counter() - middle)
        fitted = index.codec.centroids
        fresh = build_index(Path(folder) / "fresh", *part(vectors, 0, n), codec, centroids=fitted)
        gone = [str(i) for i in np.random.default_rng(0).choice(n, int(deleted * n), replace=False)]
        grown = index.delete(gone) if gone else index
        start = time.perf_counter()
        compact = grown.compact(keep=1)
        compacted = time.perf_counter() - start
        facts = {
            "documents": documents,
            "added": added,
            "batch": batch,
            "deleted": deleted,
            "threads": thread_count.count(),
            "code": code_version(),
            "segments": len(grown.segments),
            "blocks": len(grown.contents.blocks),
            "centroids": len(fitted),
            "build s": round(built, 1),
            "compact s": round(compacted, 1),
            "add s, median": round(float(np.median(adds)), 4),
            "add s, worst": round(max(adds), 4),
            "first ms, median": round(1e3 * float(np.median(firsts)), 2),
            "first ms, worst": round(1e3 * max(firsts), 2),
        }
        lines = [facts]
        for name, strategy in zip(strategies, chosen, strict=True):
            lines.append({"strategy": name, **latencies(strategy, [grown, fresh, compact], asked, repeats)})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if output:
        output.write_text(text, encoding="utf-8")
    click.echo(text)


def part(vectors: Ragged, low: int, high: int) -> tuple[Collection, Ragged]:
    """Some documents, with a short text each."""
    numbers = range(low, high)
    return Collection.from_texts([f"document {i}" for i in numbers], ids=[str(i) for i in numbers]), vectors.slice(low, high)


def latencies(strategy: SearchStrategy, indexes: Sequence[Index], asked: Ragged, repeats: int) -> dict[str, Any]:
    """Median milliseconds of a query on each index, and how many times that of the fresh one."""
    for index in indexes:
        strategy.search(index, asked.slice(0, 1), 10)
    seconds = np.empty((len(indexes), repeats, len(asked)))
    for repeat in range(repeats):
        for query in range(len(asked)):
            for i, index in enumerate(indexes):
                start = time.perf_counter()
                strategy.search(index, asked.slice(query, query + 1), 10)
                seconds[i, repeat, query] = time.perf_counter() - start
    grown, fresh, compact = 1e3 * np.median(np.median(seconds, axis=1), axis=1)
    return {
        "grown ms": round(grown, 3),
        "fresh ms": round(fresh, 3),
        "compact ms": round(compact, 3),
        "grown / fresh": round(grown / fresh, 3),
        "compact / fresh": round(compact / fresh, 3),
    }


if __name__ == "__main__":
    main()
