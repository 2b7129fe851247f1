"""How building and searching grow with the collection: synthetic token vectors of 10^5 to 3 * 10^7 tokens, fixed settings.

    python experiments/benchmarks/scaling.py [--tokens 100000]... [--strategy "plaid ncells=4 ndocs=1024 n_exact=256"]...

Each size is built and searched in a process of its own, so that its peak memory is its own; one JSON line a size, then a table
and, for every figure, the exponent of its growth (the slope of a line through the points in log-log scale). With PLAID's number
of centroids, about 16 sqrt(tokens), its latency is said to grow like the square root of the tokens (PLAID, figure 7); the
number of tokens that a strategy touched grows without the machine's noise. 10^7 tokens take three minutes on two cores with
AMX.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from bench_build import build_in_parts, codec_of, load_libraries, open_structures

from colbert_research import threads as thread_count
from colbert_research.artifacts import write_text
from colbert_research.data import Collection
from colbert_research.data.synthetic import Synthetic
from colbert_research.evaluation.timing import compare, strategy_of
from colbert_research.experiment.origin import code_version, host

TOKENS = (100_000, 300_000, 1_000_000, 3_000_000)
STRATEGIES = ("exhaustive", "plaid ncells=4 ndocs=1024 n_exact=256")


@click.command()
@click.option("--tokens", "sizes", multiple=True, type=click.IntRange(min=10_000), default=TOKENS, show_default=True)
@click.option("--strategy", "strategies", multiple=True, default=STRATEGIES, show_default=True, help="Kind and settings.")
@click.option("--codec", default="residual nbits=4", show_default=True, help="Kind and settings.")
@click.option("--threads", default=thread_count.count, type=click.IntRange(1, thread_count.available()))
@click.option("--k", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("--queries", default=50, show_default=True, type=click.IntRange(min=1))
@click.option("--dim", default=128, show_default=True, type=click.IntRange(min=8))
@click.option("--model", default="tokens", show_default=True, type=click.Choice(["tokens", "gaussian"]))
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File for the JSON lines.")
@click.option("--one", type=int, hidden=True, help="What each process is given: its size.")
def main(sizes: Sequence[int], output: Path | None, one: int | None, **settings: Any) -> None:
    """Measure every size, print one JSON line each, then a table and exponents."""
    try:
        parsed = {text: strategy_of(text) for text in settings["strategies"]}, codec_of(settings["codec"])
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if one is not None:
        click.echo(json.dumps(measure(one, *parsed, settings)))
        return
    lines = []
    for size in sorted(sizes):
        command = [sys.executable, __file__, "--one", str(size), *_options(settings)]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if out.returncode:
            raise click.ClickException(f"{size} tokens failed; its words are above")
        lines.append(json.loads(out.stdout.splitlines()[-1]))
        click.echo(json.dumps(lines[-1]))
    if output:
        write_text(output, "".join(json.dumps(line) + "\n" for line in lines))
    click.echo("\n" + table(lines))


def _options(settings: dict[str, Any]) -> list[str]:
    """The settings as the options of a process."""
    strategies = [part for text in settings["strategies"] for part in ("--strategy", text)]
    return strategies + [part for name, value in settings.items() if name != "strategies" for part in (f"--{name}", str(value))]


def measure(size: int, strategies: dict[str, Any], codec: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Make, build and search a collection of `size` tokens: seconds, milliseconds per query, bytes."""
    config = Synthetic(tokens=size, dim=settings["dim"], model=settings["model"])
    load_libraries()
    with tempfile.TemporaryDirectory(prefix="scaling-") as temporary:
        vectors, _ = config.write(Path(temporary) / "vectors", dtype="float16")
        (queries, _), answers = config.queries(min(settings["queries"], config.n_documents))
        collection = Collection.from_texts([""] * config.n_documents)
        with thread_count.pinned_threads(settings["threads"]), peak_anonymous() as peak:
            index, parts = build_in_parts(Path(temporary) / "index", collection, vectors, codec)
            beside = {name: open_structures(index, strategy) for name, strategy in strategies.items()}
        compared = compare(strategies, index, queries, settings["k"], threads=settings["threads"])
        seconds = {f"{name}_s": value for name, value in parts.items()}
        found = {
            result.name: {
                **{f"{name}_ms": value for name, value in result.figures().items()},
                "stages_ms": {name: stage["median"] for name, stage in result.stage_figures().items()},
                **dict(zip(("auxiliary_s", "auxiliary_bytes"), beside[result.name], strict=True)),
                "queries": len(result.ranking),
                "work": result.work,
                "answers_first": float(np.mean(result.ranking.positions[result.ranking.offsets[:-1]] == answers)),
            }
            for result in compared.results
        }
        return {
            "tokens": index.n_tokens,
            "documents": index.n_documents,
            "centroids": 0 if index.codec.centroids is None else len(index.codec.centroids),
            "code": code_version(),
            "host": host(),
            "settings": {**settings, "strategies": list(settings["strategies"])},
            "build": seconds,
            "index_bytes": index.nbytes(),
            "build_peak_mb": peak[0] / 2**20,
            "resident_peak_mb": resident_peak_mb(),
            "strategies": found,
        }


def resident_peak_mb() -> float:
    """The most memory that the process has had so far, mapped files included; not a number where the system does not say."""
    try:
        import resource
    except ImportError:  # on Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


@contextmanager
def peak_anonymous(seconds: float = 0.05) -> Iterator[list[int]]:
    """The most memory of its own (without mapped files) that the process has while the block runs, in bytes, looked at often.

    The resident size would count pages of the mapped vectors, which the system takes back when it needs them. 0 where
    /proc does not tell.
    """
    peak, done = [0], threading.Event()
    status = Path("/proc/self/status")

    def look() -> None:
        sizes = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("RssAnon:")]
        peak[0] = max([peak[0], *(1024 * int(size) for size in sizes)])

    def watch() -> None:
        while not done.wait(seconds):
            look()

    if not status.is_file():
        yield peak
        return
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        look()


def table(lines: Sequence[dict[str, Any]]) -> str:
    """One row a figure, one column a size, and the exponent of its growth."""
    import pandas as pd

    columns = {line["tokens"]: _figures(line) for line in lines}
    frame = pd.DataFrame(columns)
    frame["exponent"] = [exponent(list(columns), list(row)) for row in frame.to_numpy()]
    return str(frame.to_string(float_format=lambda value: f"{value:.4g}", na_rep=""))


def _figures(line: dict[str, Any]) -> dict[str, float]:
    figures = {f"build {name.removesuffix('_s')}, s": value for name, value in line["build"].items()}
    figures |= {f"index {name}, MB": value / 1e6 for name, value in line["index_bytes"].items() if value}
    figures["build memory, MB"] = line["build_peak_mb"]
    for name, found in line["strategies"].items():
        figures[f"{name}, median ms"] = found["median_ms"]
        figures[f"{name}, p95 ms"] = found["p95_ms"]
        figures |= {f"{name}, {part}": found[part] for part in ("auxiliary_s", "auxiliary_bytes") if found["auxiliary_bytes"]}
        figures[f"{name}, tokens touched"] = sum(stage["tokens"] for stage in found["work"].values()) / found["queries"]
        figures[f"{name}, answers first"] = found["answers_first"]
    return figures


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log(value) over log(size), by least squares; not a number for fewer than two sizes or values of 0."""
    if len(sizes) < 2 or min(values) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


if __name__ == "__main__":
    os.environ.setdefault("COLBERT_RESEARCH_PROGRESS", "off")
    main()
