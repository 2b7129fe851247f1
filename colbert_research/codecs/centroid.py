"""The centroid codec: each token is its nearest centroid and nothing else, 0 bits per dimension.

It is what PLAID's first stages see (Santhanam et al. 2022, section 4), the lower end of every sweep over bits, and with very
many centroids an index of its own (TACHIOM, Martinico et al. 2026).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.codecs.base import Codes, Layout, State
from colbert_research.codecs.clustering import Clustering, centroid_id_type
from colbert_research.kernels.operands import Selection
from colbert_research.ragged import Ragged


class CentroidConfig(Clustering):
    """The nearest of some centroids."""

    kind: Literal["centroid"] = "centroid"

    def fit(
        self, sample: NDArray[np.float32], *, n_tokens: int, seed: int, centroids: NDArray[np.float32] | None = None
    ) -> "CentroidCodec":
        """The centroids given, or those of the sample `(n, dim)`."""
        return CentroidCodec(self, self.checked(sample, centroids, n_tokens=n_tokens, seed=seed))

    def restore(self, arrays: State) -> "CentroidCodec":
        return CentroidCodec(self, arrays["centroids"])


@dataclass(frozen=True, eq=False)
class CentroidCodec:
    """See `CentroidConfig`. Codes: `centroid_ids` `(n,)`."""

    config: CentroidConfig
    centroids: NDArray[np.float32]

    @property
    def dim(self) -> int:
        return int(self.centroids.shape[1])

    @property
    def layout(self) -> Layout:
        return {"centroid_ids": (centroid_id_type(len(self.centroids)), ())}

    def encode(self, vectors: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        ids = kernels.assign(np.asarray(vectors, np.float32), self.centroids)
        return {"centroid_ids": ids.astype(self.layout["centroid_ids"][0])}

    def decode(self, codes: Codes) -> NDArray[np.float32]:
        return self.centroids[codes["centroid_ids"]]

    def maxsim(self, queries: Ragged, codes: Codes, offsets: NDArray[np.int64], only: Selection = None) -> NDArray[np.float32]:
        """Centroid interaction is MaxSim here: every token is a centroid."""
        tokens = Ragged(codes["centroid_ids"], offsets)
        scores = np.empty((len(queries), len(tokens) if only is None else len(only)), np.float32)
        for row, query in zip(scores, queries, strict=True):
            row[:] = kernels.centroid_interaction(kernels.dot_products(query, self.centroids), tokens, only=only)
        return scores

    def state(self) -> dict[str, NDArray[Any]]:
        return {"centroids": self.centroids}
