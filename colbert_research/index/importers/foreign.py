"""What an index of another engine holds: centroids, buckets, and the codes of its passages in chunks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs.buckets import Buckets
from colbert_research.codecs.residual import ResidualCodec, ResidualConfig
from colbert_research.index.damage import IndexCorruptedError
from colbert_research.kernels.operands import pack_bits

Passage = tuple[str, str, Mapping[str, Any]]
"""Identifier, text and metadata of a passage."""
Passages = Mapping[int, Passage]
"""What is known of the passages, by their number in the engine; a number that is not among them was deleted there."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Passages of one chunk: their `lengths` `(n_passages,)`, 0 for a deleted one; `centroid_ids` `(n,)` and packed `residuals`
    `(n, width)` of their tokens."""

    lengths: NDArray[np.int64]
    centroid_ids: NDArray[Any]
    residuals: NDArray[np.uint8]


class Floats(NamedTuple):
    """`centroids` `(K, dim)`, and the `cutoffs` `(2**nbits - 1,)` and reconstruction values `weights` `(2**nbits,)` that all
    dimensions share; float32."""

    centroids: NDArray[np.float32]
    cutoffs: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ForeignIndex:
    """An index in the format that Stanford's ColBERT began, whatever its files are.

    `chunks`: reads each chunk. `passages`: by their number there. `checkpoint`, `document_length`: of the encoder, if it says.
    """

    path: Path
    engine: str
    nbits: Any
    floats: Floats
    chunks: tuple[Callable[[], Chunk], ...]
    passages: Passages
    checkpoint: str | None = None
    document_length: int | None = None

    def codec(self) -> ResidualCodec:
        """Our residual codec with these centroids, cutoffs and reconstruction values. Raises IndexCorruptedError."""
        centroids, cutoffs, weights = self.floats
        if self.nbits not in (1, 2, 4, 8):
            raise IndexCorruptedError(f"{self.path} says nbits={self.nbits!r}, expected 1, 2, 4 or 8")
        n = 2**self.nbits
        if centroids.ndim != 2 or not len(centroids) or not np.isfinite(centroids).all():
            raise IndexCorruptedError(f"{self.path}: expected finite centroids (K, dim); given {centroids.shape}")
        if cutoffs.shape != (n - 1,) or weights.shape != (n,):
            given = f"{cutoffs.shape} cutoffs and {weights.shape} weights"
            raise IndexCorruptedError(f"{self.path}: {self.nbits} bits have {n - 1} cutoffs and {n} weights; given {given}")
        if not all(np.isfinite(values).all() and np.all(np.diff(values) >= 0) for values in (cutoffs, weights)):
            raise IndexCorruptedError(f"{self.path}: expected finite, ascending cutoffs and weights of the buckets")
        config = ResidualConfig(nbits=self.nbits, buckets="global", levels="quantiles", centroids=len(centroids))
        return ResidualCodec(config, centroids, Buckets(np.ones(centroids.shape[1], np.float32), cutoffs, weights))

    def checked(self, chunk: Chunk, number: int) -> Chunk:
        """The chunk, if its arrays fit each other and the codec. Raises IndexCorruptedError."""
        k, dim = self.floats.centroids.shape
        n, width = int(chunk.lengths.sum()), -(-dim * self.nbits // 8)
        ids, residuals, name = chunk.centroid_ids, chunk.residuals, f"chunk {number} of {self.path}"
        if ids.shape != (n,) or residuals.shape != (n, width) or residuals.dtype != np.uint8:
            raise IndexCorruptedError(
                f"{name}: its passages have {n} tokens, of {width} bytes of residuals; given {ids.shape} codes and "
                f"{residuals.shape} {residuals.dtype} residuals. Was it written to while it was copied?"
            )
        if ids.dtype.kind not in "iu" or (n and not 0 <= ids.min() <= ids.max() < k):
            raise IndexCorruptedError(f"{name}: codes are numbers of the {k} centroids; these are not all")
        return chunk


def repacked(residuals: NDArray[np.uint8], nbits: int, dim: int) -> NDArray[np.uint8]:
    """Bucket numbers as ColBERT packs them, each lowest bit first, packed as our kernels read them, highest bit first."""
    bits = np.unpackbits(residuals, axis=1, count=dim * nbits).reshape(len(residuals), dim, nbits)
    return pack_bits(np.packbits(bits, axis=2, bitorder="little")[:, :, 0], nbits)
