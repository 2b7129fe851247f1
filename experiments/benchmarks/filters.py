"""What a metadata filter costs and saves: latency and results of strategies, without one and where 50 % and 1 % pass it.

    python experiments/benchmarks/filters.py "dataset.path=data/nfcorpus"          # real vectors, made-up metadata
    python experiments/benchmarks/filters.py --tokens 3000000 --dim 64             # synthetic ones
    python experiments/benchmarks/filters.py --scope 100000                        # making a scope alone

Metadata: `number`, a random order of the documents, which says how many pass a filter; `words`, `kind` of four, `tags`. Queries
are searched one at a time, and strategies and filters take turns, so that they share whatever else the machine does. Printed,
as JSON lines: milliseconds per query, the share of the unfiltered time, how many results the poorest query has, the overlap of
the ten best with exhaustive search behind the same filter, and documents scored exactly; of scopes, the least time of several.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.config import load_config
from colbert_research.data import Collection
from colbert_research.data.synthetic import Synthetic
from colbert_research.evaluation import overlap
from colbert_research.evaluation.timing import strategy_of
from colbert_research.experiment import Experiment, ExperimentConfig
from colbert_research.index import Index, build_index
from colbert_research.ragged import Ragged
from colbert_research.search import Exhaustive, Trace

STRATEGIES = ("exhaustive", "plaid ncells=4 ndocs=1024 n_exact=256", "warp", "auto")
SHARES = {"none": 1.0, "50 %": 0.5, "1 %": 0.01}
FILTERS = {
    "one integer": {"number": {"$lt": 1000}},
    "one string": {"kind": "news"},
    "list": {"tags": {"$contains": "t3"}},
    "five conditions": {
        "$or": [{"kind": {"$in": ["news", "blog"]}, "words": {"$gte": 50}}, {"$not": {"tags": {"$contains": "t1"}}}],
        "number": {"$lt": 90_000},
    },
    "ids by prefix": {"$id": {"$prefix": "d77"}},
}


@click.command()
@click.argument("overrides", default="")
@click.option("--documents", default=10_000, show_default=True, help="At most so many of a collection, the first ones.")
@click.option("--tokens", type=int, help="So many synthetic token vectors in place of a collection's.")
@click.option("--dim", default=128, show_default=True, help="Of synthetic vectors.")
@click.option("--scope", type=int, help="So many documents, of one token each; only scopes are made.")
@click.option("--strategy", "strategies", multiple=True, default=STRATEGIES, show_default=True, help="Kind and settings.")
@click.option("--queries", "n_queries", default=100, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--k", default=10, show_default=True)
def main(overrides: str, documents: int, tokens: int | None, dim: int, scope: int | None, **asked: Any) -> None:
    """Measure one collection."""
    with tempfile.TemporaryDirectory() as folder:
        if scope is not None:
            lines = scopes(Path(folder) / "index", scope)
        else:
            parts = real(overrides, documents) if tokens is None else synthetic(Path(folder), tokens, dim, asked["n_queries"])
            collection, vectors, queries, texts = parts
            index = build_index(Path(folder) / "index", described(collection), vectors, ResidualConfig(nbits=4))
            queries, texts = queries.slice(0, n := min(asked["n_queries"], len(queries))), texts[:n]
            lines = latencies(index, queries, texts, asked["strategies"], asked["repeats"], asked["k"])
        for line in lines:
            sys.stdout.write(json.dumps(line) + "\n")


def described(collection: Collection) -> Collection:
    """The collection with made-up metadata."""
    rng, n = np.random.default_rng(0), len(collection)
    numbers, kinds = rng.permutation(n).tolist(), rng.choice(["news", "blog", "paper", "mail"], n).tolist()
    tags = [[f"t{tag}" for tag in row[: 1 + row[0] % 3]] for row in rng.integers(0, 20, (n, 3)).tolist()]
    words = [len(text.split()) or None for text in collection.texts]
    rows = zip(numbers, kinds, tags, words, strict=True)
    return replace(collection, metadata=tuple({"number": a, "kind": b, "tags": c, "words": d} for a, b, c, d in rows))


def real(overrides: str, n: int) -> tuple[Collection, Ragged, Ragged, Sequence[str]]:
    """The first `n` documents of a collection, and its queries, as encoded."""
    experiment = Experiment(load_config(ExperimentConfig, "configs/residual.yaml", overrides))
    whole, vectors = experiment.collection, experiment.documents.vectors
    collection = Collection.from_texts(whole.texts[:n], ids=whole.document_ids[:n], titles=whole.titles[:n])
    return collection, vectors.slice(0, len(collection)), experiment.queries.vectors, whole.query_texts


def synthetic(folder: Path, tokens: int, dim: int, n: int) -> tuple[Collection, Ragged, Ragged, Sequence[str]]:
    """Made-up token vectors, and `n` queries for them."""
    made = Synthetic(tokens=tokens, dim=dim)
    vectors = made.write(folder / "vectors", dtype="float16").vectors
    collection = Collection.from_texts([f"document {i}" for i in range(len(vectors))])
    return collection, vectors, made.queries(n)[0].vectors, ["document"] * n


def latencies(
    index: Index, queries: Ragged, texts: Sequence[str], strategies: Sequence[str], repeats: int, k: int
) -> list[Any]:
    """A line for every strategy and filter."""
    n = index.n_documents
    filters = {name: None if share == 1 else {"number": {"$lt": int(share * n)}} for name, share in SHARES.items()}
    cases = {(line, name): (strategy_of(line), given) for line in strategies for name, given in filters.items()}
    seconds: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    for repeat in range(repeats + 1):  # the first opens structures and columns
        for q in range(len(queries)):
            for case, (strategy, given) in cases.items():
                start = time.perf_counter()
                strategy.search(index, queries.slice(q, q + 1), k, query_texts=texts[q : q + 1], filter=given)
                if repeat:
                    seconds[case].append(time.perf_counter() - start)
    lines = []
    for (line, name), (strategy, given) in cases.items():
        trace, exact = Trace(), Exhaustive().search(index, queries, k, filter=given)
        found = strategy.search(index, queries, k, query_texts=texts, filter=given, trace=trace)
        median, unfiltered = (float(np.median(seconds[line, each])) for each in (name, "none"))
        scored = sum(stage["documents"] for stage_name, stage in trace.work().items() if stage_name in ("exact", "score"))
        lines.append(
            {
                "strategy": line,
                "filter": name,
                "admitted": index.scope(filter=given).size,
                "documents": n,
                "tokens": index.n_tokens,
                "median_ms": round(1e3 * median, 3),
                "p95_ms": round(1e3 * float(np.quantile(seconds[line, name], 0.95)), 3),
                "of_unfiltered": round(median / unfiltered, 3),
                "fewest_results": int(np.diff(found.offsets).min()),
                f"overlap@{k}": round(float(overlap(found, exact, k)), 4),
                "scored_per_query": round(scored / len(queries), 1),
            }
        )
    return lines


def scopes(path: Path, n: int) -> list[Any]:
    """A line for every filter over `n` documents: the first scope after the index was opened, and later ones."""
    values = np.eye(8, dtype=np.float32)[np.zeros(n, np.int64)]
    texts = [" ".join(["word"] * (i % 200)) for i in range(n)]
    collection = described(Collection.from_texts(texts, ids=[f"d{i}" for i in range(n)]))
    built = build_index(path, collection, Ragged(values, np.arange(n + 1)), ExactConfig())
    stored, lines = (built.segments[0].path / "metadata.arrow").stat().st_size, []
    for name, given in FILTERS.items():
        taken = []
        for _ in range(5):
            index, times = Index.open(path), []
            for _ in range(20):
                start = time.perf_counter()
                size = index.scope(filter=given).size
                times.append(1e3 * (time.perf_counter() - start))
            taken.append((times[0], min(times[1:])))
        first, later = np.min(taken, axis=0).round(3).tolist()
        lines.append(
            {"filter": name, "documents": n, "admitted": size, "first_ms": first, "ms": later, "columns_bytes": stored}
        )
    return lines


if __name__ == "__main__":
    main()
