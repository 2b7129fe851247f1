"""The residual codec of ColBERTv2: the nearest centroid, and what is left quantised to a few bits a dimension.

Source: ColBERTv2 (Santhanam et al. 2022), section 3.3. Two choices beyond it: buckets may be cut for each dimension (after an
SVD projection dimensions differ much in spread), and the inverse norm of each decoded vector is stored, so that scores are
cosines without a normalisation at search time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.codecs.clustering import Clustering, hold_out
from colbert_research.kernels.operands import ResidualTable, ResidualTokens, decode_residual, pack_bits
from colbert_research.ragged import Ragged


class ResidualConfig(Clustering):
    """`nbits` a dimension beside the nearest of some centroids; `buckets` cut for each dimension, or the same for all."""

    kind: Literal["residual"] = "residual"
    nbits: Literal[1, 2, 4, 8] = 4
    buckets: Literal["per_dimension", "global"] = "per_dimension"

    def fit(
        self, sample: NDArray[np.float32], *, n_tokens: int, seed: int, centroids: NDArray[np.float32] | None = None
    ) -> "ResidualCodec":
        """Bucket limits from the residuals of tokens held out from the sample `(n, dim)`, which is clustered if need be."""
        if centroids is None:
            centroids = self.cluster(sample, n_tokens=n_tokens, seed=seed)
        _, measured = hold_out(sample, seed=seed)
        residuals = measured - centroids[kernels.assign(measured, centroids)]
        return self._with_buckets(centroids, residuals)

    def _with_buckets(self, centroids: NDArray[np.float32], residuals: NDArray[np.float32]) -> "ResidualCodec":
        """Limits at the quantiles i / 2^b and weights at (i + 1/2) / 2^b, as ColBERTv2's code has them."""
        levels, dim = 2**self.nbits, centroids.shape[1]
        limits_at, weights_at = np.arange(1, levels) / levels, (np.arange(levels) + 0.5) / levels
        if self.buckets == "global":
            limits = np.tile(np.quantile(residuals, limits_at), (dim, 1))
            weights = np.tile(np.quantile(residuals, weights_at), (dim, 1))
        else:
            limits, weights = np.quantile(residuals, limits_at, axis=0).T, np.quantile(residuals, weights_at, axis=0).T
        table = ResidualTable(centroids, np.ascontiguousarray(weights, np.float32), self.nbits)
        return ResidualCodec(self, table, np.ascontiguousarray(limits, np.float32))

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> "ResidualCodec":
        return ResidualCodec(self, ResidualTable(arrays["centroids"], arrays["weights"], self.nbits), arrays["limits"])


@dataclass(frozen=True, eq=False)
class ResidualCodec:
    """See `ResidualConfig`. Codes: `centroid_ids` `(n,)`, `residuals` `(n, ceil(dim * nbits / 8))`, `inverse_norms` `(n,)`.

    `limits`: `(dim, 2**nbits - 1)` float32, rising; a residual in bucket i lies above limit i - 1 and not above limit i.
    """

    config: ResidualConfig
    table: ResidualTable
    limits: NDArray[np.float32]

    @property
    def dim(self) -> int:
        return self.table.dim

    @property
    def centroids(self) -> NDArray[np.float32]:
        return self.table.centroids

    @property
    def layout(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        id_type = np.dtype(np.uint16 if len(self.centroids) <= 2**16 else np.int32)
        return {
            "centroid_ids": (id_type, ()),
            "residuals": (np.dtype(np.uint8), (self.table.packed_width,)),
            "inverse_norms": (np.dtype(np.float16), ()),
        }

    def encode(self, vectors: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        vectors = np.asarray(vectors, np.float32)
        ids = kernels.assign(vectors, self.centroids)
        residuals = np.ascontiguousarray((vectors - self.centroids[ids]).T)
        codes = np.empty(vectors.shape, np.uint8)
        for d in range(self.dim):
            codes[:, d] = np.searchsorted(self.limits[d], residuals[d], side="left")
        packed = pack_bits(codes, self.config.nbits)
        norms = np.linalg.norm(decode_residual(self.table, ids, packed, None), axis=1)
        invertible = norms * np.finfo(np.float16).max >= 1  # a vector of (almost) zeros stays one
        inverse = 1 / np.where(invertible, norms, 1)
        id_type = self.layout["centroid_ids"][0]
        return {"centroid_ids": ids.astype(id_type), "residuals": packed, "inverse_norms": inverse.astype(np.float16)}

    def decode(self, codes: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        return decode_residual(self.table, codes["centroid_ids"], codes["residuals"], codes["inverse_norms"])

    def maxsim(self, queries: Ragged, codes: Mapping[str, NDArray[Any]], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
        tokens = ResidualTokens(self.table, codes["centroid_ids"], codes["residuals"], codes["inverse_norms"], offsets)
        return kernels.maxsim_residual(queries, tokens)

    def state(self) -> dict[str, NDArray[Any]]:
        return {"centroids": self.table.centroids, "weights": self.table.weights, "limits": self.limits}
