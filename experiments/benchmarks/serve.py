"""`colbert-research serve` under load on loopback: latencies that clients see, errors, wrong answers, memory.

    python experiments/benchmarks/serve.py INDEX QUERIES.jsonl [--clients 50] [--seconds 60] [--queries 300] [--k 10] \
        [--option "together=16"]... [--kill-every 10]

INDEX is a folder with a pipeline, such as `Experiment(...).index.path`; QUERIES has one JSON object with a `text` a line, as
BEIR's files do. The server is a process of its own, started by the command with the options given; this one keeps a connection
for each client, which asks again as soon as it was answered. Every answer is compared with that of a `Retriever` in this
process, asked before, one query after another: `identical` to the last bit; `rounded`, where scores differ by rounding alone,
as those of a network do that encodes queries in other company; `in part`, where it says that some documents did not answer; or
`wrong`. `--kill-every` kills one of the server's workers each so many seconds. Clients compute on the same cores as the server.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np
import psutil

from colbert_research import threads
from colbert_research.experiment.origin import code_version
from colbert_research.search import Retriever

ROUNDING = 1e-2  # of scores: a network's rounding may take a coordinate of a query to the next of its 8-bit values
MOMENTS = {"first": 0.0, "quarter": 0.25, "half": 0.5, "last": 1.0}  # of the load, at which memory is told
Found = list[tuple[str, float]]


@click.command()
@click.argument("index", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("queries", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--clients", default=50, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(min=0, min_open=True))
@click.option("--queries", "n", default=300, show_default=True, type=click.IntRange(1), help="How many of them, in turn.")
@click.option("--k", default=10, show_default=True, type=click.IntRange(1))
@click.option("--option", "options", multiple=True, help='Of the server: "together=16", "running=2".')
@click.option("--kill-every", type=click.FloatRange(min=0, min_open=True), help="Seconds between kills of one worker.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File to which the JSON line is added.")
def main(
    index: Path,
    queries: Path,
    clients: int,
    seconds: float,
    n: int,
    k: int,
    options: Sequence[str],
    kill_every: float | None,
    output: Path | None,
) -> None:
    """Print one JSON line."""
    with queries.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for _, line in zip(range(n), file, strict=False)]
    expected, alone = asked_alone(index, texts, k)
    with served(index, options) as (process, url):
        memory: list[int] = []
        with killed(process, kill_every) as kills:
            load = asyncio.run(under_load(url, texts, expected, k, clients, seconds, lambda: memory.append(rss(process))))
    line = {
        "clients": clients,
        "options": list(options),
        **({} if kill_every is None else {"killed": len(kills)}),
        "k": k,
        "threads": threads.count(),
        "code": code_version(),
        "alone ms": alone,
        **load.figures(),
        "rss MB": {
            **{when: round(memory[int(share * (len(memory) - 1))] / 1e6, 1) for when, share in MOMENTS.items()},
            "most": round(max(memory) / 1e6, 1),
        },
    }
    text = json.dumps(line)
    if output:
        with output.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    click.echo(text)


def asked_alone(index: Path, texts: Sequence[str], k: int) -> tuple[list[Found], dict[str, float]]:
    """What a retriever of this process finds, and the median milliseconds of a query, of which so many to encode it."""
    retriever = Retriever.open(index)
    retriever.search(texts[0], k)
    expected, whole, encoding = [], [], []
    for text in texts:
        start = time.perf_counter()
        hits = retriever.search(text, k)
        middle = time.perf_counter()
        retriever.pipeline.queries([text])
        whole.append(middle - start)
        encoding.append(time.perf_counter() - middle)
        expected.append([(hit.document_id, hit.score) for hit in hits])
    medians = {"search": whole, "of which encoding": encoding}
    return expected, {name: round(1e3 * float(np.median(values)), 3) for name, values in medians.items()}


@contextmanager
def served(index: Path, options: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server's process, and its address."""
    command = [sys.executable, "-m", "colbert_research", "serve", str(index), "--port", "0"]
    for name, _, value in (option.partition("=") for option in options):
        command += [f"--{name}", value]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            if not line.strip().rpartition(" ")[2].startswith("http://"):
                raise click.ClickException(line + process.stderr.read())
            Thread(target=process.stderr.read, daemon=True).start()  # so that no log fills the pipe
            yield process, line.split()[-1]
        finally:
            process.terminate()


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that work for a server, oldest first."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):
            if any("colbert_research.executors.worker" in part for part in child.cmdline()):
                found.append(child)
    return sorted(found, key=lambda child: child.create_time())


@contextmanager
def killed(process: subprocess.Popen[str], every: float | None) -> Iterator[list[int]]:
    """While it lasts, the oldest worker of a server is killed each so many seconds; yields the list of those killed."""
    kills: list[int] = []
    if every is None:
        yield kills
        return
    if not workers(process):
        raise click.UsageError("--kill-every: this server has no workers; give it some by --option shards=4")
    ended = Event()

    def kill() -> None:
        while not ended.wait(every):
            for worker in workers(process)[:1]:
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
                    kills.append(worker.pid)

    thread = Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield kills
    finally:
        ended.set()
        thread.join()


def rss(process: subprocess.Popen[str]) -> int:
    """Bytes that a process holds, its children included."""
    parent, total = psutil.Process(process.pid), 0
    for each in (parent, *parent.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += each.memory_info().rss
    return total


@dataclass
class Load:
    """What clients saw."""

    duration: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        """Latencies of answered requests, and how many were what."""
        times = self.milliseconds or [float("nan")]
        quantiles = {name: round(float(np.quantile(times, q)), 2) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
        return {
            "seconds": round(self.duration, 1),
            "requests/s": round(len(self.milliseconds) / self.duration, 1),
            "ms": {**quantiles, "most": round(max(times), 2)},
            "answers": dict(sorted(self.seen.items())),
        }


async def under_load(
    url: str, texts: Sequence[str], expected: Sequence[Found], k: int, clients: int, seconds: float, sampled: Any
) -> Load:
    """Let clients ask, each again as soon as it was answered, for some seconds; `sampled` is called about once a second."""
    load, turn = Load(), count()
    bodies = [json.dumps({"query": text, "k": k}).encode() for text in texts]
    start = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - start < seconds:
            try:
                await connected()
            except (OSError, asyncio.IncompleteReadError) as error:
                load.seen[type(error).__name__] += 1

    async def connected() -> None:
        at = urlsplit(url)
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        try:
            while time.perf_counter() - start < seconds:
                place = next(turn) % len(texts)
                begun = time.perf_counter()
                status, body = await asked(reader, writer, at.netloc, bodies[place])
                if status == 200:
                    load.milliseconds.append(1e3 * (time.perf_counter() - begun))
                    load.seen[judged(json.loads(body), expected[place])] += 1
                else:
                    load.seen[f"status {status}"] += 1
        finally:
            writer.close()

    async def sample() -> None:
        while True:
            sampled()
            await asyncio.sleep(1)

    sampling = asyncio.create_task(sample())
    await asyncio.gather(*(client() for _ in range(clients)))
    sampling.cancel()
    sampled()
    load.duration = time.perf_counter() - start
    return load


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of one request on an open connection."""
    head = f"POST /search HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    return int(lines[0].split()[1]), await reader.readexactly(int(headers["content-length"]))


def judged(reply: dict[str, Any], expected: Found) -> str:
    """Whether an answer is what it should be."""
    if reply["answered"] < 1:
        return "in part"
    found = [(hit["id"], hit["score"]) for hit in reply["results"][0]["hits"]]
    if found == expected:
        return "identical"
    scores, wanted = (np.array([score for _, score in each]) for each in (found, expected))
    alike = len(found) == len(expected) and bool(np.all(np.abs(scores - wanted) <= ROUNDING))
    return "rounded" if alike and _swaps(found, expected) else "wrong"


def _swaps(found: Found, expected: Found) -> bool:
    """Whether documents that are not where they were expected are those of almost the same score, or of the last place's."""
    scores, last = dict(expected), expected[-1][1]
    return all(abs(scores.get(document, last) - score) <= ROUNDING for document, score in found)


if __name__ == "__main__":
    main()
