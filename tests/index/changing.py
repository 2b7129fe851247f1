"""Small collections to build an index of and to change it with."""

import numpy as np

from colbert_research.codecs import ResidualConfig
from colbert_research.data import Collection
from colbert_research.ragged import Ragged, offsets_of

DOCUMENTS, DIM = 12, 16
CODEC = ResidualConfig(nbits=4, centroids=8)


def more(start: int, n: int, *, version: int = 0) -> tuple[Collection, Ragged]:
    """Documents `d<start>` and so on, with texts and token vectors that follow from their numbers."""
    rng = np.random.default_rng([start, n, version])
    lengths = rng.integers(1, 9, n)
    values = rng.standard_normal((int(lengths.sum()), DIM)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    numbers = range(start, start + n)
    collection = Collection.from_texts(
        [f"text {i} version {version}" for i in numbers],
        ids=[f"d{i}" for i in numbers],
        metadata=[{"version": version} for _ in numbers],
    )
    return collection, Ragged(values, offsets_of(lengths))


def first() -> tuple[Collection, Ragged]:
    return more(0, DOCUMENTS)
