"""A random rotation, and the reconstruction values that are best for the coordinates of what was rotated.

A unit vector that is rotated at random is uniform on the sphere, whatever it was: each of its `dim` coordinates has the density
in proportion to `(1 - x^2)^((dim - 3) / 2)`, nearly that of a Gaussian of variance 1 / dim. So the reconstruction values of
least squared error (Lloyd 1982; Max 1960) follow from `dim` and the bits alone, without any data (TurboQuant, Zandieh et al.
2025, arXiv 2504.19874, section 3.1).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from colbert_research.settings import ConfigError

ITERATIONS, CLOSE = 20_000, 1e-12


def random_rotation(dim: int, *, seed: int) -> NDArray[np.float32]:
    """A rotation or reflection `(dim, dim)` float32, uniform among all of them.

    A product of Householder reflections of Gaussian vectors, each one dimension shorter (Stewart 1980); no matrix product of a
    library takes part, so the bytes do not depend on its threads.
    """
    rng, matrix = np.random.default_rng(seed), np.eye(dim)
    for start in range(dim - 1):
        normal = rng.standard_normal(dim - start)
        normal[0] += np.copysign(np.sqrt(np.square(normal).sum()), normal[0])
        part = matrix[:, start:]
        along = (part * normal).sum(axis=1, keepdims=True)
        part -= along * (2 * normal / np.square(normal).sum())
    matrix *= np.where(rng.integers(0, 2, dim) == 1, 1, -1)
    return np.ascontiguousarray(matrix, np.float32)


@lru_cache
def reconstruction_values(dim: int, nbits: int) -> NDArray[np.float64]:
    """The `2**nbits` values, to be read only, of least squared error for a coordinate of a random unit vector, ascending.

    Lloyd's iterations on the density itself: each value is the mean of the coordinates that are nearest to it. Raises
    ConfigError for fewer than two dimensions, of which there is nothing to rotate.
    """
    from scipy.special import betainc, betaln

    if dim < 2:
        raise ConfigError(f"a rotation needs vectors of at least 2 dimensions; given {dim}. Choose codec.kind=scalar")
    half = (dim - 1) / 2

    def below(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share of coordinates of at most x: (x + 1) / 2 is Beta(half, half)."""
        return np.asarray(betainc(half, half, (x + 1) / 2))

    def sum_below(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The integral of x times its density from -1: -(1 - x^2)^half / (dim - 1), normalised by B(1/2, half)."""
        return np.asarray(-((1 - x**2) ** half) / (dim - 1) / np.exp(betaln(0.5, half)))

    # those of the positive half, which the negative half mirrors
    n = 2 ** (nbits - 1)
    values = (np.arange(n) + 0.5) / n * min(3 / np.sqrt(dim), 1)
    for _ in range(ITERATIONS):
        edges = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [1.0]])
        moved = np.diff(sum_below(edges)) / np.diff(below(edges))
        if np.abs(moved - values).max() < CLOSE / np.sqrt(dim):
            break
        values = moved
    both = np.concatenate([-moved[::-1], moved])
    both.flags.writeable = False
    return both
