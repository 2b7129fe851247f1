"""Packed inputs for the suites of CUDA kernels, among poison; and MaxSim spelled out once more, in float64."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from colbert_research.ragged import offsets_of

EPS = float(np.finfo(np.float32).eps)
GUARD = 32  # rows of NaN before and after


@dataclass(frozen=True)
class Case:
    """Query and document tokens as tensors on the CPU, of the type to be tested; lengths of each item."""

    queries: torch.Tensor
    documents: torch.Tensor
    query_lengths: list[int]
    document_lengths: list[int]

    @property
    def query_offsets(self) -> np.ndarray:
        return offsets_of(self.query_lengths)

    @property
    def document_offsets(self) -> np.ndarray:
        return offsets_of(self.document_lengths)

    @property
    def longest(self) -> int:
        return max(self.query_lengths, default=0)


def case(rng, query_lengths, document_lengths, dim: int, kind: str, *, whole: bool = False) -> Case:
    """Tokens of length about one, or of whole numbers up to 4, whose products and sums every type holds exactly."""

    def tokens(lengths: list[int]) -> torch.Tensor:
        shape = (int(sum(lengths)), dim)
        values = rng.integers(-4, 5, shape).astype(np.float32) if whole else rng.standard_normal(shape).astype(np.float32)
        if not whole:
            values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
        return among_poison(torch.from_numpy(values).to(getattr(torch, kind)))

    return Case(tokens(query_lengths), tokens(document_lengths), query_lengths, document_lengths)


def among_poison(rows: torch.Tensor) -> torch.Tensor:
    """The same rows with NaNs before and after them in memory."""
    room = torch.full((len(rows) + 2 * GUARD, *rows.shape[1:]), torch.nan, dtype=rows.dtype)
    room[GUARD : GUARD + len(rows)] = rows
    return room[GUARD : GUARD + len(rows)]


def oracle(given: Case) -> tuple[np.ndarray, np.ndarray]:
    """Scores `(n_queries, n_documents)` float64 and the first best tokens `(n_documents, query rows)`."""
    similarities = given.queries.double().numpy() @ given.documents.double().numpy().T
    asked, stored = given.query_offsets, given.document_offsets
    maxima = np.full((similarities.shape[0], len(stored) - 1), -np.inf)
    argmax = np.full((len(stored) - 1, similarities.shape[0]), -1)
    for d, (low, high) in enumerate(pairwise(stored)):
        if high > low:
            maxima[:, d] = similarities[:, low:high].max(axis=1)
            argmax[d] = similarities[:, low:high].argmax(axis=1)
    scores = [maxima[low:high].sum(axis=0) for low, high in pairwise(asked)]
    return np.array(scores).reshape(len(asked) - 1, len(stored) - 1), argmax


def bound(given: Case) -> float:
    """How far a score may be off, for L2-normalised tokens (dense.py has the error of a dot product).

    n of them are summed, and n sums of at most n are rounded, by half of eps each. Lengths are one but for a bfloat16's
    rounding, 2^-8 for each of two.
    """
    dim, n = given.documents.shape[1], max(given.longest, 1)
    product = (3 * dim + 6 if given.documents.dtype == torch.float32 else 2 * dim) * EPS
    return (n * product + n * n * EPS / 2) * (1 + 2**-6)
