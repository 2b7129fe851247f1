"""Scalar quantisation: which number of a few bits stands for a value of a dimension, and which value that number stands for."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.codecs.base import State

Levels = Literal["least_squares", "quantiles", "uniform"]
"""Reconstruction values of least squared error (Lloyd 1982; Max 1960), at quantiles (ColBERTv2's code), or in equal steps
symmetric about zero."""

LLOYD_ITERATIONS, LLOYD_SAMPLE = 100, 1_000_000
STEPS_TRIED, STEP_SAMPLE = 64, 100_000


@dataclass(frozen=True, eq=False)
class Buckets:
    """Bucket b of dimension d holds the values v with `cutoffs[b - 1] < v / scales[d] <= cutoffs[b]`, and stands for
    `scales[d] * levels[b]`.

    `scales` `(dim,)`; `cutoffs` `(2**bits - 1,)` and reconstruction values `levels` `(2**bits,)`, ascending; all float32.
    """

    scales: NDArray[np.float32]
    cutoffs: NDArray[np.float32]
    levels: NDArray[np.float32]

    @classmethod
    def fit(cls, values: NDArray[np.float32], bits: int, *, scaled: bool, levels: Levels) -> "Buckets":
        """Buckets for values `(n, dim)`, n >= 1; with `scaled` each dimension's standard deviation is its scale."""
        wide = np.asarray(values, np.float64)
        spread = np.sqrt(np.mean(wide**2, axis=0)) if scaled else np.ones(wide.shape[1])
        scales = spread.astype(np.float32)
        scales = np.where(scales > 0, scales, np.float32(1))  # in float32, where a smaller one may be zero
        flat = np.sort((wide / scales).ravel())
        n = 2**bits
        # as ColBERTv2's code has them: cutoffs at the quantiles i / 2^b, levels at (i + 1/2) / 2^b
        cutoffs, means = np.quantile(flat, np.arange(1, n) / n), np.quantile(flat, (np.arange(n) + 0.5) / n)
        if levels == "uniform":
            means = _uniform(flat, n)
            cutoffs = (means[1:] + means[:-1]) / 2
        if levels == "least_squares":
            means = _lloyd(flat[:: max(1, len(flat) // LLOYD_SAMPLE)], means)
            cutoffs = (means[1:] + means[:-1]) / 2
        return cls(scales, cutoffs.astype(np.float32), means.astype(np.float32))

    @classmethod
    def restore(cls, arrays: State) -> "Buckets":
        """The buckets whose `state()` is among `arrays`."""
        return cls(arrays["scales"], arrays["cutoffs"], arrays["levels"])

    def state(self) -> dict[str, NDArray[Any]]:
        return {"scales": self.scales, "cutoffs": self.cutoffs, "levels": self.levels}

    def numbers(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The bucket of each value: `(n, dim)` uint8."""
        return kernels.bucket_numbers(values, self.scales, self.cutoffs)


def _uniform(values: NDArray[np.float64], n: int) -> NDArray[Any]:
    """`n` levels in equal steps, symmetric about zero, for sorted values: of the steps tried, that of least squared error.

    The longest step has the greatest value in the middle of the last bucket, the shortest is a sixteenth of it: few bits are
    better spent on the many small values than on the greatest ones.
    """
    some = values[:: max(1, len(values) // STEP_SAMPLE)]
    greatest = max(-values[0], values[-1])
    if greatest == 0:
        return np.arange(n) - (n - 1) / 2
    steps = 2 * greatest / n * np.geomspace(1, 1 / 16, STEPS_TRIED)
    errors = [float(np.square(some - _nearest_level(some / step, n) * step).sum()) for step in steps]
    return (np.arange(n) - (n - 1) / 2) * float(steps[int(np.argmin(errors))])


def _nearest_level(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The nearest of `n` levels one apart and symmetric about zero; `n` is even."""
    nearest: NDArray[np.float64] = np.clip(np.floor(values) + 0.5, -(n - 1) / 2, (n - 1) / 2)
    return nearest


def _lloyd(values: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levels of least squared error for sorted values, from starting levels: each the mean of the values nearest to it."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    for _ in range(LLOYD_ITERATIONS):
        cuts = np.concatenate([[0], np.searchsorted(values, (means[1:] + means[:-1]) / 2), [len(values)]])
        counts = np.diff(cuts)
        moved = np.where(counts > 0, np.diff(sums[cuts]) / np.maximum(counts, 1), means)
        if np.array_equal(moved, means):
            break
        means = moved
    ascending: NDArray[np.float64] = np.maximum.accumulate(means)  # differences of sums round away what is small beside them
    return ascending
