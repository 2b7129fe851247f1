"""Scalar quantisation of the vectors themselves: a few bits per dimension, no centroids.

8 bits is the int8 of vector databases; 1 bit in equal steps is the sign of each dimension, as in BPR (Yamada et al. 2021).
ColBERTv2's controls (Santhanam et al. 2022, appendix B), which are as many bits without centroids, are
`nbits=1` and `nbits=2 levels=quantiles`.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs.base import State
from colbert_research.codecs.buckets import Buckets, Levels
from colbert_research.codecs.table import TableCodec
from colbert_research.config import Config
from colbert_research.kernels.operands import ResidualTable, pack_bits

SAMPLE = 50_000


class ScalarConfig(Config):
    """`nbits` per dimension. `buckets` and `levels` as in `ResidualConfig`, here of the vectors instead of residuals.

    With 8 bits the codes are closer to the vectors than a query is to its own integers in a compressed score, and those waste
    least where all dimensions have one scale: `buckets=global` (overlap@10 on NFCorpus .991, per dimension .976). With 2 or 4
    bits after an SVD projection, `per_dimension` is better (.944 instead of .920 with 4).

    A code of two levels that differ in sign alone (1 bit in equal steps) gives every vector the same length: no norm is stored,
    and a vector of zeros becomes an L2-normalised one.
    """

    kind: Literal["scalar"] = "scalar"
    nbits: Literal[1, 2, 4, 8] = 8
    buckets: Literal["per_dimension", "global"] = "global"
    levels: Levels = "uniform"

    def sample_size(self, n_tokens: int) -> int:
        """Tokens enough for the buckets."""
        return min(n_tokens, SAMPLE)

    def fit(self, sample: NDArray[np.float32], *, n_tokens: int, seed: int, centroids: None = None) -> "ScalarCodec":
        """Buckets from the sample `(n, dim)`."""
        buckets = Buckets.fit(sample, self.nbits, scaled=self.buckets == "per_dimension", levels=self.levels)
        if _signs(buckets.levels):
            length = np.linalg.norm(buckets.scales.astype(np.float64))
            buckets = replace(
                buckets, scales=(buckets.scales / length).astype(np.float32), levels=np.array([-1, 1], np.float32)
            )
        return ScalarCodec(self, buckets)

    def restore(self, arrays: State) -> "ScalarCodec":
        return ScalarCodec(self, Buckets.restore(arrays))


@dataclass(frozen=True, eq=False)
class ScalarCodec(TableCodec):
    """See `ScalarConfig`. Codes: `numbers` `(n, ceil(dim * nbits / 8))` and, where lengths differ, `inverse_norms` `(n,)`."""

    code = "numbers"
    config: ScalarConfig
    buckets: Buckets
    centroids: None = None

    @cached_property
    def table(self) -> ResidualTable:
        return ResidualTable(self.buckets.scales, self.buckets.levels)

    @property
    def stores_norms(self) -> bool:
        return not _signs(self.buckets.levels)

    def quantised(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        return pack_bits(self.buckets.numbers(values), self.config.nbits)

    def state(self) -> dict[str, NDArray[Any]]:
        return self.buckets.state()


def _signs(levels: NDArray[np.float32]) -> bool:
    """Whether the levels are two that differ in sign alone."""
    return len(levels) == 2 and bool(levels[0] == -levels[1])
