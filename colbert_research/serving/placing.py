"""Which documents are which shard's, and which workers answer for it."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from colbert_research.index import Index
from colbert_research.search.decoded import token_offsets
from colbert_research.settings import ConfigError

Range = tuple[int, int]
"""Positions of documents: the first, and the one behind the last."""


def cut(index: Index, shards: int) -> list[Range]:
    """The documents of each of some shards, about as many tokens in each: whole segments where there are as many as shards.

    Raises ConfigError for more shards than the index has documents.
    """
    if not 1 <= shards <= index.n_positions:
        raise ConfigError(f"shards={shards}: an index of {index.n_positions} documents is cut into 1 to {index.n_positions}")
    places = index.starts if len(index.segments) >= shards else np.arange(index.n_positions + 1)
    tokens = token_offsets(index)[places]
    cuts = [0]
    for number in range(1, shards):
        nearest = int(np.searchsorted(tokens, tokens[-1] * number / shards))
        cuts.append(min(max(nearest, cuts[-1] + 1), len(places) - 1 - shards + number))
    at = places[[*cuts, len(places) - 1]].tolist()
    return list(pairwise(at))


def homes(where: Sequence[str], shards: int, replicas: int) -> list[list[int]]:
    """For each shard, the numbers of the workers that answer for it: on different machines as far as there are some, and about
    as many shards for each worker. `where`: the machine of each worker."""
    loads: NDArray[np.int64] = np.zeros(len(where), np.int64)
    found: list[list[int]] = []
    for _ in range(shards):
        chosen: list[int] = []
        for _ in range(replicas):
            taken = {where[worker] for worker in chosen}
            left = [worker for worker in range(len(where)) if worker not in chosen]
            chosen.append(min(left, key=lambda worker: (where[worker] in taken, loads[worker], worker)))
            loads[chosen[-1]] += 1
        found.append(chosen)
    return found
