"""Bytes of an index that is not there, part by part, as `Index.nbytes` would give them: asked of the codec, not restated."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from colbert_research.codecs import Codec, bytes_per_token
from colbert_research.codecs.clustering import Clustering
from colbert_research.index.writing import BuildConfig
from colbert_research.ragged import NpyWriter
from colbert_research.settings import ConfigError

SAMPLE, SEED = 1024, 0
"""Random vectors on which a codec is fitted for the sake of its layout, which does not depend on them."""
WIDE = 2**16 + 1
"""Centroids whose ids need the wider type: as many as a codec is given here at most, whatever it would have."""


@dataclass(frozen=True)
class Layout:
    """An index of `documents` with `tokens` in all, of a codec config, in segments as `build_index` cuts them.

    `pairs_per_token`: entries of the inverted lists, one for each centroid of each document, by token; at most 1.
    `text_bytes`: of a document's identifier, text and metadata, as they are stored. Raises ConfigError for what the codec
    refuses, such as dimensions that its sub-spaces do not divide.
    """

    codec: Any
    documents: int
    tokens: int
    dim: int
    pairs_per_token: float
    text_bytes: float = 0.0
    segment_tokens: int = BuildConfig().segment_tokens

    @property
    def segments(self) -> int:
        """How many: all but the last are full."""
        return -(-self.tokens // self.segment_tokens)

    @cached_property
    def centroids(self) -> int:
        """K; 0 for a codec without any."""
        return int(self.codec.n_centroids(self.tokens)) if isinstance(self.codec, Clustering) else 0

    @cached_property
    def fitted(self) -> Codec:
        """A codec whose arrays are as wide as those of this index; of its centroids there are `WIDE` at most."""
        given = max(1, min(SAMPLE, self.codec.sample_size(self.tokens)))
        try:
            return _fitted(self.codec, self.dim, min(self.centroids, WIDE), given)
        except ValueError as error:
            raise ConfigError(f"an index of {self.dim} dimensions with {self.codec!r}: {error}") from error

    def nbytes(self) -> dict[str, int]:
        """`codes`, `inverted`, `documents`, `codec`, `other` (offsets) and their `total`, as of `Index.nbytes`.

        Left out are the headers of the codec's two files, some hundred bytes in all.
        """
        header, layout = self.segments * NpyWriter.HEADER, self.fitted.layout
        codes = len(layout) * header + self.tokens * bytes_per_token(self.fitted)
        inverted = 0
        if self.centroids:
            entries = round(self.pairs_per_token * self.tokens)
            inverted = 2 * header + self.segments * (self.centroids + 1) * 8 + entries * 4
        state = self.fitted.state()
        lacking = (self.centroids - len(state["centroids"])) * self.dim * state["centroids"].itemsize if self.centroids else 0
        sizes = {
            "codes": codes,
            "inverted": inverted,
            "documents": round(self.documents * self.text_bytes),
            "codec": sum(array.nbytes for array in state.values()) + lacking,
            "other": header + (self.documents + self.segments) * 8,
        }
        return {**sizes, "total": sum(sizes.values())}

    @cached_property
    def memory_bytes(self) -> int:
        """What a search may read of it: all but the documents, of which a few are read from disk."""
        sizes = self.nbytes()
        return sizes["total"] - sizes["documents"]


@lru_cache(maxsize=64)
def _fitted(codec: Any, dim: int, centroids: int, sample: int) -> Codec:
    """A codec of some width, fitted on random vectors, with so many centroids, which are one in memory."""
    vectors = np.random.default_rng(SEED).standard_normal((SAMPLE, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if not centroids:
        fitted: Codec = codec.fit(vectors[:sample], n_tokens=sample, seed=SEED)
        return fitted
    few = codec.model_copy(update={"centroids": 2})
    state = dict(few.fit(vectors, n_tokens=SAMPLE, seed=SEED, centroids=vectors[:2]).state())
    state["centroids"] = np.broadcast_to(vectors[:1], (centroids, dim))
    restored: Codec = codec.restore(state)
    return restored


def pairs_of(codec: Any, documents: int, tokens: int, dim: int, inverted: int) -> float:
    """The pairs of document and centroid by token of an index whose inverted lists take so many bytes."""
    empty = Layout(codec, documents, tokens, dim, 0.0)
    segments = empty.segments
    offsets = 2 * segments * NpyWriter.HEADER + segments * (empty.centroids + 1) * 8
    return max(0.0, (inverted - offsets) / 4 / tokens)
