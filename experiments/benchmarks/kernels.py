"""Nanoseconds per document token of the CPU kernels, on random codes, in every SIMD tier that this processor has.

    python experiments/benchmarks/kernels.py [--threads N] [--tiers amx --tiers avx2] [--output lines.jsonl]

Each tier runs in a process of its own. Documents of 150 to 250 tokens, 128 dimensions, 8192 centroids; the time of a kernel is
the least of several runs over all documents, the query's preparation included. One JSON line per kernel and tier, then a table.
`assign` is per vector, against all centroids.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from colbert_research import kernels
from colbert_research import threads as thread_count
from colbert_research.artifacts import write_text
from colbert_research.experiment.origin import code_version
from colbert_research.kernels.operands import CodedTokens, ProductTable, ResidualTable
from colbert_research.ragged import Ragged, offsets_of

DIM, CENTROIDS = 128, 8192
TIERS = ("amx", "avx512", "avx2", "generic")


@click.command()
@click.option("--tiers", multiple=True, type=click.Choice(TIERS), default=TIERS, show_default=True)
@click.option("--threads", default=thread_count.count, type=click.IntRange(1, thread_count.available()))
@click.option("--documents", default=2000, show_default=True, type=click.IntRange(min=1))
@click.option("--repeats", default=12, show_default=True, type=click.IntRange(min=1))
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File for the JSON lines.")
@click.option("--one", is_flag=True, hidden=True, help="Measure the tier of this process.")
def main(tiers: tuple[str, ...], threads: int, documents: int, repeats: int, output: Path | None, one: bool) -> None:
    """Measure every tier, print one JSON line per kernel, then a table."""
    if one:
        for line in measured(documents, repeats, threads):
            click.echo(json.dumps(line))
        return
    lines: list[dict[str, Any]] = []
    settings = ["--threads", str(threads), "--documents", str(documents), "--repeats", str(repeats)]
    for tier in tiers:
        command = [sys.executable, __file__, "--one", *settings]
        environment = os.environ | {"COLBERT_RESEARCH_SIMD": tier}
        out = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if out.returncode and "but this processor has" in out.stderr:
            click.echo(f"{tier}: not on this processor", err=True)
            continue
        if out.returncode:
            raise click.ClickException(out.stderr)
        lines += [json.loads(line) for line in out.stdout.splitlines()]
    if output:
        write_text(output, "".join(json.dumps(line) + "\n" for line in lines))
    for line in lines:
        click.echo(json.dumps(line))
    click.echo("\n" + table(lines))


def measured(documents: int, repeats: int, threads: int) -> Iterator[dict[str, Any]]:
    """One line per kernel."""
    from colbert_research.kernels.cpu.simd import TIER

    with thread_count.pinned_threads(threads):
        for name, query_tokens, tokens, call in cases(documents):
            call()
            seconds = min(timed(call) for _ in range(repeats))
            figure = round(seconds / tokens * 1e9, 3)
            common = {"tier": TIER, "threads": threads, "dim": DIM, "centroids": CENTROIDS, "code": code_version()}
            yield {"kernel": name, "query_tokens": query_tokens, "ns_per_token": figure, "tokens": tokens, **common}


def cases(documents: int) -> Iterator[tuple[str, int, int, Callable[[], Any]]]:
    """Kernel, query tokens, document tokens, call."""
    rng = np.random.default_rng(0)
    offsets = offsets_of(rng.integers(150, 251, documents))
    n = int(offsets[-1])
    centroids = unit(rng, CENTROIDS)
    centroids.flags.writeable = False  # as those of an opened codec, so products with a query are kept
    ids = rng.integers(0, CENTROIDS, n).astype(np.uint16)
    norms = rng.uniform(0.9, 1.1, n).astype(np.float16)
    scales = rng.uniform(0.5, 2, DIM).astype(np.float32) / 30
    queries = {size: Ragged(unit(rng, size), offsets_of([size])) for size in (8, 32)}
    tables: dict[str, ResidualTable | ProductTable] = {
        f"residual {bits} bits": ResidualTable(scales, np.sort(rng.standard_normal(2**bits)).astype(np.float32), centroids)
        for bits in (1, 2, 4, 8)
    }
    tables["product m=32"] = ProductTable(rng.standard_normal((32, 256, 4)).astype(np.float32) / 30, centroids)
    for name, table in tables.items():
        tokens = CodedTokens(table, rng.integers(0, 256, (n, table.packed_width)).astype(np.uint8), offsets, ids, norms)
        for size, query in queries.items():
            yield name, size, n, lambda query=query, tokens=tokens: kernels.maxsim_codes(query, tokens, backend="cpu")
    for size, query in queries.items():
        scores = kernels.dot_products(query.values, centroids, backend="cpu")
        lists = Ragged(ids, offsets)
        yield "centroid interaction", size, n, lambda s=scores, t=lists: kernels.centroid_interaction(s, t, backend="cpu")
    vectors = Ragged(unit(rng, n), offsets)
    for size, query in queries.items():
        yield "float32", size, n, lambda query=query: kernels.maxsim(query, vectors, backend="cpu")
    few = vectors.values[: min(n, 20_000)]
    yield "assign", 0, len(few), lambda: kernels.assign(few, centroids, backend="cpu")


def unit(rng: np.random.Generator, n: int) -> np.ndarray:
    """Random L2-normalised vectors."""
    vectors = rng.standard_normal((n, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def table(lines: list[dict[str, Any]]) -> str:
    """One row per kernel, one column per tier: nanoseconds per token."""
    import pandas as pd

    frame = pd.DataFrame(lines)
    wide = frame.pivot_table(index=["kernel", "query_tokens"], columns="tier", values="ns_per_token", sort=False)
    return str(wide.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
