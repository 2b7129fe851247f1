"""RaBitQ: a random rotation, then 1, 2 or 4 bits per dimension by fixed reconstruction values; nothing is fitted to the data.

Sources: RaBitQ (Gao and Long 2024, arXiv 2405.12497), whose one bit is the sign of each rotated coordinate, its extension to
more bits (Gao et al. 2024, arXiv 2409.09913), and TurboQuant (Zandieh et al. 2025, arXiv 2504.19874), whose reconstruction
values these are. The rotation makes every vector alike to its code: the error of an inner product is at most of the order of
1 / sqrt(dim) for any vectors, also those of another collection than the first, where a fitted codec has no such bound.

RaBitQ quantises vectors of one length: residuals are divided by theirs, which is stored. The kernels have one factor per token,
which multiplies centroid and residual alike, and residuals are given one length by another choice that is free: only the
direction of a token counts, so that of its multiples is quantised whose residual has the length .8. Nothing is stored for it.
On NFCorpus (frozen MiniLM, 128 dimensions, 8192 centroids, 2 bits) it leaves a mean of .019 of the cosine; stored lengths would
leave .016, and one length of all residuals as they are .021.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs.base import State
from colbert_research.codecs.buckets import Buckets
from colbert_research.codecs.clustering import Clustering
from colbert_research.codecs.rotated import random_rotation, reconstruction_values
from colbert_research.codecs.table import TableCodec
from colbert_research.config import Config
from colbert_research.kernels.operands import ResidualTable, pack_bits

LENGTH = np.float32(0.8)  # of residuals; of .5, .6, .7, .8 and 1 it errs least on NFCorpus and SciFact with 8192 centroids


class Rotated(Config):
    """`nbits` per dimension of randomly rotated vectors; the rotation is drawn from the seed of `fit`."""

    nbits: Literal[1, 2, 4] = 4

    def buckets_and_rotation(self, dim: int, *, seed: int) -> tuple[Buckets, NDArray[np.float32]]:
        """The buckets of a coordinate and the rotation `(dim, dim)`. Raises ConfigError for fewer than two dimensions."""
        values = reconstruction_values(dim, self.nbits)
        cutoffs = ((values[1:] + values[:-1]) / 2).astype(np.float32)
        return Buckets(np.ones(dim, np.float32), cutoffs, values.astype(np.float32)), random_rotation(dim, seed=seed)

    def restore(self, arrays: State) -> "RabitqCodec":
        return RabitqCodec(self, Buckets.restore(arrays), arrays["rotation"], arrays.get("centroids"))


class RabitqConfig(Rotated):
    """The direction of each vector, rotated; no centroids.

    With 1 bit all decoded vectors have one length: no norm is stored, and a vector of zeros becomes an L2-normalised one.
    """

    kind: Literal["rabitq"] = "rabitq"

    def sample_size(self, n_tokens: int) -> int:
        """One token, for its width: nothing is fitted."""
        return min(1, n_tokens)

    def fit(self, sample: NDArray[np.float32], *, n_tokens: int, seed: int, centroids: None = None) -> "RabitqCodec":
        """A codec as wide as the sample `(n, dim)`."""
        buckets, rotation = self.buckets_and_rotation(int(sample.shape[1]), seed=seed)
        if self.nbits == 1:  # the signs of a unit vector
            size = np.full(len(buckets.scales), 1 / np.sqrt(len(buckets.scales)), np.float32)
            buckets = Buckets(size, np.zeros(1, np.float32), np.array([-1, 1], np.float32))
        return RabitqCodec(self, buckets, rotation)


class ResidualRabitqConfig(Clustering, Rotated):
    """The nearest of some centroids, which alone are found in the data, and what is left, rotated."""

    kind: Literal["residual_rabitq"] = "residual_rabitq"

    def fit(
        self, sample: NDArray[np.float32], *, n_tokens: int, seed: int, centroids: NDArray[np.float32] | None = None
    ) -> "RabitqCodec":
        """The centroids given, or those of the sample `(n, dim)`."""
        centroids = self.checked(sample, centroids, n_tokens=n_tokens, seed=seed)
        buckets, rotation = self.buckets_and_rotation(int(sample.shape[1]), seed=seed)
        return RabitqCodec(self, replace(buckets, scales=buckets.scales * LENGTH), rotation, centroids)


@dataclass(frozen=True, eq=False)
class RabitqCodec(TableCodec):
    """See `RabitqConfig`. Codes: `numbers` `(n, ceil(dim * nbits / 8))`; `inverse_norms` `(n,)`, but for 1 bit without
    centroids; with centroids, `centroid_ids` `(n,)`.

    `rotation` `(dim, dim)` leads to the space of the buckets; `centroids` `(K, dim)` are not rotated.
    """

    code = "numbers"
    config: Config
    buckets: Buckets
    rotation: NDArray[np.float32] | None = None
    centroids: NDArray[np.float32] | None = None

    @cached_property
    def table(self) -> ResidualTable:
        centroids = None if self.centroids is None else self.rotated(self.centroids)
        return ResidualTable(self.buckets.scales, self.buckets.levels, centroids)

    @property
    def stores_norms(self) -> bool:
        return self.centroids is not None or len(self.buckets.levels) > 2

    def left_over(self, vectors: NDArray[np.float32], centroids: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Unit vectors in place of the vectors; with centroids, residuals of multiples of them, of the length `LENGTH`.

        Of a token so far from its centroid that its own residual is longer, with a cosine below .68, it is that residual.
        """
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = vectors / np.where(lengths > 0, lengths, 1)
        if centroids is None:
            return np.asarray(units, np.float32)
        cosines = np.einsum("nd,nd->n", units, centroids)[:, None]
        # |m x - c| = LENGTH for m = cos + sqrt(LENGTH^2 - sin^2)
        multiples = cosines + np.sqrt(np.maximum(LENGTH**2 - 1 + cosines**2, 0))
        return np.asarray(np.maximum(multiples, 1) * units - centroids, np.float32)

    def quantised(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        return pack_bits(self.buckets.numbers(values), len(self.buckets.levels).bit_length() - 1)

    def state(self) -> dict[str, NDArray[Any]]:
        arrays = {**self.buckets.state(), "rotation": self.rotation, "centroids": self.centroids}
        return {name: array for name, array in arrays.items() if array is not None}
