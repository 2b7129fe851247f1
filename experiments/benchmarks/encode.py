"""Tokens per second of encoding documents, by turns: sentence-transformers' own loop, and an encoder in each precision.

    python experiments/benchmarks/encode.py data/nfcorpus [--documents 300] [--repeats 3] [--output lines.jsonl]

The loop is `MultiVectorEncoder.encode_document` of the same modules in float32, with its defaults. Each is asked for the same
documents, the first of the collection, `--repeats` times; the median counts. What the processor would emulate is left out. And,
beside the vectors of float32: the mean and the least cosine of a token. One JSON line each.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from colbert_research import threads
from colbert_research.data import BeirConfig
from colbert_research.encoders import TransformerConfig
from colbert_research.experiment.origin import code_version, host
from colbert_research.settings import ConfigError

PRECISIONS = ("float32", "bfloat16", "float16")
MODEL = {"model": "sentence-transformers/all-MiniLM-L6-v2", "query_length": 48, "document_length": 220}


@click.command()
@click.argument("collection", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--documents", default=300, show_default=True, type=click.IntRange(min=1))
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File to which the JSON lines are added.")
def main(collection: Path, documents: int, repeats: int, output: Path | None) -> None:
    """Encode, and print a line for each way."""
    texts = BeirConfig(path=str(collection)).load().document_texts()[:documents]
    ways: dict[str, Callable[[], Any]] = {}
    for precision in PRECISIONS:
        try:
            encoder = TransformerConfig(**MODEL, precision=precision).load()
        except ConfigError as error:
            click.echo(f"{precision}: {error}", err=True)
            continue
        if precision == "float32":
            ways["encode_document"] = lambda model=encoder.model: model.encode_document(texts, convert_to_numpy=True)
        ways[precision] = lambda encoder=encoder: encoder.encode_documents(texts)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    vectors: dict[str, np.ndarray] = {}
    for _ in range(repeats + 1):  # the first warms up
        for way, encode in ways.items():
            start = time.perf_counter()
            found = encode()
            seconds[way].append(time.perf_counter() - start)
            vectors[way] = np.concatenate(found) if way == "encode_document" else np.asarray(found.vectors.values)
    n_tokens, exact = len(vectors["float32"]), vectors["float32"]
    lines = []
    for way, found in vectors.items():
        cosines = np.einsum("ij,ij->i", exact, found) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
        rate = n_tokens / statistics.median(seconds[way][1:])
        line = {"way": way, "documents": len(texts), "tokens": n_tokens, "tokens/s": round(rate), "threads": threads.count()}
        lines.append({**line, "cosine": round(float(cosines.mean()), 6), "least cosine": round(float(cosines.min()), 6)})
    for line in lines:
        line["times encode_document"] = round(line["tokens/s"] / lines[0]["tokens/s"], 2)
        line |= {"collection": collection.name, "host": host(), "code": code_version()}
        click.echo(json.dumps(line))
    if output:
        with output.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


if __name__ == "__main__":
    main()
