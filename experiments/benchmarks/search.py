"""Our strategies beside other engines on the same token vectors: latency, agreement with exact search, quality, size.

    python experiments/benchmarks/search.py --vectors FOLDER [--strategy "plaid ncells=4 ndocs=1024 n_exact=256"]... \
        [--codec "residual nbits=4"]... [--peers PYTHON [--peer "fastplaid n_ivf_probe=8"]...] [--output lines.jsonl]

FOLDER is made by prepare.py. `--peers` is the interpreter of an environment with other engines (pylate, fast-plaid,
xtr-warp-rs); each of those found there runs in a process of its own, through a script that prints one JSON line, the form that
our lines have too. Ours run in turns on pinned threads; the peers run after them, so compare on a machine that is quiet.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from bench_build import build_in_parts, codec_of, load_libraries, open_structures
from bench_folder import BenchFolder

from colbert_research import threads as thread_count
from colbert_research.artifacts import folder_bytes, write_text
from colbert_research.config import Config
from colbert_research.evaluation import evaluate, mean_measures
from colbert_research.evaluation.timing import Latency, compare, strategy_of
from colbert_research.experiment.origin import code_version
from colbert_research.search import SearchStrategy

STRATEGIES = ("exhaustive", "plaid ncells=4 ndocs=1024 n_exact=256", "plaid ncells=8 ndocs=4096 n_exact=1024")
PEERS = {"fastplaid": "fast_plaid", "warp": "xtr_warp", "stanford": "pylate", "exact": "torch"}
SCRIPT = Path(__file__).resolve().parents[2].parent / "shared" / "bench" / "peers.py"


@click.command()
@click.option("--vectors", "path", required=True, type=click.Path(path_type=Path), help="A bench folder.")
@click.option("--strategy", "strategies", multiple=True, default=STRATEGIES, show_default=True, help="Kind and settings.")
@click.option("--codec", "codecs", multiple=True, default=("residual nbits=4",), show_default=True, help="Kind and settings.")
@click.option(
    "--threads",
    default=thread_count.count,
    type=click.IntRange(1, thread_count.available()),
    help="For ours and for the peers.",
)
@click.option("--k", default=100, show_default=True, type=click.IntRange(min=100), help="Documents per query.")
@click.option("--max-queries", default=300, show_default=True, type=click.IntRange(min=1))
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1), help="Of ours; peers search once.")
@click.option("--peers", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Python of their environment.")
@click.option("--peer", "wanted", multiple=True, help="Engine and settings; without it every engine found, by its defaults.")
@click.option("--peers-script", default=SCRIPT, type=click.Path(path_type=Path), show_default=True)
@click.option("--nbits", default=4, show_default=True, help="Bits of the peers' residuals.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File for the JSON lines.")
def main(
    path: Path,
    strategies: Sequence[str],
    codecs: Sequence[str],
    threads: int,
    k: int,
    max_queries: int,
    repeats: int,
    peers: Path | None,
    wanted: Sequence[str],
    peers_script: Path,
    nbits: int,
    output: Path | None,
) -> None:
    """Print one JSON line an engine, then a table."""
    try:
        folder = BenchFolder.open(path)
        named = {text: strategy_of(text) for text in strategies}
        coded = {text: codec_of(text) for text in codecs}
    except (ValueError, FileNotFoundError) as error:
        raise click.ClickException(str(error)) from None
    lines: list[dict[str, Any]] = []

    def add(line: dict[str, Any]) -> None:
        click.echo(json.dumps(line))
        lines.append(line)

    for text, codec in coded.items():
        for line in ours(folder, text, codec, named, threads=threads, k=k, max_queries=max_queries, repeats=repeats):
            add(line)
    if peers is not None and not peers_script.is_file():
        click.echo(f"no peers: {peers_script} does not exist; give --peers-script", err=True)
    elif peers is not None:
        options = ["--nbits", str(nbits), "--threads", str(threads), "--k", str(k), "--max-queries", str(max_queries)]
        for text in wanted or peers_found(peers):
            add(peer(peers, peers_script, path, text, options))
    if output:
        write_text(output, "".join(json.dumps(line) + "\n" for line in lines))
    click.echo("\n" + table(lines))


def ours(
    folder: BenchFolder,
    codec_text: str,
    codec: Config,
    strategies: dict[str, SearchStrategy],
    *,
    threads: int,
    k: int,
    max_queries: int,
    repeats: int,
) -> list[dict[str, Any]]:
    """Build one index and measure every strategy on it: one line each, with what it alone keeps beside the codes."""
    load_libraries()
    queries = folder.queries.map(lambda values: np.asarray(values, np.float32)).slice(0, max_queries)
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        place = Path(temporary) / "index"
        with thread_count.pinned_threads(threads):
            index, parts = build_in_parts(place, folder.collection(), folder.documents, codec)
            size = folder_bytes(place)
            try:
                for strategy in strategies.values():
                    strategy.check(index, k)
            except ValueError as error:
                raise click.ClickException(str(error)) from None
            beside = {name: open_structures(index, strategy) for name, strategy in strategies.items()}
        compared = compare(strategies, index, queries, k, threads=threads, repeats=repeats)
        common = {
            "engine": "colbert_research",
            "code": code_version(),
            "codec": codec_text,
            "threads": threads,
            "docs": index.n_documents,
            "tokens": index.n_tokens,
        }
        lines = []
        for result in compared.results:
            seconds, extra = beside[result.name]
            shown = {**{name: value for name, value in parts.items() if name != "total"}, "auxiliary": seconds}
            built = {
                "build_s": round(parts["total"] + seconds, 2),
                "build_parts": {name: round(value, 3) for name, value in shown.items()},
                "index_mb": round((size + extra) / 1e6, 2),
            }
            lines.append({**common, **built, **measured(result, folder)})
        return lines


def measured(result: Latency, folder: BenchFolder) -> dict[str, Any]:
    """The figures of one strategy, by the names that the peers' script uses."""
    figures, n = result.figures(), len(result.ranking)
    offsets = result.ranking.offsets
    found = [result.ranking.positions[offsets[i] : offsets[i + 1]] for i in range(n)]
    line = {
        "strategy": result.name,
        "ms_median": round(figures["median"], 3),
        "ms_p95": round(figures["p95"], 3),
        "stages_ms": {name: round(stage["median"], 3) for name, stage in result.stage_figures().items()},
        **{f"overlap{depth}": round(overlap(found, folder.exact, depth), 4) for depth in (10, 100)},
    }
    qrels = {query: folder.qrels[query] for query in folder.query_ids[:n] if query in folder.qrels}
    if qrels:
        ranking = replace(result.ranking, query_ids=tuple(folder.query_ids[:n]))
        line["ndcg10"] = round(mean_measures(evaluate(ranking, qrels, ["nDCG@10"]))["nDCG@10"], 4)
    return line


def overlap(found: Sequence[Any], exact: Any, depth: int) -> float:
    """The mean share of the exact best `depth` that was found, as the peers' script counts it."""
    shares = [len(set(f[:depth].tolist()) & set(e[:depth].tolist())) / depth for f, e in zip(found, exact, strict=False)]
    return float(np.mean(shares))


def peers_found(python: Path) -> list[str]:
    """The engines whose package the environment of `python` has."""
    program = f"import importlib.util as u; print(*(e for e, m in {PEERS!r}.items() if u.find_spec(m)))"
    out = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True, env=_environment())
    return out.stdout.split()


def peer(python: Path, script: Path, path: Path, text: str, options: Sequence[str]) -> dict[str, Any]:
    """The line of one other engine, or its last word in `error`."""
    engine, *settings = text.split()
    command = [str(python), str(script), str(path), engine, *options, *(["--set", *settings] if settings else [])]
    out = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    last = [line for line in out.stdout.splitlines() if line.startswith("{")]
    if out.returncode or not last:
        words = (out.stderr or out.stdout).strip().splitlines()
        return {"engine": engine, "strategy": " ".join(settings), "error": words[-1] if words else f"exit {out.returncode}"}
    line: dict[str, Any] = {**json.loads(last[-1]), "strategy": " ".join(settings)}
    return line


def _environment() -> dict[str, str]:
    """Our environment without our search path, which would put our packages before the peers' own."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def table(lines: Sequence[dict[str, Any]]) -> str:
    """One row an engine; `times` is the median as a multiple of the first row's."""
    import pandas as pd

    columns = ["engine", "codec", "strategy", "build_s", "index_mb", "ms_median", "times", "ms_p95"]
    columns += ["overlap10", "overlap100", "ndcg10", "error"]
    frame = pd.DataFrame(lines)
    frame["times"] = (frame["ms_median"] / frame["ms_median"].iloc[0]).map("{:.2f}".format, na_action="ignore")
    if "nbits" in frame:
        frame["codec"] = frame["codec"].fillna(frame["nbits"].map("nbits={:.0f}".format, na_action="ignore"))
    shown = [name for name in columns if name in frame]
    return str(frame[shown].to_string(index=False, na_rep="", max_colwidth=60))


if __name__ == "__main__":
    main()
