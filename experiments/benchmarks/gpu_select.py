"""The cases of gpu.py that choose and assign, beside what torch has for the same.

`floor_ms` is the time of reading and writing once what has to be, by the measured copy bandwidth. `same` tells whether the
result is that of the host's kernel, to the bit; for torch, whose sums and ties are its own, it is null.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gpu_timer import Timer, ms_of

from colbert_research import kernels
from colbert_research.kernels import cuda_backend
from colbert_research.kernels.cuda import interaction, products, tally, topk
from colbert_research.kernels.cuda.arrays import place_of
from colbert_research.ragged import Ragged

PIECE = 2**24  # scores that are counted together


@dataclass(frozen=True)
class Task:
    """`bytes` to be read and written at least, operations, and by engine a call; `expected` is ours, computed on the host.

    `waits`: calls wait for the device, so that there is no graph of them.
    """

    bytes: int
    flop: int
    engines: dict[str, Callable[[], Any]]
    expected: Callable[[], np.ndarray]
    waits: bool = False


def best_of(device: str, n: int, k: int = 1000) -> Task:
    """Scores as sums of 32 maxima are: most of them share their first bits. They were counted when they were made."""
    scores = (20 + 2 * torch.randn(n, generator=_seeded(device), device=device)).round(decimals=4)
    counted = tally.tally_for(1, 32, place_of(scores))
    for part in scores.split(PIECE):
        steps = (part.view(torch.int32) >> tally.STEP_BITS) + 2 ** (31 - tally.STEP_BITS) - counted.first
        counted.counts[0] += torch.bincount(steps.clamp(0, topk.BINS - 1), minlength=topk.BINS)
    engines = {"ours": lambda: tally.best(scores[None], counted, k)[0][0], "torch": lambda: scores.topk(k)}
    return Task(4 * n, n, engines, lambda: kernels.topk(scores.cpu().numpy(), k))


def greatest_of(device: str, rows: int, width: int, n: int) -> Task:
    scores = torch.randn(rows, width, generator=_seeded(device), device=device)
    engines = {"ours": lambda: topk.greatest(scores, n), "torch": lambda: scores.topk(n)}
    return Task(4 * rows * width, rows * width, engines, lambda: kernels.greatest(scores.cpu().numpy(), n))


def union_of(device: str, lists: int, length: int, n_documents: int) -> Task:
    values = torch.randint(n_documents, (lists * length,), generator=_seeded(device), device=device, dtype=torch.int32)
    packed, chosen = Ragged(values, np.arange(lists + 1) * length), np.arange(lists)
    engines = {"ours": lambda: cuda_backend.union(packed, chosen, n_documents), "torch": lambda: torch.unique(values)}

    def expected() -> np.ndarray:
        return kernels.union(packed.map(lambda there: there.cpu().numpy()), chosen, n_documents)

    return Task(4 * lists * length + n_documents, lists * length, engines, expected, waits=True)


def interaction_of(device: str, documents: int, tokens: int, centroids: int, query_tokens: int = 32) -> Task:
    scores = torch.randn(query_tokens, centroids, generator=_seeded(device), device=device)
    ids = torch.randint(centroids, (documents * tokens,), generator=_seeded(device), device=device, dtype=torch.int32)
    offsets = torch.arange(documents + 1, device=device) * tokens

    def expected() -> np.ndarray:
        stored = Ragged(ids.cpu().numpy(), offsets.cpu().numpy())
        return kernels.centroid_interaction(scores.cpu().numpy(), stored, backend="cpu")

    engines = {"ours": lambda: interaction.centroid_interaction(scores, ids, offsets)}
    return Task(4 * documents * (tokens + 1), documents * tokens * query_tokens, engines, expected)


def products_of(device: str, tokens: int, rows: int, dim: int = 128) -> Task:
    query, other = (torch.randn(n, dim, generator=_seeded(device), device=device) for n in (tokens, rows))
    engines = {"ours": lambda: products.dot_products(query, other), "torch": lambda: query @ other.T}
    size = 4 * (rows * dim + tokens * rows)
    return Task(
        size,
        2 * tokens * rows * dim,
        engines,
        lambda: kernels.dot_products(query.cpu().numpy(), other.cpu().numpy(), backend="cpu"),
    )


def assignment_of(device: str, n: int, centroids: int, dim: int = 128) -> Task:
    vectors, others = (torch.randn(size, dim, generator=_seeded(device), device=device) for size in (n, centroids))
    engines = {"ours": lambda: products.assign(vectors, others), "torch": lambda: (vectors @ others.T).argmax(dim=1)}
    return Task(
        4 * dim * (n + centroids),
        2 * n * centroids * dim,
        engines,
        lambda: kernels.assign(vectors.cpu().numpy(), others.cpu().numpy(), backend="cpu"),
    )


SELECTIONS: dict[str, Callable[[str], Task]] = {
    **{f"1000 of {n:,}": lambda device, n=n: best_of(device, n) for n in (10**4, 10**5, 10**6, 10**7, 10**8)},
    "8 of 65,536 for 32 rows": lambda device: greatest_of(device, 32, 65_536, 8),
    "256 lists of 4,000 among 10,000,000": lambda device: union_of(device, 256, 4_000, 10**7),
    "centroids of 100,000 x 128": lambda device: interaction_of(device, 100_000, 128, 65_536),
    "centroids of 1,000,000 x 80": lambda device: interaction_of(device, 1_000_000, 80, 65_536),
    "32 x 65,536 products": lambda device: products_of(device, 32, 65_536),
    "100,000 to 65,536 centroids": lambda device: assignment_of(device, 100_000, 65_536),
}


def _seeded(device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(7)


def measure_selection(
    name: str, task_on: Callable[[str], Task], limits: dict[str, Any], timer: Timer, device: str
) -> Iterator[dict[str, Any]]:
    """A line for each engine."""
    task = task_on(device)
    expected, floor = task.expected(), task.bytes / limits["copy_gb_s"] / 1e6
    for engine, call in task.engines.items():
        timed = timer([call], waits=task.waits)
        ms = ms_of(timed)
        found = call()
        same = bool(np.array_equal(found.cpu().numpy(), expected)) if engine == "ours" else None
        rates = {"gb_s": task.bytes / ms / 1e6, "tflop_s": task.flop / ms / 1e9}
        work = {"bytes": task.bytes, "flop": task.flop, "floor_ms": floor, "of_floor": floor / ms}
        yield {"case": name, "engine": engine, **timed, **work, **rates, "same": same}
