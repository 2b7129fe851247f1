"""How the bytes of a token come out of its code, for `codes.cu`: the same bytes as those of `cpu/prepare.py`, in NumPy alone.

A code stands for bytes u (0 to 255), one a dimension, with `value[d] = lowest[d] + step[d] * u[d]`. A lane of a warp turns the
bytes that it has loaded into operands in the order that costs least, so which dimension comes where is a table: `operand_dims`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.operands import ProductTable, ResidualTable

Kind = Literal["PACKED", "LOOKED_UP", "COPIED", "CODEWORDS"]


@dataclass(frozen=True)
class Layout:
    """What `Layout` of `codes.cu` is made from, and what it says of the order of the dimensions.

    `kind`: PACKED codes of `size` bits looked up in 16 bytes; 8-bit codes LOOKED_UP in 256 bytes, or COPIED where their levels
    rise in equal steps; CODEWORDS of `size` bytes each. `width`: bytes of a code.
    """

    kind: Kind
    size: int
    width: int

    def __str__(self) -> str:
        """Its template arguments."""
        return f"{self.kind}, {self.size}, {self.width}"

    @property
    def numbers(self) -> int:
        """Dimensions of a byte."""
        return self.size if self.kind == "CODEWORDS" else 8 // self.size

    @property
    def piece(self) -> int:
        """Bytes of a row, of at most 32 numbers, that one of four lanes loads at once: few lanes idle in the last chunk, and as
        many as possible."""
        most = max(1, 32 // self.numbers)
        fitting = [piece for piece in (1, 2, 4, 8, 16) if self.width % piece == 0 and piece <= most]
        return min(fitting, key=lambda piece: (-(-self.width // (4 * piece)) * piece, -piece))

    @property
    def chunks(self) -> int:
        return -(-self.width // (4 * self.piece))

    @property
    def products(self) -> int:
        """Matrix products for a row, of 32 bytes each."""
        values = self.piece * self.size if self.kind == "CODEWORDS" else max(self.piece, 4) * 8 // self.size
        return self.chunks * (-(-values // 4) + 1 >> 1)

    def operand_dims(self, dim: int) -> NDArray[np.int32]:
        """`(products, 2, 4, 4)`: which dimension byte e of operand b of lane t is, in each product; -1 for none."""
        chunk, product, operand, lane, e = np.indices((self.chunks, self.products // self.chunks, 2, 4, 4))
        j = 2 * product + operand
        if self.kind == "CODEWORDS":
            byte, place = np.divmod(4 * j + e, self.size)
        elif self.size == 8:
            byte, place = 4 * j + e, 0 * e
        else:  # nibbles of half a word, shifted by none, one, ... numbers
            each = self.numbers
            bit = 16 * (j % 2) + 4 * e + j % each // 2 * self.size
            byte, place = 4 * (j // each) + bit // 8, (8 - self.size - bit % 8) // self.size
        row_byte = (4 * chunk + lane) * self.piece + byte
        found = row_byte * self.numbers + place
        there = (byte < self.piece) & (row_byte < self.width) & (found < dim)
        return np.where(there, found, -1).reshape(self.products, 2, 4, 4).astype(np.int32)


@dataclass(frozen=True)
class Decoder:
    """`bytes`: the table of bytes that codes are looked up in, if the kind has one. `lowest`, `step` `(dim,)` float32."""

    layout: Layout
    bytes: NDArray[np.uint8]
    lowest: NDArray[np.float32]
    step: NDArray[np.float32]

    @property
    def dim(self) -> int:
        return len(self.lowest)

    @property
    def shared_bytes(self) -> int:
        """Bytes of the table that lie in shared memory."""
        return len(self.bytes) if self.layout.kind in ("LOOKED_UP", "CODEWORDS") else 0


def decoder_of(table: ResidualTable | ProductTable) -> Decoder:
    return _product(table) if isinstance(table, ProductTable) else _residual(table)


def _residual(table: ResidualTable) -> Decoder:
    levels = table.levels.astype(np.float64)
    lowest, span = levels.min(), np.ptp(levels)
    step = span / 255 if span > 0 else 1.0
    found = np.rint((levels - lowest) / step).astype(np.uint8)
    kind: Kind = "PACKED"
    if table.bits == 8:
        kind = "COPIED" if np.array_equal(found, np.arange(256)) else "LOOKED_UP"
    scales = table.scales.astype(np.float64)
    looked_up = np.resize(found, 16) if kind == "PACKED" else found
    return Decoder(Layout(kind, table.bits, table.packed_width), looked_up, _f32(scales * lowest), _f32(scales * step))


def _product(table: ProductTable) -> Decoder:
    m, _, sub = table.codewords.shape
    words = table.codewords.astype(np.float64)
    lowest, span = words.min(axis=1), np.ptp(words, axis=1)
    step = np.where(span > 0, span, 255.0) / 255
    found = np.rint((words - lowest[:, None]) / step[:, None]).astype(np.uint8)
    return Decoder(Layout("CODEWORDS", sub, m), np.ascontiguousarray(found).ravel(), _f32(lowest.ravel()), _f32(step.ravel()))


def _f32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)
