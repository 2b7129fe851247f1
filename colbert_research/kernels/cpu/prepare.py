"""From floats to integers: what the integer MaxSim kernel takes, and the formula that it computes.

A token's code stands for bytes u (0 to 255), one per dimension, with `value[d] = lowest[d] + step[d] * u[d]`. A query token q
is rounded to integers `w[d] = round(q[d] * step[d] / factor)` from -63 to 63, `factor = max |q * step| / 63`. Then

    score(q, token) = ((q . centroid + q . lowest) + factor * sum_d w[d] u[d]) * inverse norm,

where the sum is exact in int32 and the rest is float32, each operation rounded once. The only errors are those of w and of u,
at most half a unit each: sum_d |q[d] step[d] - factor w[d]| u[d] <= dim * factor / 2 * 255 in the worst case, a few thousandths
of a cosine in practice, as both are independent of each other over the dimensions.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.byte_values import byte_values
from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.products import products
from colbert_research.kernels.cpu.simd import LANES, STEP_BLOCK, WIDTH
from colbert_research.kernels.operands import ProductTable, ResidualTable

PACKED, LOOKED_UP, CODEWORDS, COPIED = 0, 1, 2, 3
GREATEST = 63  # of a query's integers: two products with bytes still fit 16 bits


@dataclass(frozen=True, eq=False)
class Decoder:
    """How the bytes u of a token come out of its code.

    `kind`: PACKED codes of `bits` looked up in 16 bytes; 8-bit codes LOOKED_UP in 256 bytes, or COPIED where their levels rise
    in equal steps, so that u is the code; CODEWORDS of `sub` bytes each.
    `width`: bytes of a code. `positions` `(dim,)`: where the byte of each dimension comes to lie; `length`: bytes in all, a
    multiple of four. `lowest`, `step` `(dim,)` float32.
    """

    kind: int
    bits: int
    width: int
    sub: int
    table: NDArray[np.uint8]
    positions: NDArray[np.int64]
    length: int
    lowest: NDArray[np.float32]
    step: NDArray[np.float32]

    @cached_property
    def arguments(self) -> tuple[int, ...]:
        """What compiled code takes of it, and in this order: kind, width, bits, sub, table, plane, stride, steps."""
        address = self.table.ctypes.data
        return self.kind, self.width, self.bits, self.sub, address, self.plane, self.stride, self.steps

    @property
    def plane(self) -> int:
        """Bytes between the first and the second codes of packed bytes."""
        return _up(self.width, 4)

    @property
    def steps(self) -> int:
        """Groups of four bytes that are multiplied."""
        return _up(self.length // 4, STEP_BLOCK)

    @property
    def stride(self) -> int:
        """Bytes between the decoded tokens of a block: whole vectors may be written past `length`."""
        return _up(max(self.length, 4 * self.steps) + WIDTH, 64)


_decoders: WeakKeyDictionary[ResidualTable | ProductTable, Decoder] = WeakKeyDictionary()


def decoder_of(table: ResidualTable | ProductTable) -> Decoder:
    """The decoder of a codec's state, made once for each and kept as long as it."""
    found = _decoders.get(table)
    if found is None:
        found = _decoders[table] = _product(table) if isinstance(table, ProductTable) else _residual(table)
    return found


def _residual(table: ResidualTable) -> Decoder:
    values, bits, width, dimensions = byte_values(table), table.bits, table.packed_width, np.arange(table.dim)
    per_byte, plane = 8 // bits, _up(width, 4)
    positions = dimensions % per_byte * plane + dimensions // per_byte
    looked_up = np.tile(np.resize(values.bytes, 16), WIDTH // 16) if bits < 8 else values.bytes
    kind = PACKED if bits < 8 else COPIED if values.are_codes else LOOKED_UP
    return Decoder(kind, bits, width, 0, looked_up, positions, per_byte * plane, values.lowest, values.step)


def _product(table: ProductTable) -> Decoder:
    values, (m, _, sub) = byte_values(table), table.codewords.shape
    padded = np.concatenate([values.bytes.ravel(), np.zeros(8, np.uint8)])  # words are copied eight bytes at a time
    return Decoder(CODEWORDS, 8, m, sub, padded, np.arange(m * sub), _up(m * sub, 4), values.lowest, values.step)


@dataclass(frozen=True, eq=False)
class IntegerQuery:
    """One query, ready for the kernel.

    `weights` `(groups, steps, LANES, 4)` int8: w of LANES query tokens for four bytes at a time. `factors` `(groups * LANES,)`.
    `base` `(groups * LANES,)` float32: q . lowest. `table` `(K or 1, groups * LANES)` float32: q . centroid, to be read only.
    Lanes beyond `n_tokens` are zeros.
    """

    weights: NDArray[np.int8]
    factors: NDArray[np.float32]
    base: NDArray[np.float32]
    table: NDArray[np.float32]
    n_tokens: int

    @property
    def groups(self) -> int:
        return len(self.weights)


@compiled
def _round(query: Any, step: Any, lowest: Any, positions: Any, factors: Any, base: Any, weights: Any) -> None:
    scaled = np.empty(query.shape[1], np.float32)
    for q in range(query.shape[0]):
        greatest = np.float32(0)
        for d in range(query.shape[1]):
            scaled[d] = query[q, d] * step[d]
            greatest = max(greatest, abs(scaled[d]))
            base[q] += query[q, d] * lowest[d]
        factors[q] = greatest / np.float32(GREATEST)
        unit = factors[q] if factors[q] > 0 else np.float32(1)
        for d in range(query.shape[1]):
            weights[q // LANES, positions[d] // 4, q % LANES, positions[d] % 4] = np.int8(np.rint(scaled[d] / unit))


def integer_query(query: NDArray[np.float32], decoder: Decoder, centroids: NDArray[np.float32] | None) -> IntegerQuery:
    """Round one query `(n_tokens, dim)` float32, at least one token, for a decoder."""
    n, query = len(query), np.ascontiguousarray(query, np.float32)
    groups = -(-n // LANES)
    factors = np.zeros(groups * LANES, np.float32)
    weights = np.zeros((groups, decoder.steps, LANES, 4), np.int8)
    base = np.zeros(groups * LANES, np.float32)
    _round(query, decoder.step, decoder.lowest, decoder.positions, factors, base, weights)
    # query . centroid for every centroid: one row, of zeros, where there are none
    table = np.zeros((1, groups * LANES), np.float32) if centroids is None else products(query, centroids)
    return IntegerQuery(weights, factors, base, table, n)


def worst_error(query: NDArray[np.float32], decoder: Decoder) -> float:
    """By how much a score of this query may differ from the exact one, for tokens whose inverse norm is at most 1.

    Each query token errs by what the rounding of its integers left over, times bytes up to 255, and by half a unit of each
    byte; a maximum errs by no more than what it is taken over.
    """
    made = integer_query(query, decoder, None)
    weights = made.weights.transpose(0, 2, 1, 3).reshape(made.groups * LANES, -1)[: len(query), decoder.positions]
    left_over = np.abs(query * decoder.step - made.factors[: len(query), None] * weights)
    return float((left_over * 255 + np.abs(query) * decoder.step / 2).sum())


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
