"""The CUDA kernels on a GPU: the machine's own limits, then every case of the goals, beside other kernels if installed.

    python experiments/benchmarks/gpu.py [--case NAME]... [--output experiments/gpu/NAME.jsonl]

Writes JSON lines: the machine first (date, GPU, driver, versions, commit, measured copy bandwidth and rate of bfloat16
products), then a line for each case and engine. Times are medians over repeats: `ms` of a captured graph of several calls on
documents that do not fit into the second level of cache together, `eager_ms` of the same without a graph, `host_us` until a
call returns; `timed` tells which of the two the rates are of, and `not_captured` why there is no graph. `error` is the largest
distance from float64 on a sample. What searches, over codes and over an index, is in gpu_search.py, what selects in
gpu_select.py.

Each case comes twice: with documents of one length, where padding costs nothing, and `ragged`, with as many tokens together in
documents of 1 to nearly twice as many. The engines `late-interaction-kernels` and, for one length, `flash-maxsim` take part
where they are installed.

Lines are written as they come. A case that fails leaves a line that tells of it, and the others are measured still.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from gpu_search import SEARCHES
from gpu_select import SELECTIONS, measure_selection
from gpu_timer import Timer, ms_of, on_cuda

from colbert_research import kernels
from colbert_research.artifacts import write_text
from colbert_research.experiment.origin import code_version, package_versions
from colbert_research.kernels.cuda import autograd
from colbert_research.ragged import Ragged, offsets_of

CACHE = 256 * 2**20  # bytes of documents to go round, more than any second level of cache holds
ROWS = 2**19  # of token vectors that are drawn together
SAMPLE = 64  # documents that are scored in float64 too


@dataclass(frozen=True)
class Case:
    """So many queries with so many documents, each of so many tokens; `ragged`: of so many in the mean."""

    name: str
    queries: int
    query_tokens: int
    documents: int
    tokens: int
    dim: int = 128
    kind: str = "float16"
    train: bool = False
    ragged: bool = False

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document. Ragged ones come in pairs, one as much longer as the other is shorter."""
        if not self.ragged:
            return np.full(self.documents, self.tokens)
        rng = np.random.default_rng(7)
        fewer = rng.integers(1, self.tokens + 1, self.documents // 2)
        return rng.permutation(np.concatenate([fewer, 2 * self.tokens - fewer, [self.tokens] * (self.documents % 2)]))

    @property
    def bytes(self) -> int:
        """Of the documents, read once."""
        return self.documents * self.tokens * self.dim * torch.empty(0, dtype=getattr(torch, self.kind)).element_size()

    @property
    def flop(self) -> int:
        """Of the scores; gradients need few more."""
        return 2 * self.queries * self.query_tokens * self.documents * self.tokens * self.dim


EQUAL = (
    Case("1 x 100k x 128", 1, 32, 100_000, 128),
    Case("1 x 10k x 300", 1, 32, 10_000, 300),
    Case("1 x 1k x 128", 1, 32, 1_000, 128),
    Case("1 x 1k x 300", 1, 32, 1_000, 300),
    Case("1 x 100k x 128, bfloat16", 1, 32, 100_000, 128, kind="bfloat16"),
    Case("1 x 100k x 128, float32", 1, 32, 100_000, 128, kind="float32"),
    Case("1 x 100k x 128, 384 wide", 1, 32, 100_000, 128, dim=384),
    Case("4 x 100k x 128", 4, 32, 100_000, 128),
    Case("32 x 100k x 128", 32, 32, 100_000, 128),
    Case("64 x 100k x 128", 64, 32, 100_000, 128),
    Case("training, 64 x 64 x 180", 64, 32, 64, 180, train=True),
    Case("training, 64 x 512 x 180", 64, 32, 512, 180, train=True),
)
CASES = tuple(twin for case in EQUAL for twin in (case, replace(case, name=f"{case.name}, ragged", ragged=True)))


def machine(timer: Timer, device: str, size: int = 2**30) -> dict[str, Any]:
    """The GPU, and what of it was measured now: bytes read and written a second, and bfloat16 products."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    side = max(16, int((size / 16) ** 0.5))
    square = torch.randn(side, side, device=device).bfloat16()
    copy, product = timer([lambda: target.copy_(source)]), timer([lambda: square @ square])
    about: dict[str, Any] = {"gpu": "none", "driver": None, "cuda": torch.version.cuda}
    if device.startswith("cuda"):
        import cupy

        about |= {"gpu": torch.cuda.get_device_name(device), "driver": cupy.cuda.runtime.driverGetVersion()}
    return {
        "case": "machine",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "versions": package_versions(),
        "code": code_version(),
        "copy_gb_s": 2 * size / ms_of(copy) / 1e6,
        "copy_timed": copy["timed"],
        "product_tflop_s": 2 * side**3 / ms_of(product) / 1e9,
        "product_timed": product["timed"],
    }


def measure(case: Case, limits: dict[str, Any], timer: Timer, device: str) -> Iterator[dict[str, Any]]:
    """A line for each engine."""
    generator = torch.Generator(device).manual_seed(7)
    kind = getattr(torch, case.kind)

    def unit(rows: int) -> torch.Tensor:
        drawn = torch.empty(rows, case.dim, dtype=kind, device=device)
        for part in drawn.split(ROWS):  # float32 copies of a part at a time
            part.copy_(torch.nn.functional.normalize(torch.randn(part.shape, device=device, generator=generator), dim=-1))
        return drawn.requires_grad_(case.train)

    queries = unit(case.queries * case.query_tokens)
    rounds = 1 if case.train else max(1, min(32, CACHE // case.bytes))
    documents = [unit(case.documents * case.tokens) for _ in range(rounds)]
    weights = torch.rand(case.queries, case.documents, device=device, generator=generator)
    floor = max(case.bytes / limits["copy_gb_s"] / 1e6, case.flop / limits["product_tflop_s"] / 1e9)
    for engine, score in engines(case, device).items():
        calls = [step(score, queries, part, weights, case.train) for part in documents]
        timed = timer(calls)
        ms = ms_of(timed)
        yield {
            **asdict(case),
            "case": case.name,
            "engine": engine,
            **timed,
            "bytes": case.bytes,
            "flop": case.flop,
            "floor_ms": floor,
            "of_floor": floor / ms,
            "gb_s": case.bytes / ms / 1e6,
            "tflop_s": case.flop / ms / 1e9,
            "tokens_s": case.documents * case.tokens / ms * 1e3,
            "error": error(case, score(queries, documents[0]), queries, documents[0]),
        }


def engines(case: Case, device: str) -> dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """Scores `(n_queries, n_documents)` of queries `(query rows, dim)` with documents `(document rows, dim)`, by engine."""
    query_offsets = torch.arange(case.queries + 1, device=device) * case.query_tokens
    offsets = torch.from_numpy(offsets_of(case.lengths)).to(device)

    def ours(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
        return autograd.maxsim(queries, query_offsets, documents, offsets, longest_query=case.query_tokens)

    def padded(score: Callable[..., torch.Tensor]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        shapes = (case.queries, case.query_tokens, case.dim), (case.documents, case.tokens, case.dim)
        return lambda queries, documents: score(queries.view(shapes[0]), documents.view(shapes[1]))

    found = {"ours": ours}
    if device.startswith("cuda") and find_spec("late_interaction_kernels"):
        if case.ragged:
            packed = import_module("late_interaction_kernels.varlen").maxsim_varlen
            ends, most = (query_offsets.int(), offsets.int()), (case.query_tokens, int(case.lengths.max()))
            found["late-interaction-kernels"] = lambda queries, documents: packed(queries, documents, *ends, *most)
        else:
            found["late-interaction-kernels"] = padded(import_module("late_interaction_kernels").maxsim)
    if device.startswith("cuda") and find_spec("flash_maxsim") and not (case.train or case.ragged):
        found["flash-maxsim"] = padded(import_module("flash_maxsim").flash_maxsim_batched)
    return found


def step(
    score: Callable[..., torch.Tensor], queries: torch.Tensor, documents: torch.Tensor, weights: torch.Tensor, train: bool
) -> Callable[[], Any]:
    """One call of an engine: scores, and their gradients where it trains."""
    if not train:
        return lambda: score(queries, documents)
    return lambda: torch.autograd.grad(score(queries, documents), [queries, documents], weights)


def error(case: Case, scores: torch.Tensor, queries: torch.Tensor, documents: torch.Tensor) -> float:
    """The largest distance from float64 over the first documents."""
    offsets = offsets_of(case.lengths[:SAMPLE])
    few = Ragged(documents[: offsets[-1]].detach().float().cpu().numpy(), offsets)
    asked = Ragged(queries.detach().float().cpu().numpy(), offsets_of([case.query_tokens] * case.queries))
    exact = kernels.maxsim(asked, few, backend="reference")
    return float(np.abs(scores[:, : len(few)].detach().float().cpu().numpy() - exact).max())


Measurement = Callable[[dict[str, Any], Timer, str], Iterator[dict[str, Any]]]
"""From the machine's limits, a timer and a device to lines."""

MEASUREMENTS: dict[str, Measurement] = {
    **{case.name: partial(measure, case) for case in CASES},
    **{search.name: search.measure for search in SEARCHES},
    **{name: partial(measure_selection, name, task) for name, task in SELECTIONS.items()},
}


@click.command()
@click.option("--case", "wanted", multiple=True, help="Names of cases; all by default.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="By default experiments/gpu/<date>-<gpu>.jsonl."
)
def main(wanted: Sequence[str], output: Path | None) -> None:
    """Print the lines and write them, each when it is there."""
    for name in wanted:
        if name not in MEASUREMENTS:
            raise click.ClickException(f"there is no case {name!r}; valid: {', '.join(MEASUREMENTS)}")
    if not torch.cuda.is_available():
        raise click.ClickException("there is no CUDA device here; nothing was measured")
    limits = machine(on_cuda, "cuda:0")
    name = f"{limits['date'][:10]}-{limits['gpu'].replace(' ', '-')}.jsonl"
    output = output or Path(__file__).resolve().parents[1] / "gpu" / name
    output.parent.mkdir(parents=True, exist_ok=True)
    failed = write_lines(output, limits, {name: MEASUREMENTS[name] for name in wanted or MEASUREMENTS}, on_cuda, "cuda:0")
    click.echo(f"written to {output}")
    if failed:
        raise click.ClickException(f"{len(failed)} cases failed: {', '.join(failed)}; what was measured is in {output}")


def write_lines(
    output: Path, limits: dict[str, Any], measurements: dict[str, Measurement], timer: Timer, device: str
) -> list[str]:
    """Print the lines and write all so far whenever one comes; the cases that failed, of which a line tells, too."""
    lines, failed = [], []

    def add(line: dict[str, Any]) -> None:
        lines.append(json.dumps(line))
        click.echo(lines[-1])
        write_text(output, "".join(line + "\n" for line in lines))

    add(limits)
    for name, measurement in measurements.items():
        try:
            for line in measurement(limits, timer, device):
                add(line)
        except (RuntimeError, ValueError, TypeError, AttributeError, ImportError) as raised:  # no memory, another's kernel
            failed.append(name)
            add({"case": name, "failed": f"{type(raised).__name__}: {raised}"})
        torch.cuda.empty_cache()
    return failed


if __name__ == "__main__":
    main()
