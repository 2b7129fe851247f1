"""The residual codec of ColBERTv2: the nearest centroid, and what is left quantised to a few bits a dimension.

Source: ColBERTv2 (Santhanam et al. 2022), section 3.3. Beyond it, each a setting: buckets may be scaled for each dimension
(after an SVD projection dimensions differ much in spread), and their limits and levels may be those of least squared error
(Lloyd 1982; Max 1960) instead of quantiles. The inverse norm of each decoded vector is stored, so that scores are cosines
without a normalisation at search time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.codecs.base import inverse_norms
from colbert_research.codecs.buckets import Buckets, Levels
from colbert_research.codecs.clustering import Clustering, centroid_id_type, hold_out
from colbert_research.kernels.operands import CodedTokens, ResidualTable, pack_bits
from colbert_research.ragged import Ragged, offsets_of


class ResidualConfig(Clustering):
    """`nbits` a dimension beside the nearest of some centroids.

    `buckets`: scaled by each dimension's own spread, or the same for all dimensions (ColBERTv2). `levels`: those of least
    squared error, quantiles (ColBERTv2), or in equal steps.
    """

    kind: Literal["residual"] = "residual"
    nbits: Literal[1, 2, 4, 8] = 4
    buckets: Literal["per_dimension", "global"] = "per_dimension"
    levels: Levels = "least_squares"

    def fit(
        self, sample: NDArray[np.float32], *, n_tokens: int, seed: int, centroids: NDArray[np.float32] | None = None
    ) -> "ResidualCodec":
        """Buckets from the residuals of tokens held out from the sample `(n, dim)`, which is clustered if need be."""
        if centroids is None:
            centroids = self.cluster(sample, n_tokens=n_tokens, seed=seed)
        _, measured = hold_out(sample, seed=seed)
        residuals = measured - centroids[kernels.assign(measured, centroids)]
        scaled = self.buckets == "per_dimension"
        return ResidualCodec(self, centroids, Buckets.fit(residuals, self.nbits, scaled=scaled, levels=self.levels))

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> "ResidualCodec":
        return ResidualCodec(self, arrays["centroids"], Buckets.restore(arrays))


@dataclass(frozen=True, eq=False)
class ResidualCodec:
    """See `ResidualConfig`. Codes: `centroid_ids` `(n,)`, `residuals` `(n, ceil(dim * nbits / 8))`, `inverse_norms` `(n,)`."""

    config: ResidualConfig
    centroids: NDArray[np.float32]
    buckets: Buckets

    @cached_property
    def table(self) -> ResidualTable:
        """What the kernels take."""
        return ResidualTable(self.buckets.scales, self.buckets.levels, self.centroids)

    @property
    def dim(self) -> int:
        return self.table.dim

    @property
    def layout(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        return {
            "centroid_ids": (centroid_id_type(len(self.centroids)), ()),
            "residuals": (np.dtype(np.uint8), (self.table.packed_width,)),
            "inverse_norms": (np.dtype(np.float16), ()),
        }

    def encode(self, vectors: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        vectors = np.asarray(vectors, np.float32)
        ids = kernels.assign(vectors, self.centroids)
        packed = pack_bits(self.buckets.numbers(vectors - self.centroids[ids]), self.config.nbits)
        decoded = CodedTokens(self.table, packed, offsets_of([len(ids)]), ids).decode()
        id_type = self.layout["centroid_ids"][0]
        return {"centroid_ids": ids.astype(id_type), "residuals": packed, "inverse_norms": inverse_norms(decoded, vectors)}

    def decode(self, codes: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        return self._tokens(codes, offsets_of([len(codes["residuals"])])).decode()

    def maxsim(
        self,
        queries: Ragged,
        codes: Mapping[str, NDArray[Any]],
        offsets: NDArray[np.int64],
        only: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        return kernels.maxsim_codes(queries, self._tokens(codes, offsets), only=only)

    def _tokens(self, codes: Mapping[str, NDArray[Any]], offsets: NDArray[np.int64]) -> CodedTokens:
        return CodedTokens(self.table, codes["residuals"], offsets, codes["centroid_ids"], codes["inverse_norms"])

    def state(self) -> dict[str, NDArray[Any]]:
        return {"centroids": self.centroids, **self.buckets.state()}
