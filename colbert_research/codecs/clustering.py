"""Centroids: how many, and k-means by faiss, seeded."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def plaid_centroid_count(n_tokens: int) -> int:
    """The largest power of two that is at most `16 * sqrt(n_tokens)` and at most `n_tokens`; at least 1.

    Source: ColBERTv2 (Santhanam et al. 2022), section 3.3; the second bound lets tiny collections work.
    """
    if n_tokens < 1:
        raise ValueError("a collection without tokens has no centroids")
    return 2 ** int(np.log2(max(1.0, min(16 * np.sqrt(n_tokens), n_tokens))))


def kmeans(sample: NDArray[np.float32], k: int, *, iterations: int, seed: int) -> NDArray[np.float32]:
    """`k` centroids `(k, dim)` of length one of a sample `(n, dim)`, `n >= k`, by faiss, assigned by dot product.

    The same sample and seed give the same bytes on the same machine. Centroids that end with length zero become the first
    vectors of the sample. Raises ValueError when there are fewer vectors than centroids.
    """
    import faiss

    n, dim = sample.shape
    if n < k:
        raise ValueError(f"{k} centroids need at least as many token vectors; given {n}")
    if k == n:
        return _unit(sample)
    settings: dict[str, Any] = {"niter": iterations, "seed": seed, "spherical": True, "verbose": False}
    # our caller decides the sample: faiss shall neither warn of few points nor sample again
    settings |= {"min_points_per_centroid": 1, "max_points_per_centroid": n}
    clustering = faiss.Kmeans(dim, k, **settings)
    clustering.train(np.ascontiguousarray(sample, np.float32))
    centroids: NDArray[np.float32] = np.array(clustering.centroids, np.float32).reshape(k, dim)
    dead = np.flatnonzero(~(np.linalg.norm(centroids, axis=1) > 0))
    centroids[dead] = sample[: len(dead)]
    return _unit(centroids)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)
