"""How a sample of an artifact is compared with the same, computed again."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class DiffersError(ValueError):
    """What this code computes is not what an artifact holds."""


def expect_equal(what: str, stored: NDArray[Any], computed: NDArray[Any]) -> None:
    """Raise DiffersError unless two arrays have the same dtype, shape and bytes."""
    if stored.dtype != computed.dtype or stored.shape != computed.shape:
        raise DiffersError(f"{what}: {computed.dtype} {computed.shape} instead of {stored.dtype} {stored.shape}")
    if np.ascontiguousarray(stored).tobytes() != np.ascontiguousarray(computed).tobytes():
        share = float(np.mean(np.asarray(stored) != np.asarray(computed)))
        raise DiffersError(f"{what}: {share:.1%} of the numbers differ")
