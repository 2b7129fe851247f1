"""Fetching documents by id from an index: milliseconds, once its identifiers have been read.

    python experiments/benchmarks/fetch.py [--documents 200000] [--wanted 10] [--repeats 300]

The documents are words of the bundled collection in random order, 60 each, with one token vector; what is fetched is drawn anew
each time.
"""

import json
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from colbert_research.codecs import ExactConfig
from colbert_research.data import BeirConfig, Collection
from colbert_research.index import Index, build_index
from colbert_research.ragged import Ragged


@click.command()
@click.option("--documents", default=200_000, show_default=True, type=click.IntRange(min=1))
@click.option("--wanted", default=10, show_default=True, type=click.IntRange(min=1), help="Documents fetched at once.")
@click.option("--repeats", default=300, show_default=True, type=click.IntRange(min=1))
def main(documents: int, wanted: int, repeats: int) -> None:
    """Print one JSON line."""
    draw = random.Random(0)
    words = " ".join(BeirConfig().load().texts).split()
    texts = [" ".join(draw.choices(words, k=60)) for _ in range(documents)]
    ids = [f"doc-{i}" for i in range(documents)]
    vectors = Ragged(np.ones((documents, 4), np.float32), np.arange(documents + 1))
    with TemporaryDirectory(prefix="fetch-") as folder:
        path = build_index(Path(folder) / "index", Collection.from_texts(texts, ids=ids), vectors, ExactConfig()).path
        index = Index.open(path)
        start = time.perf_counter()
        index.documents(ids[:1])
        first = time.perf_counter() - start
        seconds = []
        for _ in range(repeats):
            asked = draw.choices(ids, k=wanted)
            start = time.perf_counter()
            found = index.documents(asked)
            seconds.append(time.perf_counter() - start)
            assert [document.id for document in found] == asked
        size = index.nbytes()["documents"]
    figures = {"median_ms": np.median(seconds) * 1e3, "p95_ms": np.quantile(seconds, 0.95) * 1e3, "first_ms": first * 1e3}
    settings = {"documents": documents, "wanted": wanted, "bytes": size}
    click.echo(json.dumps(settings | {name: round(float(value), 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
