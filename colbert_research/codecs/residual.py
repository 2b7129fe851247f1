"""The residual codec of ColBERTv2: the nearest centroid, and what is left quantised to a few bits per dimension.

Source: ColBERTv2 (Santhanam et al. 2022), section 3.3. Beyond it, each a setting: buckets may be scaled for each dimension
(after an SVD projection dimensions differ much in spread), and their cutoffs and reconstruction values may be those of least
squared error (Lloyd 1982; Max 1960) instead of quantiles. The inverse norm of each decoded vector is stored, so that scores
are cosines without a normalisation at search time.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs.base import State
from colbert_research.codecs.buckets import Buckets, Levels
from colbert_research.codecs.clustering import Clustering
from colbert_research.codecs.table import TableCodec
from colbert_research.kernels.operands import ResidualTable, pack_bits


class ResidualConfig(Clustering):
    """`nbits` per dimension beside the nearest of some centroids.

    `buckets`: scaled by each dimension's own spread, or the same for all dimensions (ColBERTv2). `levels`: the reconstruction
    values, of least squared error, at quantiles (ColBERTv2), or in equal steps.
    """

    kind: Literal["residual"] = "residual"
    nbits: Literal[1, 2, 4, 8] = 4
    buckets: Literal["per_dimension", "global"] = "per_dimension"
    levels: Levels = "least_squares"

    def fit(
        self, sample: NDArray[np.float32], *, n_tokens: int, seed: int, centroids: NDArray[np.float32] | None = None
    ) -> "ResidualCodec":
        """Buckets from the residuals of tokens held out from the sample `(n, dim)`, which is clustered if need be."""
        centroids, residuals = self.left_over(sample, centroids, n_tokens=n_tokens, seed=seed)
        scaled = self.buckets == "per_dimension"
        return ResidualCodec(self, centroids, Buckets.fit(residuals, self.nbits, scaled=scaled, levels=self.levels))

    def restore(self, arrays: State) -> "ResidualCodec":
        return ResidualCodec(self, arrays["centroids"], Buckets.restore(arrays))


@dataclass(frozen=True, eq=False)
class ResidualCodec(TableCodec):
    """See `ResidualConfig`. Codes: `centroid_ids` `(n,)`, `residuals` `(n, ceil(dim * nbits / 8))`, `inverse_norms` `(n,)`."""

    code = "residuals"
    config: ResidualConfig
    centroids: NDArray[np.float32]
    buckets: Buckets

    @cached_property
    def table(self) -> ResidualTable:
        return ResidualTable(self.buckets.scales, self.buckets.levels, self.centroids)

    def quantised(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        return pack_bits(self.buckets.numbers(values), self.config.nbits)

    def state(self) -> dict[str, NDArray[Any]]:
        return {"centroids": self.centroids, **self.buckets.state()}
