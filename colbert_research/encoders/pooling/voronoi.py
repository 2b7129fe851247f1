"""Voronoi pruning: a token matters as much as the part of the sphere of query vectors that only it answers well."""

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.encoders.pooling.base import Document, State
from colbert_research.encoders.pooling.prune import Pruning


class VoronoiPruningConfig(Pruning):
    """Leaves out, one by one, the token whose loss would lower MaxSim least for a query vector drawn from the whole sphere.

    A token answers the query vectors of its Voronoi cell. Without it they are answered by their runners-up, so its importance
    is the mean over the sphere of best minus second best, within its cell: estimated by Monte Carlo from `samples` directions,
    the same for all documents, and kept exact for these while tokens are removed. Protected tokens stay, and answer. Of tokens
    of equal importance, the last one is removed first. Attention and queries are not needed.

    Source: Kankanampati, Zong, Tomeh, Piwowarski and Le Roux 2026 (arXiv 2603.09933).
    """

    kind: Literal["prune_voronoi"] = "prune_voronoi"
    samples: int = Field(2048, ge=1, description="directions drawn; a cell that none of them hits counts nothing")

    def _importance(self, document: Document, kept: int, state: State, seed: int) -> NDArray[Any]:
        """The step at which each token is removed, later for the more important."""
        similarities = directions(self.samples, document.vectors.shape[1], seed) @ document.vectors.T
        n_removed = len(document.vectors) - self.protected - kept
        importance = np.full(len(document.vectors), n_removed)
        importance[removed(similarities, n_removed, protected=self.protected)] = np.arange(n_removed)
        return importance


@lru_cache(maxsize=2)
def directions(samples: int, dim: int, seed: int) -> NDArray[np.float32]:
    """`(samples, dim)` float32 directions, uniform on the sphere; not to be written to."""
    gaussian = np.random.default_rng(seed).standard_normal((samples, dim))
    return (gaussian / np.linalg.norm(gaussian, axis=1, keepdims=True)).astype(np.float32)


def removed(similarities: NDArray[np.float32], n_removed: int, *, protected: int) -> NDArray[np.int64]:
    """The `n_removed` tokens to leave out, in the order in which they are removed; overwrites what is given.

    `similarities`: `(directions, tokens)`. `n_removed` leaves at least one token. A step looks again only at the directions
    whose best or second best token was removed.
    """
    n_tokens = similarities.shape[1]
    best, second, gap = _two_best(similarities)
    chosen = np.empty(n_removed, np.int64)
    for step in range(n_removed):
        loss = np.bincount(best, weights=gap, minlength=n_tokens)
        loss[:protected] = loss[chosen[:step]] = np.inf
        chosen[step] = token = n_tokens - 1 - loss[::-1].argmin()  # the last of equal ones
        similarities[:, token] = -np.inf
        again = np.flatnonzero((best == token) | (second == token))
        best[again], second[again], gap[again] = _two_best(similarities[again])
    return chosen


def _two_best(similarities: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each row of `(directions, tokens)` its best token, the second best, and by how much that is less."""
    rows = np.arange(len(similarities))
    best = similarities.argmax(axis=1)
    others = similarities.copy()
    others[rows, best] = -np.inf
    second = others.argmax(axis=1)
    return best, second, similarities[rows, best] - others[rows, second]
