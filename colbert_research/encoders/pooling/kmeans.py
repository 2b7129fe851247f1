"""k-means of a document's tokens on the sphere."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.encoders.pooling.base import Document, document_rng
from colbert_research.encoders.pooling.merge import Labels, Merging, unit_vectors


class KMeansPoolingConfig(Merging):
    """Clusters around mean directions: Lloyd's iteration by cosine, begun with tokens drawn at random, seeded.

    It ends after `iterations`, or when no token moves. A cluster that loses all its tokens is given the one that lies farthest
    from its own mean. Source: token pooling (Clavié, Chaffin and Adams 2024) compares it with Ward's clustering.
    """

    kind: Literal["kmeans"] = "kmeans"
    iterations: int = Field(10, ge=1)

    def _groups(self, document: Document, groups: int, seed: int) -> Labels:
        unit = unit_vectors(document.vectors)
        start = document_rng(document, seed).choice(len(unit), groups, replace=False)
        centroids, labels = unit[np.sort(start)], np.full(len(unit), -1)
        for _ in range(self.iterations):
            similarities = unit @ centroids.T
            before, labels = labels, similarities.argmax(axis=1)
            fill_empty(labels, similarities.max(axis=1), groups)
            if np.array_equal(before, labels):
                break
            members = np.zeros((groups, len(unit)))
            members[labels, np.arange(len(unit))] = 1
            centroids = unit_vectors(members @ unit)
        return labels


def fill_empty(labels: Labels, similarities: NDArray[np.float64], groups: int) -> None:
    """Move, in place, tokens of the lowest similarity to their own centroid into empty groups; no group is emptied by it."""
    counts = np.bincount(labels, minlength=groups)
    farthest = iter(np.argsort(similarities, kind="stable").tolist())
    for empty in np.flatnonzero(counts == 0).tolist():
        token = next(token for token in farthest if counts[labels[token]] > 1)
        counts[labels[token]] -= 1
        labels[token], counts[empty] = empty, 1
