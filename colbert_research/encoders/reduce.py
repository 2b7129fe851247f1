"""Reducers: fewer dimensions of token vectors, fitted on document tokens and applied to documents and queries alike."""

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.config import Config
from colbert_research.settings import ConfigError


class ReducerConfig(Protocol):
    """What every reducer config offers besides its fields."""

    def sample_size(self, n_tokens: int) -> int:
        """How many document tokens `fit` wants to see; 0 when it needs only their width."""

    def fit(self, sample: NDArray[np.float32], *, seed: int) -> NDArray[np.float32] | None:
        """The projection `(dim, reduced dim)` from a sample `(n, dim)`; None when vectors stay as they are."""


class IdentityConfig(Config):
    """Vectors as the encoder gives them."""

    kind: Literal["identity"] = "identity"

    def sample_size(self, n_tokens: int) -> int:
        return 0

    def fit(self, sample: NDArray[np.float32], *, seed: int) -> None:
        return None


class SVDConfig(Config):
    """The `dim` directions that hold most of the (not centred) sample's squared length; results are L2-normalised again."""

    kind: Literal["svd"] = "svd"
    dim: int = Field(128, ge=1)
    sample: int = Field(100_000, ge=1, description="document tokens to fit on")

    def sample_size(self, n_tokens: int) -> int:
        return min(self.sample, n_tokens)

    def fit(self, sample: NDArray[np.float32], *, seed: int) -> NDArray[np.float32]:
        _check_width(self.dim, sample.shape[1])
        moments = np.asarray(sample, np.float64)
        _, vectors = np.linalg.eigh(moments.T @ moments)
        directions = vectors[:, ::-1][:, : self.dim]
        # an eigenvector's sign is arbitrary: fix it, so that the same sample gives the same bytes everywhere
        signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(self.dim)])
        return np.ascontiguousarray(directions * signs, np.float32)


class RandomProjectionConfig(Config):
    """A seeded Gaussian projection with orthonormal columns; the control that an SVD has to beat."""

    kind: Literal["random_projection"] = "random_projection"
    dim: int = Field(128, ge=1)

    def sample_size(self, n_tokens: int) -> int:
        return 0

    def fit(self, sample: NDArray[np.float32], *, seed: int) -> NDArray[np.float32]:
        _check_width(self.dim, sample.shape[1])
        gaussian = np.random.default_rng(seed).standard_normal((sample.shape[1], self.dim))
        q, r = np.linalg.qr(gaussian)
        return np.ascontiguousarray(q * np.sign(np.diag(r)), np.float32)


REDUCERS: dict[str, type[Config]] = {"identity": IdentityConfig, "svd": SVDConfig, "random_projection": RandomProjectionConfig}


def project(vectors: NDArray[Any], projection: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Vectors `(n, dim)` times a projection `(dim, reduced)`, each L2-normalised again; `None` only converts to float32."""
    vectors = np.asarray(vectors, np.float32)
    if projection is None:
        return vectors
    reduced = vectors @ projection
    norms = np.linalg.norm(reduced, axis=1, keepdims=True)
    return np.asarray(reduced / np.where(norms > 0, norms, 1), np.float32)


def _check_width(dim: int, given: int) -> None:
    if dim > given:
        raise ConfigError(f"reducer.dim={dim} is more than the {given} dimensions that the encoder gives")
