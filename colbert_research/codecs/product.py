"""Product quantisation: one byte for each of some sub-spaces, of the vectors themselves or of what centroids leave over.

On residuals it is the compression of EMVB (Nardini et al. 2024, section 3.3), m = 16 or 32; the paper takes OPQ where the data
is not that of training. Inverse norms are stored as in the residual codec.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research import kernels
from colbert_research.codecs.base import inverse_norms
from colbert_research.codecs.clustering import Clustering, centroid_id_type, hold_out
from colbert_research.codecs.subspaces import nearest_codewords, rotate, train_codewords, train_rotated
from colbert_research.config import Config, ConfigError
from colbert_research.kernels.operands import CodedTokens, ProductTable
from colbert_research.ragged import Ragged, offsets_of

SAMPLE, ITERATIONS = 65_536, 20


class Subspaces(Config):
    """`m` sub-spaces of 8 bits each; `rotation: opq` turns the vectors first, so that the sub-spaces fit them better."""

    m: int = Field(32, ge=1, description="bytes a token; divides the dimensions")
    rotation: Literal["identity", "opq"] = "identity"

    def train(self, values: NDArray[np.float32], *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Codewords of values `(n, dim)` and the rotation before them. Raises ConfigError where m does not divide dim."""
        dim = values.shape[1]
        if dim % self.m:
            divisors = ", ".join(str(m) for m in range(1, dim + 1) if dim % m == 0)
            raise ConfigError(f"codec.m={self.m} sub-spaces cannot share {dim} dimensions equally; give one of {divisors}")
        if self.rotation == "opq":
            return train_rotated(values, self.m, iterations=ITERATIONS, seed=seed)
        return train_codewords(values, self.m, iterations=ITERATIONS, seed=seed), None

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> "ProductCodec":
        return ProductCodec(self, arrays["codewords"], arrays.get("rotation"), arrays.get("centroids"))


class ProductConfig(Subspaces):
    """Product quantisation of the vectors."""

    kind: Literal["product"] = "product"

    def sample_size(self, n_tokens: int) -> int:
        """Tokens for k-means: 256 for each codeword."""
        return min(n_tokens, SAMPLE)

    def fit(self, sample: NDArray[np.float32], *, n_tokens: int, seed: int, centroids: None = None) -> "ProductCodec":
        """Codewords of the sample `(n, dim)`."""
        return ProductCodec(self, *self.train(np.asarray(sample, np.float32), seed=seed))


class ResidualProductConfig(Clustering, Subspaces):
    """The nearest of some centroids, and product quantisation of what is left."""

    kind: Literal["residual_product"] = "residual_product"

    def fit(
        self, sample: NDArray[np.float32], *, n_tokens: int, seed: int, centroids: NDArray[np.float32] | None = None
    ) -> "ProductCodec":
        """Codewords of the residuals of tokens held out from the sample `(n, dim)`, which is clustered if need be."""
        if centroids is None:
            centroids = self.cluster(sample, n_tokens=n_tokens, seed=seed)
        _, measured = hold_out(sample, seed=seed)
        residuals = measured - centroids[kernels.assign(measured, centroids)]
        return ProductCodec(self, *self.train(residuals, seed=seed), centroids)


@dataclass(frozen=True, eq=False)
class ProductCodec:
    """See `ProductConfig`. Codes: `codewords` `(n, m)`, `inverse_norms` `(n,)` and, with centroids, `centroid_ids` `(n,)`.

    `rotation` `(dim, dim)` leads to the space of the `codewords` `(m, 256, dim / m)`; `centroids` `(K, dim)` are not rotated.
    """

    config: Config
    codewords: NDArray[np.float32]
    rotation: NDArray[np.float32] | None = None
    centroids: NDArray[np.float32] | None = None

    @cached_property
    def table(self) -> ProductTable:
        """What the kernels take: everything rotated."""
        centroids = None if self.centroids is None else rotate(self.centroids, self.rotation)
        return ProductTable(self.codewords, centroids)

    @property
    def dim(self) -> int:
        return self.table.dim

    @property
    def layout(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        half = np.dtype(np.float16)
        found: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        if self.centroids is not None:
            found["centroid_ids"] = (centroid_id_type(len(self.centroids)), ())
        return {**found, "codewords": (np.dtype(np.uint8), (len(self.codewords),)), "inverse_norms": (half, ())}

    def encode(self, vectors: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        vectors, residuals, found = np.asarray(vectors, np.float32), np.asarray(vectors, np.float32), {}
        if self.centroids is not None:
            ids = kernels.assign(vectors, self.centroids)
            residuals = vectors - self.centroids[ids]
            found["centroid_ids"] = ids.astype(centroid_id_type(len(self.centroids)))
        found["codewords"] = nearest_codewords(rotate(residuals, self.rotation), self.codewords)
        decoded = self._tokens(found, offsets_of([len(vectors)])).decode()
        return {**found, "inverse_norms": inverse_norms(decoded, vectors)}

    def decode(self, codes: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        rotated = self._tokens(codes, offsets_of([len(codes["codewords"])])).decode()
        return rotated if self.rotation is None else rotate(rotated, np.ascontiguousarray(self.rotation.T))

    def maxsim(
        self,
        queries: Ragged,
        codes: Mapping[str, NDArray[Any]],
        offsets: NDArray[np.int64],
        only: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        rotated = queries.map(lambda values: rotate(np.asarray(values, np.float32), self.rotation))
        return kernels.maxsim_codes(rotated, self._tokens(codes, offsets), only=only)

    def _tokens(self, codes: Mapping[str, NDArray[Any]], offsets: NDArray[np.int64]) -> CodedTokens:
        return CodedTokens(self.table, codes["codewords"], offsets, codes.get("centroid_ids"), codes.get("inverse_norms"))

    def state(self) -> dict[str, NDArray[Any]]:
        arrays = {"codewords": self.codewords, "rotation": self.rotation, "centroids": self.centroids}
        return {name: array for name, array in arrays.items() if array is not None}
