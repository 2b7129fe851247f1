"""What kernels over compressed codes take: the tables that all tokens share, and the codes of each token."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def byte_weights(table: ResidualTable) -> NDArray[np.float32]:
    """For each packed byte's place and value, the residual values it stands for: `(packed_width, 256, 8 / bits)` float32."""
    per_byte = 8 // table.bits
    values = unpack_bits(np.arange(256, dtype=np.uint8)[:, None], table.bits, per_byte).astype(np.int64)
    padded = np.zeros((table.packed_width * per_byte, table.weights.shape[1]), np.float32)
    padded[: table.dim] = table.weights
    grouped = padded.reshape(table.packed_width, per_byte, -1)
    return np.stack([grouped[:, place, :][:, values[:, place]] for place in range(per_byte)], axis=-1)


def decode_residual(
    table: ResidualTable, centroid_ids: NDArray[Any], residuals: NDArray[np.uint8], inverse_norms: NDArray[Any] | None
) -> NDArray[np.float32]:
    """Token vectors `(n, dim)` float32 of residual codes: centroid plus bucket weights, times the inverse norm if given."""
    lookup = byte_weights(table)
    places = np.arange(table.packed_width)
    values = lookup[places[None, :], residuals].reshape(len(residuals), -1)[:, : table.dim]
    vectors = table.centroids[centroid_ids] + values
    if inverse_norms is not None:
        vectors *= inverse_norms.astype(np.float32)[:, None]
    return vectors


def decode_product(tokens: ProductTokens) -> NDArray[np.float32]:
    """Token vectors `(n, dim)` float32 of product codes."""
    m = len(tokens.codewords)
    return tokens.codewords[np.arange(m)[None, :], tokens.codes].reshape(len(tokens.codes), -1)
