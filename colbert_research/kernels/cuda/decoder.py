"""How the bytes of a token (`byte_values.py`) come out of its code, for `codes.cu`.

A lane of a warp turns the bytes that it has loaded into operands in the order that costs least, so which dimension comes where
is a table: `operand_dims`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.byte_values import byte_values
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
    """The decoder of a codec's state."""
    values = byte_values(table)
    if isinstance(table, ProductTable):
        m, _, sub = table.codewords.shape
        return Decoder(Layout("CODEWORDS", sub, m), values.bytes.ravel(), values.lowest, values.step)
    kind: Kind = "PACKED" if table.bits < 8 else "COPIED" if values.are_codes else "LOOKED_UP"
    looked_up = np.resize(values.bytes, 16) if kind == "PACKED" else values.bytes
    return Decoder(Layout(kind, table.bits, table.packed_width), looked_up, values.lowest, values.step)
