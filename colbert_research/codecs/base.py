"""What a codec is: fitted on a sample of token vectors, it turns vectors into named arrays of codes, and scores them.

A codec's config is fitted, `config.fit(sample, ...)`, or restored from saved state, `config.restore(arrays)`; the codec itself
is immutable.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from colbert_research.config import Config
from colbert_research.kernels.operands import Selection
from colbert_research.ragged import Ragged

Codes = Mapping[str, NDArray[Any]]
"""Codes of `n` tokens: named arrays, each `(n, ...)`."""
State = Mapping[str, NDArray[Any]]
"""What a codec has learnt: named arrays."""
Layout = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
"""Name -> (dtype, shape of one token's entry) of arrays of codes."""


class Codec(Protocol):
    """Token vectors <-> codes."""

    @property
    def config(self) -> Config:
        """The config that made it; with `state` it makes it again."""

    @property
    def dim(self) -> int:
        """Width of a token vector."""

    @property
    def layout(self) -> Layout:
        """Of the arrays that `encode` gives."""

    @property
    def centroids(self) -> NDArray[np.float32] | None:
        """`(K, dim)` float32, where tokens belong to centroids (their ids are `codes["centroid_ids"]`); None otherwise."""

    def encode(self, vectors: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Codes of vectors `(n, dim)`."""

    def decode(self, codes: Codes) -> NDArray[np.float32]:
        """The vectors `(n, dim)` float32 that codes stand for."""

    def maxsim(self, queries: Ragged, codes: Codes, offsets: NDArray[np.int64], only: Selection = None) -> NDArray[np.float32]:
        """MaxSim of queries with documents given as codes: `(n_queries, n_documents)` float32.

        `only`: positions `(n,)` of the only documents to score, in that order.
        """

    def state(self) -> dict[str, NDArray[Any]]:
        """Fitted arrays, for `config.restore`."""


class CodecConfig(Protocol):
    """What every codec config offers besides its fields."""

    def sample_size(self, n_tokens: int) -> int:
        """How many of a collection's tokens `fit` wants to see."""

    def fit(
        self, sample: NDArray[np.float32], *, n_tokens: int, seed: int, centroids: NDArray[np.float32] | None = None
    ) -> Codec:
        """A codec for a collection of `n_tokens` tokens, fitted on a sample `(n, dim)` of them.

        `centroids`: what `cluster` gave for the same settings, sample and seed; without them a codec that needs some clusters.
        """

    def restore(self, arrays: State) -> Codec:
        """The codec whose `state()` was `arrays`."""


def bytes_per_token(codec: Codec) -> int:
    """Bytes that one token takes on disk, by the layout."""
    return sum(dtype.itemsize * int(np.prod(shape, dtype=np.int64)) for dtype, shape in codec.layout.values())
