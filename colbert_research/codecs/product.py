"""Product quantisation: one byte for each of some sub-spaces, of the vectors themselves or of what centroids leave over.

On residuals it is the compression of EMVB (Nardini et al. 2024, section 3.3), m = 16 or 32; the paper takes OPQ where the data
is not that of training. Inverse norms are stored as in the residual codec.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.codecs.base import State
from colbert_research.codecs.clustering import Clustering
from colbert_research.codecs.subspaces import nearest_codewords, rotate, train_codewords, train_rotated
from colbert_research.codecs.table import TableCodec
from colbert_research.config import Config
from colbert_research.kernels.operands import ProductTable
from colbert_research.settings import ConfigError

SAMPLE, ITERATIONS = 65_536, 20


class Subspaces(Config):
    """`m` sub-spaces of 8 bits each; `rotation: opq` turns the vectors first, so that the sub-spaces fit them better."""

    m: int = Field(32, ge=1, description="bytes per token; divides the dimensions")
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

    def restore(self, arrays: State) -> "ProductCodec":
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
        centroids, residuals = self.left_over(sample, centroids, n_tokens=n_tokens, seed=seed)
        return ProductCodec(self, *self.train(residuals, seed=seed), centroids)


@dataclass(frozen=True, eq=False)
class ProductCodec(TableCodec):
    """See `ProductConfig`. Codes: `codewords` `(n, m)`, `inverse_norms` `(n,)` and, with centroids, `centroid_ids` `(n,)`.

    `rotation` `(dim, dim)` leads to the space of the `codewords` `(m, 256, dim / m)`; `centroids` `(K, dim)` are not rotated.
    """

    code = "codewords"
    config: Config
    codewords: NDArray[np.float32]
    rotation: NDArray[np.float32] | None = None
    centroids: NDArray[np.float32] | None = None

    @cached_property
    def table(self) -> ProductTable:
        centroids = None if self.centroids is None else rotate(self.centroids, self.rotation)
        return ProductTable(self.codewords, centroids)

    def quantised(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        return nearest_codewords(values, self.codewords)

    def state(self) -> dict[str, NDArray[Any]]:
        arrays = {"codewords": self.codewords, "rotation": self.rotation, "centroids": self.centroids}
        return {name: array for name, array in arrays.items() if array is not None}
