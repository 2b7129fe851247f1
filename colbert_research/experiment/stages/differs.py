"""How a sample of an artifact is compared with the same, computed again."""

from collections.abc import Mapping
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


def expect_same(what: str, stored: Mapping[str, NDArray[Any]], computed: Mapping[str, NDArray[Any]]) -> None:
    """`expect_equal` of arrays by name. Raises DiffersError for other names, too."""
    if set(stored) != set(computed):
        raise DiffersError(f"{what}: {sorted(computed)} instead of {sorted(stored)}")
    for name in sorted(stored):
        expect_equal(f"{what} {name!r}", stored[name], np.asarray(computed[name]))
