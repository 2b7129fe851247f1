"""Reducers: fewer dimensions of token vectors, fitted on document tokens and applied to documents and queries alike."""

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.config import Config
from colbert_research.encoders.projection import Projection
from colbert_research.settings import ConfigError


class ReducerConfig(Protocol):
    """What every reducer config offers besides its fields."""

    def sample_size(self, n_tokens: int) -> int:
        """How many document tokens `fit` wants to see; 0 when it needs only their width."""

    def fit(self, sample: NDArray[np.float32], *, seed: int) -> Projection | NDArray[np.float32] | None:
        """The projection, or its matrix alone, from a sample `(n, dim)`; None when vectors stay as they are."""


class IdentityConfig(Config):
    """Vectors as the encoder gives them."""

    kind: Literal["identity"] = "identity"

    def sample_size(self, n_tokens: int) -> int:
        return 0

    def fit(self, sample: NDArray[np.float32], *, seed: int) -> None:
        return None


class SVDConfig(Config):
    """The `dim` directions that hold most of the sample's squared length; results are L2-normalised again.

    `centre`: the sample's mean token is subtracted from documents and queries alike, before the directions are found and
    before vectors are projected. `whiten`: each direction is divided by its singular value to this power; at 1 all weigh the
    same, as in PCA whitening (Mu and Viswanath 2018, arXiv 1702.01417, remove the mean and leading directions for the same
    reason; Su et al. 2021, arXiv 2103.15316, whiten sentence vectors).
    """

    kind: Literal["svd"] = "svd"
    dim: int = Field(128, ge=1)
    sample: int = Field(100_000, ge=1, description="document tokens to fit on")
    whiten: float = Field(0.0, ge=0, le=1)
    centre: bool = False

    def sample_size(self, n_tokens: int) -> int:
        return min(self.sample, n_tokens)

    def fit(self, sample: NDArray[np.float32], *, seed: int) -> Projection:
        """The projection. Raises `ConfigError` for directions that cannot be whitened, because the sample has no part in them,
        and for a mean of no token."""
        _check_width(self.dim, sample.shape[1])
        tokens, mean = np.array(sample, np.float64), None
        if self.centre:
            if not len(tokens):
                raise ConfigError("reducer.centre=true needs the mean of the document tokens, and the collection has none")
            mean = tokens.mean(axis=0)
            tokens -= mean
        moments, vectors = np.linalg.eigh(tokens.T @ tokens)
        directions = vectors[:, ::-1][:, : self.dim]
        # an eigenvector's sign is arbitrary: fix it, so that the same sample gives the same bytes everywhere
        signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(self.dim)])
        directions = directions * signs
        if self.whiten:
            directions /= self._relative(moments[::-1], len(tokens)) ** self.whiten
        matrix = np.ascontiguousarray(directions, np.float32)
        return Projection(matrix, None if mean is None else mean.astype(np.float32))

    def _relative(self, moments: NDArray[np.float64], n_tokens: int) -> NDArray[np.float64]:
        """The singular values of the directions kept over the greatest one, from their squares, descending."""
        values = np.sqrt(np.maximum(moments, 0))
        # what is below is the rounding of float32 vectors, as in numpy.linalg.matrix_rank
        held = int(np.count_nonzero(values > values[0] * len(values) * np.finfo(np.float32).eps))
        if held < self.dim:
            raise ConfigError(
                f"reducer.whiten={self.whiten:g} divides by the singular values of {self.dim} directions, and the {n_tokens} "
                f"document tokens that it is fitted on span {held}: use reducer.dim={held} or less, or whiten=0"
                if held
                else f"reducer.whiten={self.whiten:g} divides by singular values, and those of the {n_tokens} document tokens "
                "that it is fitted on are 0: use whiten=0"
            )
        return values[: self.dim] / values[0]


class RandomProjectionConfig(Config):
    """A seeded Gaussian projection with orthonormal columns; the control that an SVD has to beat."""

    kind: Literal["random_projection"] = "random_projection"
    dim: int = Field(128, ge=1)

    def sample_size(self, n_tokens: int) -> int:
        return 0

    def fit(self, sample: NDArray[np.float32], *, seed: int) -> Projection:
        _check_width(self.dim, sample.shape[1])
        gaussian = np.random.default_rng(seed).standard_normal((sample.shape[1], self.dim))
        q, r = np.linalg.qr(gaussian)
        return Projection(np.ascontiguousarray(q * np.sign(np.diag(r)), np.float32))


REDUCERS: dict[str, type[Config]] = {"identity": IdentityConfig, "svd": SVDConfig, "random_projection": RandomProjectionConfig}


def project(vectors: NDArray[Any], projection: Projection | NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Vectors `(n, dim)` less the mean, if there is one, times the matrix, each L2-normalised again; None only makes float32.

    A vector of which nothing is left stays 0.
    """
    vectors = np.asarray(vectors, np.float32)
    projection = Projection.of(projection)
    if projection is None:
        return vectors
    reduced = (vectors if projection.mean is None else vectors - projection.mean) @ projection.matrix
    norms = np.linalg.norm(reduced, axis=1, keepdims=True)
    return np.asarray(reduced / np.where(norms > 0, norms, 1), np.float32)


def _check_width(dim: int, given: int) -> None:
    if dim > given:
        raise ConfigError(f"reducer.dim={dim} is more than the {given} dimensions that the encoder gives")
