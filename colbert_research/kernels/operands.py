"""What kernels over compressed codes take: the tables that all tokens share, and the codes of each token."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.ragged import Ragged

Selection = NDArray[np.int64] | None
"""Positions of the documents that an operation is for, in that order; None for all."""

_WIDE = {1: np.float32, 2: np.float64, 4: np.complex128}  # one number as wide as so many float32


@dataclass(frozen=True, eq=False)
class ResidualTable:
    """State of a residual codec.

    `scales` `(dim,)` float32 and `levels` `(2**bits,)` float32: bucket b of dimension d stands for `scales[d] * levels[b]`.
    `centroids` `(K, dim)` float32, to which that is added; None where codes stand for themselves.
    """

    scales: NDArray[np.float32]
    levels: NDArray[np.float32]
    centroids: NDArray[np.float32] | None = None

    @property
    def dim(self) -> int:
        return len(self.scales)

    @property
    def bits(self) -> int:
        return len(self.levels).bit_length() - 1

    @property
    def packed_width(self) -> int:
        """Bytes of one token's packed residual: dim * bits / 8, rounded up."""
        return -(-self.dim * self.bits // 8)

    @cached_property
    def byte_lookup(self) -> NDArray[Any]:
        """The values that each byte at each position stands for: `(packed_width, 256, parts)`.

        An entry holds up to four float32 values, read as one wide number, so that decoding a byte is one lookup.
        """
        per_byte = 8 // self.bits
        codes = unpack_bits(np.arange(256, dtype=np.uint8)[:, None], self.bits, per_byte).astype(np.int64)
        padded = np.zeros(self.packed_width * per_byte, np.float32)
        padded[: self.dim] = self.scales
        values = padded.reshape(self.packed_width, 1, per_byte) * self.levels[codes]
        return np.ascontiguousarray(values).view(_WIDE[min(per_byte, 4)])

    def values(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What packed codes `(n, packed_width)` stand for, without the centroids: `(n, dim)` float32."""
        lookup = self.byte_lookup
        positions = np.ascontiguousarray(np.asarray(codes).T).astype(np.intp)
        values = np.empty((len(codes), *lookup.shape[::2]), lookup.dtype)
        for place in range(len(lookup)):
            for part in range(lookup.shape[2]):
                values[:, place, part] = lookup[place, :, part][positions[place]]
        return values.reshape(len(codes), lookup.shape[0] * lookup.shape[2]).view(np.float32)[:, : self.dim]


@dataclass(frozen=True, eq=False)
class ProductTable:
    """State of a product codec: `codewords` `(m, 256, dim / m)` float32; `centroids` as in `ResidualTable`."""

    codewords: NDArray[np.float32]
    centroids: NDArray[np.float32] | None = None

    @property
    def dim(self) -> int:
        return int(self.codewords.shape[0] * self.codewords.shape[2])

    @property
    def packed_width(self) -> int:
        """Bytes of one token's code: m."""
        return len(self.codewords)

    def values(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What codes `(n, m)` stand for, without the centroids: `(n, dim)` float32."""
        return self.codewords[np.arange(len(self.codewords))[None, :], np.asarray(codes)].reshape(len(codes), self.dim)


Table = ResidualTable | ProductTable


@dataclass(frozen=True, eq=False)
class CodedTokens:
    """Tokens of documents as codes.

    `codes` `(n, width)` uint8: packed residuals, `bits` per dimension with the first dimension in the highest bits, or one
    codeword per sub-space. `offsets` `(n_documents + 1,)` int64. `centroid_ids` `(n,)` uint16 or int32, where the table has
    centroids. `inverse_norms` `(n,)` float16, not negative, which L2-normalise each decoded vector; or None.
    """

    table: Table
    codes: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    centroid_ids: NDArray[Any] | None = None
    inverse_norms: NDArray[np.float16] | None = None

    def slice(self, low: int, high: int, offsets: NDArray[np.int64]) -> "CodedTokens":
        """Rows `low` to `high` (exclusive), without a copy, as the documents that `offsets` tells."""
        ids, norms = (None if array is None else array[low:high] for array in (self.centroid_ids, self.inverse_norms))
        return CodedTokens(self.table, self.codes[low:high], offsets, ids, norms)

    def take(self, documents: NDArray[np.int64]) -> "CodedTokens":
        """The tokens of some documents, in that order, copied."""
        part = Ragged(np.arange(len(self.codes)), self.offsets).take(documents)
        ids, norms = (None if array is None else array[part.values] for array in (self.centroid_ids, self.inverse_norms))
        return CodedTokens(self.table, self.codes[part.values], part.offsets, ids, norms)

    def decode(self) -> NDArray[np.float32]:
        """The token vectors `(n, dim)` float32: centroid, if any, plus what the code stands for, times the inverse norm."""
        vectors = self.table.values(self.codes)
        if self.table.centroids is not None:
            vectors = vectors + self.table.centroids[self.centroid_ids]
        if self.inverse_norms is not None:
            vectors = vectors * np.asarray(self.inverse_norms).astype(np.float32)[:, None]
        return np.ascontiguousarray(vectors)


def pack_bits(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Bucket numbers `(n, dim)` uint8 below `2**bits` packed to `(n, ceil(dim * bits / 8))` uint8, highest bits first."""
    if bits == 8:
        return np.ascontiguousarray(codes)
    per_byte = 8 // bits
    n, dim = codes.shape
    padded = np.zeros((n, -(-dim // per_byte) * per_byte), np.uint8)
    padded[:, :dim] = codes
    packed = np.zeros((n, padded.shape[1] // per_byte), np.uint8)
    for place in range(per_byte):
        packed |= padded[:, place::per_byte] << np.uint8(8 - bits * (place + 1))
    return packed


def unpack_bits(packed: NDArray[np.uint8], bits: int, dim: int) -> NDArray[np.uint8]:
    """The inverse of `pack_bits`: `(n, dim)` uint8."""
    if bits == 8:
        return packed
    per_byte = 8 // bits
    codes = np.empty((len(packed), packed.shape[1] * per_byte), np.uint8)
    for place in range(per_byte):
        codes[:, place::per_byte] = (packed >> np.uint8(8 - bits * (place + 1))) & np.uint8(2**bits - 1)
    return codes[:, :dim]
