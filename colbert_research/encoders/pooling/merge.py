"""Poolers that merge: tokens are put into groups, and the mean of a group stands for it."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.encoders.pooling.base import Document, Proportional, State

Labels = NDArray[np.int64]
"""`(n,)`: the group of each token, from 0; no group is empty."""


class Merging(Proportional, ABC):
    """Base of the poolers that merge: `_groups` is what one writes.

    `merged`: how long a merged vector is. `unit`: one, as all others are (colpali; Sentence Transformers since 6.2). `mean`:
    what the mean comes to, which is less the more its members differ, so that it answers with lower scores (Stanford's
    implementation, PyLate, next-plaid). Under a codec that L2-normalises vectors again the two give the same.
    """

    merged: Literal["unit", "mean"] = "unit"

    def _pool(self, document: Document, kept: int, state: State, seed: int) -> Document:
        free = document.part(slice(self.protected, None))
        return merge(free, self._groups(free, kept, seed), unit=self.merged == "unit")

    @abstractmethod
    def _groups(self, document: Document, groups: int, seed: int) -> Labels:
        """`groups` groups of a document's tokens; at least 1 and fewer than the tokens."""


class SequentialPoolingConfig(Merging):
    """Neighbours in the text are merged, in groups as equal in size as can be; the control that looks at no vector."""

    kind: Literal["sequential"] = "sequential"

    def _groups(self, document: Document, groups: int, seed: int) -> Labels:
        n_tokens = len(document.token_ids)
        return np.arange(n_tokens, dtype=np.int64) * groups // n_tokens


def merge(document: Document, labels: Labels, *, unit: bool) -> Document:
    """One token for each group, in the order of the groups' first members.

    A group's vector is its members' mean, L2-normalised if `unit` says so; its token id is that of the member nearest the
    mean, the first of several. A member alone keeps its bits; members that cancel out get the vector of the one whose id they
    get.
    """
    vectors = document.vectors.astype(np.float64)
    _, first, labels = np.unique(labels, return_index=True, return_inverse=True)
    labels = np.argsort(np.argsort(first))[labels]
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    counts = np.bincount(labels)[:, None]
    means = np.add.reduceat(vectors[order], starts) / counts
    distances = np.square(vectors - means[labels]).sum(axis=1)
    nearest = np.lexsort((distances, labels))[starts]
    if unit:
        means = np.where(means.any(axis=1, keepdims=True), unit_vectors(means), vectors[nearest])
    members = document.part(nearest)
    return members._replace(vectors=np.where(counts == 1, members.vectors, means.astype(np.float32)))


def unit_vectors(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Vectors `(n, dim)` L2-normalised, in float64; zeros stay zeros."""
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
