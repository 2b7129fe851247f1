"""Centroids: how many, from which tokens, by which method, and k-means by faiss, seeded."""

import io
from contextlib import redirect_stdout
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, field_validator

from colbert_research import kernels
from colbert_research.codecs.token_aware import token_aware
from colbert_research.config import Config
from colbert_research.ragged import float_rows, unfit_row
from colbert_research.settings import ConfigError

HASHED_ROWS = 16_384
HELD_OUT_SHARE, HELD_OUT_LEAST, HELD_OUT_MOST = 0.05, 4096, 50_000


class Clustering(Config):
    """How the centroids of a collection are made; codecs that agree in these settings share one clustering.

    `centroids` by number or by the formula of PLAID; k-means of `iterations` on a sample, of all tokens together or of the
    tokens of each id (see `codecs.token_aware`).
    """

    centroids: int | Literal["plaid"] = Field("plaid", description="K, or the largest power of two <= 16 sqrt(tokens)")
    iterations: int = Field(4, ge=1)
    points_per_centroid: int = Field(64, ge=1, description="tokens sampled for k-means, for each centroid")
    method: Literal["kmeans", "token_aware"] = "kmeans"

    @field_validator("centroids", mode="wrap")
    @classmethod
    def _number_or_formula(cls, given: Any, validate: ValidatorFunctionWrapHandler) -> int | str:
        try:
            centroids: int | str = validate(given)
        except ValidationError:
            centroids = 0
        if isinstance(centroids, int) and centroids < 1:
            raise ValueError(f"give a whole number from 1, or `plaid` for the formula; given {given!r}")
        return centroids

    def n_centroids(self, n_tokens: int) -> int:
        """K for a collection of `n_tokens`. Raises ConfigError when a number was asked for that the collection lacks."""
        if self.centroids == "plaid":
            return plaid_centroid_count(n_tokens)
        if self.centroids > n_tokens:
            raise ConfigError(
                f"codec.centroids={self.centroids}, but the collection has {n_tokens} tokens; give a number from 1 to that, "
                "or `plaid` for the formula"
            )
        return self.centroids

    def sample_size(self, n_tokens: int) -> int:
        """Tokens that `cluster` wants: `points_per_centroid` for each centroid."""
        return min(n_tokens, self.n_centroids(n_tokens) * self.points_per_centroid)

    def cluster(
        self, sample: NDArray[np.float32], token_ids: NDArray[np.int32] | None = None, *, n_tokens: int, seed: int
    ) -> NDArray[np.float32]:
        """L2-normalised centroids `(K, dim)` float32, from a sample `(n, dim)` less the tokens that `hold_out` keeps back.

        `token_ids` `(n,)`: of the sample's tokens; k-means does without. Raises ConfigError where the method needs them.
        """
        sample, k = np.asarray(sample, np.float32), self.n_centroids(n_tokens)
        if unfit_row(sample) is not None:
            raise ValueError(f"token vector {unfit_row(sample)} of the sample is not finite (NaN, infinite or too long)")
        trained, _ = _held_out(len(sample), seed=seed)
        if self.method == "kmeans":
            return kmeans(float_rows(sample, trained), k, iterations=self.iterations, seed=seed)
        if token_ids is None:
            raise ConfigError(
                "codec.method=token_aware needs the id of every token, but none were given: hand `token_ids` to `build_index` "
                "or `cluster`, or choose method=kmeans"
            )
        if len(token_ids) != len(sample):
            raise ValueError(f"{len(sample)} token vectors need as many token ids; given {len(token_ids)}")

        def of_one_id(vectors: NDArray[np.float32], n: int) -> NDArray[np.float32]:
            return kmeans(vectors, n, iterations=self.iterations, seed=seed)

        return token_aware(sample[trained], np.asarray(token_ids)[trained], k, of_one_id)

    def checked(
        self, sample: NDArray[np.float32], centroids: NDArray[np.float32] | None, *, n_tokens: int, seed: int
    ) -> NDArray[np.float32]:
        """The centroids given, or else those of the sample `(n, dim)`. Raises ValueError for given ones that do not fit."""
        if centroids is None:
            return self.cluster(sample, n_tokens=n_tokens, seed=seed)
        expected = (self.n_centroids(n_tokens), sample.shape[1])
        if centroids.shape != expected or unfit_row(centroids) is not None:
            given = f"shape {centroids.shape}" if centroids.shape != expected else "some that are not finite"
            raise ValueError(
                f"these settings ask for finite centroids of shape {expected}; given {given}. Make them with `cluster` of the "
                "same codec config, or leave them out"
            )
        return centroids

    def left_over(
        self, sample: NDArray[np.float32], centroids: NDArray[np.float32] | None, *, n_tokens: int, seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The centroids given, or else those of the sample `(n, dim)`, and the residuals of the tokens held out from it."""
        centroids = self.checked(sample, centroids, n_tokens=n_tokens, seed=seed)
        _, measured = hold_out(sample, seed=seed)
        return centroids, measured - centroids[kernels.assign(measured, centroids)]

    def clustering(self) -> "Clustering":
        """The settings that decide the centroids, without those of the codec that uses them."""
        if type(self).cluster is not Clustering.cluster:
            return self
        return Clustering(**{name: getattr(self, name) for name in Clustering.model_fields})


def hold_out(sample: NDArray[np.float32], *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The part of a sample that is clustered, and the part on which what the centroids leave over is measured.

    Too small a sample to estimate quantiles from a twentieth of it is used for both.
    """
    sample = np.asarray(sample, np.float32)
    trained, measured = _held_out(len(sample), seed=seed)
    return sample[trained], sample[measured]


def _held_out(n: int, *, seed: int) -> tuple[NDArray[np.int64] | slice, NDArray[np.int64] | slice]:
    """Which of `n` rows `hold_out` gives to the one part and to the other."""
    held_out = min(int(HELD_OUT_SHARE * n), HELD_OUT_MOST)
    if held_out < HELD_OUT_LEAST:
        return slice(None), slice(HELD_OUT_MOST)
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def centroid_id_type(n_centroids: int) -> np.dtype[Any]:
    """The smaller of the types that hold centroid ids on disk."""
    return np.dtype(np.uint16 if n_centroids <= 2**16 else np.int32)


def plaid_centroid_count(n_tokens: int) -> int:
    """The largest power of two that is at most `16 * sqrt(n_tokens)` and at most `n_tokens`; at least 1.

    Source: ColBERTv2 (Santhanam et al. 2022), section 3.3; the second bound lets tiny collections work.
    """
    if n_tokens < 1:
        raise ValueError("a collection without tokens has no centroids")
    return 2 ** int(np.log2(max(1.0, min(16 * np.sqrt(n_tokens), n_tokens))))


def kmeans(sample: NDArray[np.float32], k: int, *, iterations: int, seed: int) -> NDArray[np.float32]:
    """`k` L2-normalised centroids `(k, dim)` of a sample `(n, dim)`, `n >= k`: faiss's k-means, assigned by dot product.

    faiss chooses the first centroids, updates them and splits the emptied ones (`faiss.contrib.clustering`); the assignment is
    our own kernel, several times as fast on a CPU. A vector that is there several times is clustered once, with that weight: as
    often as it is there, it would be chosen again and again. Of fewer distinct vectors than centroids the first ones are
    repeated, whose clusters are empty. The same sample and seed give the same bytes on the same machine. Raises ValueError when
    there are fewer vectors than centroids.
    """
    from faiss.contrib import clustering

    n = len(sample)
    if n < k:
        raise ValueError(f"{k} centroids need at least as many token vectors; given {n}")
    if k == n:
        return _unit(sample)
    if k == 1:
        return _unit(sample.mean(axis=0, keepdims=True, dtype=np.float64))
    vectors, weights = _distinct(np.ascontiguousarray(sample, np.float32))
    if len(vectors) <= k:
        return _unit(vectors[np.arange(k) % len(vectors)])
    with redirect_stdout(io.StringIO()):  # faiss prints a line even when it is told not to
        return _unit(clustering.kmeans(k, _Sample(vectors, weights), niter=iterations, seed=seed, verbose=False))


def _distinct(sample: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The vectors of a sample without repetitions, in its order, and how often each is there, float32."""
    multipliers = np.random.default_rng(0).integers(0, 2**63, sample.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    hashes = np.concatenate(
        [
            (sample[start : start + HASHED_ROWS].view(np.uint32) * multipliers).sum(axis=1, dtype=np.uint64)
            for start in range(0, len(sample), HASHED_ROWS)
        ]
    )
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    order = np.argsort(first)
    vectors = sample if len(first) == len(sample) else sample[first[order]]
    return vectors, counts[order].astype(np.float32)


class _Sample:
    """A sample in the form that faiss's k-means takes: it asks for the size, some vectors, and an assignment with sums."""

    def __init__(self, vectors: NDArray[np.float32], counts: NDArray[np.float32]) -> None:
        self.vectors, self.counts = vectors, counts

    def count(self) -> int:
        return len(self.vectors)

    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def get_subset(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.vectors[indices]

    def assign_to(self, centroids: NDArray[np.float32], weights: None = None) -> tuple[Any, Any, Any]:
        """Ids `(n,)`; zeros for distances, which faiss only adds up for its log; each centroid's sum of vectors `(k, dim)`."""
        from scipy.sparse import csr_array

        n, k = len(self.vectors), len(centroids)
        ids = kernels.assign(self.vectors, _unit(centroids))
        members = csr_array((self.counts, (ids, np.arange(n))), shape=(k, n))
        return ids.astype(np.int64), np.zeros(n, np.float32), members @ self.vectors


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)
