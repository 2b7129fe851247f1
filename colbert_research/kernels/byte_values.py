"""Codes as bytes, for the kernels that score them in integers on a CPU and on a GPU alike.

A code of a token stands for bytes u (0 to 255), one per dimension, with `value[d] = lowest[d] + step[d] * u[d]`; what a code's
levels or codewords lose by that is at most half a step.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.operands import ProductTable, ResidualTable


@dataclass(frozen=True, eq=False)
class ByteValues:
    """`bytes`: of each level `(2**bits,)`, or of each codeword's dimensions `(m, 256, dim / m)`. `lowest`, `step` `(dim,)`
    float32."""

    bytes: NDArray[np.uint8]
    lowest: NDArray[np.float32]
    step: NDArray[np.float32]

    @property
    def are_codes(self) -> bool:
        """Whether a code of 8 bits is its own byte, because the levels rise in equal steps."""
        return np.array_equal(self.bytes, np.arange(256))


def byte_values(table: ResidualTable | ProductTable) -> ByteValues:
    """The bytes of a codec's state."""
    if isinstance(table, ProductTable):
        words = table.codewords.astype(np.float64)
        lowest, step = _range(words, axis=1)
        found = np.rint((words - lowest[:, None]) / step[:, None])
        return ByteValues(np.ascontiguousarray(found, np.uint8), _f32(lowest.ravel()), _f32(step.ravel()))
    levels, scales = table.levels.astype(np.float64), table.scales.astype(np.float64)
    lowest, step = _range(levels, axis=0)
    return ByteValues(np.rint((levels - lowest) / step).astype(np.uint8), _f32(scales * lowest), _f32(scales * step))


def _range(values: NDArray[np.float64], axis: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least of the values, and a 255th of their range (1 where they are all equal)."""
    span = np.ptp(values, axis=axis)
    return values.min(axis=axis), np.where(span > 0, span, 255.0) / 255


def _f32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)
