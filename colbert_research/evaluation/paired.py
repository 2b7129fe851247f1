"""Differences between two systems on the same queries, as every test and interval takes them: one per query."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

EPS = float(np.finfo(np.float64).eps)
ROUNDING = 1000 * EPS
"""A measure is a quotient of sums of about a thousand terms at most, each rounded once."""


def differences(values: ArrayLike, baseline: ArrayLike) -> NDArray[np.float64]:
    """`values - baseline`, `(n,)` float64, of the same queries in the same order.

    A difference that rounding alone can make is 0, so that equal rankings count as ties. Raises ValueError for other shapes
    and for values that are not finite.
    """
    one, other = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"paired values are two rows of the same queries; given shapes {one.shape} and {other.shape}")
    for name, row in (("values", one), ("baseline", other)):
        if not np.isfinite(row).all():
            at = int(np.flatnonzero(~np.isfinite(row))[0])
            raise ValueError(f"every query needs a finite value; of `{name}`, position {at} holds {row[at]}")
    found: NDArray[np.float64] = one - other
    found[np.abs(found) <= ROUNDING * np.maximum(np.abs(one), np.abs(other))] = 0.0
    return found


def checked(differences: ArrayLike) -> NDArray[np.float64]:
    """Differences `(n,)` as float64. Raises ValueError for another shape, for none, and for those that are not finite."""
    found = np.asarray(differences, np.float64)
    if found.ndim != 1 or not len(found):
        raise ValueError(f"expected one difference for each of at least one query, as a row; given shape {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"differences must be finite; given {found[~np.isfinite(found)][0]}; look for queries without a value")
    return found


def deviation(differences: NDArray[np.float64]) -> float:
    """The sample standard deviation (divided by n - 1); 0 for one query, and where differences differ by rounding alone.

    The limit of 20 eps is that of SciPy's moments, beyond which they warn of cancellation.
    """
    if np.ptp(differences) <= 20 * EPS * np.abs(differences).max():
        return 0.0
    return float(np.std(differences, ddof=1))
