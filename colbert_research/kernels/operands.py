"""What kernels over compressed codes take: the tables that all tokens share, and the codes of each token."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WIDE = {1: np.float32, 2: np.float64, 4: np.complex128}  # one number as wide as so many float32


@dataclass(frozen=True, eq=False)
class ResidualTable:
    """State of a residual codec: `centroids` `(K, dim)` float32 and bucket `weights` `(dim, 2**bits)` float32."""

    centroids: NDArray[np.float32]
    weights: NDArray[np.float32]
    bits: int

    @property
    def dim(self) -> int:
        return int(self.centroids.shape[1])

    @property
    def packed_width(self) -> int:
        """Bytes of one token's packed residual: dim * bits / 8, rounded up."""
        return -(-self.dim * self.bits // 8)

    @cached_property
    def byte_lookup(self) -> NDArray[Any]:
        """The residual values that each byte at each place stands for: `(packed_width, 256, parts)`.

        An entry holds up to four float32 values, read as one wide number, so that decoding a byte is one lookup.
        """
        per_byte = 8 // self.bits
        codes = unpack_bits(np.arange(256, dtype=np.uint8)[:, None], self.bits, per_byte).astype(np.int64)
        padded = np.zeros((self.packed_width * per_byte, self.weights.shape[1]), np.float32)
        padded[: self.dim] = self.weights
        grouped = padded.reshape(self.packed_width, per_byte, -1)
        values = np.stack([grouped[:, place, :][:, codes[:, place]] for place in range(per_byte)], axis=-1)
        return np.ascontiguousarray(values).view(_WIDE[min(per_byte, 4)])


@dataclass(frozen=True, eq=False)
class ResidualTokens:
    """Tokens of documents as residual codes.

    `centroid_ids` `(n,)` integer; `residuals` `(n, packed_width)` uint8, `bits` a dimension, first dimension in the highest
    bits; `inverse_norms` `(n,)` float16, which make each decoded vector one of length one; `offsets` `(n_documents + 1,)`.
    """

    table: ResidualTable
    centroid_ids: NDArray[Any]
    residuals: NDArray[np.uint8]
    inverse_norms: NDArray[np.float16]
    offsets: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ProductTokens:
    """Tokens of documents as product codes.

    `codewords` `(m, 256, dim / m)` float32; `codes` `(n, m)` uint8; `offsets` `(n_documents + 1,)`.
    """

    codewords: NDArray[np.float32]
    codes: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @property
    def dim(self) -> int:
        return int(self.codewords.shape[0] * self.codewords.shape[2])


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


def decode_residual(
    table: ResidualTable, centroid_ids: NDArray[Any], residuals: NDArray[np.uint8], inverse_norms: NDArray[Any] | None
) -> NDArray[np.float32]:
    """Token vectors `(n, dim)` float32 of residual codes: centroid plus bucket weights, times the inverse norm if given."""
    n, lookup = len(residuals), table.byte_lookup
    places = np.ascontiguousarray(np.asarray(residuals).T).astype(np.intp)
    width = lookup.shape[0] * lookup.shape[2]
    values = np.empty((n, *lookup.shape[::2]), lookup.dtype)
    for place in range(len(lookup)):
        for part in range(lookup.shape[2]):
            values[:, place, part] = lookup[place, :, part][places[place]]
    vectors = table.centroids[centroid_ids] + values.reshape(n, width).view(np.float32)[:, : table.dim]
    if inverse_norms is not None:
        vectors *= np.asarray(inverse_norms).astype(np.float32)[:, None]
    return vectors


def decode_product(tokens: ProductTokens) -> NDArray[np.float32]:
    """Token vectors `(n, dim)` float32 of product codes."""
    m = len(tokens.codewords)
    return tokens.codewords[np.arange(m)[None, :], tokens.codes].reshape(len(tokens.codes), tokens.dim)
