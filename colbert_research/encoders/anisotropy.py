"""Anisotropy: how far the token vectors of a collection point the same way."""

import numpy as np

from colbert_research.ragged import Ragged, sample_rows

SAMPLE = 20_000
"""Tokens that are looked at; the pairs among them are 2 * 10^8."""


def anisotropy(vectors: Ragged, *, seed: int) -> float | None:
    """The mean cosine of two tokens drawn at random: 0 where directions are uniform, 1 where all are the same.

    Of all pairs of different tokens in a seeded sample of `SAMPLE`, in one pass: their sum is the squared length of the sum of
    the unit vectors, less the tokens with themselves. A vector of length 0 has the cosine 0 with every other. None where there
    are fewer than two tokens. Source: Ethayarajh 2019 (arXiv 1909.00512).
    """
    sample = sample_rows(vectors, SAMPLE, seed=seed).astype(np.float64)
    if len(sample) < 2:
        return None
    lengths = np.linalg.norm(sample, axis=1, keepdims=True)
    unit = sample / np.where(lengths > 0, lengths, 1)
    total = unit.sum(axis=0)
    return float((total @ total - np.square(unit).sum()) / (len(unit) * (len(unit) - 1)))
