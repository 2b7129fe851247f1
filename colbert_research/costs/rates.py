"""Seconds of building as so much for each unit of work, and milliseconds of searching over the size of the index.

Both are fitted to the measurements of one machine, and each is held to them by leaving one out at a time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs.clustering import Clustering

PROPORTION, ROOT = 1.0, 0.5
"""Exponents of growth: of work that looks at every token, and of PLAID's (Santhanam et al. 2022, figure 7)."""


def work_of(stage: str, codec: Any, tokens: int, dim: int) -> tuple[float, float]:
    """The two terms that the seconds of a stage are in proportion to.

    `encode`: tokens. `cluster`: iterations times sampled tokens times centroids times dimensions, and sampled tokens times
    dimensions. `codes`: tokens times centroids times dimensions, to find the nearest, and tokens times dimensions, for all
    else. Raises KeyError for another stage.
    """
    clustered = isinstance(codec, Clustering)
    centroids, sampled = (codec.n_centroids(tokens), codec.sample_size(tokens)) if clustered else (0, 0)
    terms = {
        "encode": (0.0, float(tokens)),
        "cluster": (float(sampled) * centroids * dim * (codec.iterations if clustered else 0), float(sampled) * dim),
        "codes": (float(tokens) * centroids * dim, float(tokens) * dim),
    }
    return terms[stage]


@dataclass(frozen=True, eq=False)
class Rates:
    """Core-seconds as non-negative rates for the terms of the work: the fit of least squared relative error.

    `work` `(n, 2)` and `seconds` `(n,)` of the measurements. With fewer than three, one term alone, the first that is not 0.
    """

    work: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """`(2,)`: core-seconds for a unit of each term."""
        from scipy.optimize import nnls

        used = np.flatnonzero(self.work.any(axis=0))
        if len(np.unique(self.work, axis=0)) < 3:
            used = used[:1]
        found = np.zeros(self.work.shape[1])
        scale = self.work[:, used].max(axis=0)
        found[used] = nnls(self.work[:, used] / scale / self.seconds[:, None], np.ones(len(self.seconds)))[0] / scale
        return found

    def at(self, work: Sequence[float]) -> float:
        """Core-seconds of so much work."""
        return float(np.dot(self.rates, work))

    @cached_property
    def errors(self) -> NDArray[np.float64]:
        """`(n,)` relative errors, predicted less measured over measured, each predicted from the others; none for one alone."""
        n = len(self.seconds)
        if n < 2:
            return np.empty(0)
        kept = [np.arange(n) != i for i in range(n)]
        others = [Rates(self.work[keep], self.seconds[keep]).at(self.work[i]) for i, keep in enumerate(kept)]
        return np.array(others) / self.seconds - 1


@dataclass(frozen=True, eq=False)
class Growth:
    """A figure of one strategy over the tokens of the index: `tokens` ascending, each once, and `values` `(n,)`.

    Between two sizes it is read off the line through them in log-log scale; beyond the largest, off the straight line through
    the two largest, and never as more than in proportion to the tokens.
    """

    tokens: NDArray[np.float64]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, points: Iterable[tuple[float, float]]) -> "Growth":
        """Of `(tokens, value)`; several of one size count as their median."""
        found: dict[float, list[float]] = {}
        for tokens, value in points:
            found.setdefault(float(tokens), []).append(value)
        sizes = sorted(found)
        return cls(np.array(sizes), np.array([np.median(found[size]) for size in sizes]))

    @property
    def exponent(self) -> float:
        """The slope of log(value) over log(tokens) by least squares over all sizes; not a number for one size."""
        if len(self.tokens) < 2:
            return float("nan")
        return float(np.polyfit(np.log(self.tokens), np.log(self.values), 1)[0])

    def beyond(self, tokens: float) -> float:
        """How many times larger than the largest size that was measured, or smaller than the smallest; 1 between them."""
        return max(1.0, tokens / self.tokens[-1], self.tokens[0] / tokens)

    def at(self, tokens: float) -> float:
        """The figure at a size."""
        sizes, values = self.tokens, self.values
        if tokens > sizes[-1]:
            slope = values[-1] / sizes[-1]
            if len(sizes) > 1:
                slope = min(slope, max(0.0, (values[-1] - values[-2]) / (sizes[-1] - sizes[-2])))
            return float(values[-1] + slope * (tokens - sizes[-1]))
        if tokens < sizes[0]:
            return float(values[0] * (tokens / sizes[0]) ** self._first_exponent)
        return float(np.exp(np.interp(np.log(tokens), np.log(sizes), np.log(values))))

    @property
    def _first_exponent(self) -> float:
        """Of the two smallest sizes, from 0 to 1; that of proportion for one size."""
        if len(self.tokens) < 2:
            return PROPORTION
        rise = np.log(self.values[1] / self.values[0]) / np.log(self.tokens[1] / self.tokens[0])
        return float(np.clip(rise, 0, PROPORTION))

    def interval(self, tokens: float) -> tuple[float, float]:
        """Between which values the figure lies at a size.

        Between the sizes that were measured, the figure and the greatest error of leaving one out, or, of fewer than three
        sizes, the two neighbours. Outside of them, from the exponent over all sizes (that of a root for fewer than three)
        to proportion, and the same error.
        """
        ratios = np.append(1 + self.errors, 1.0)
        bounds, apart = [self.at(tokens)], float(max(ratios.max(), 1 / ratios.min()))
        if not self.tokens[0] <= tokens <= self.tokens[-1]:
            nearest = -1 if tokens > self.tokens[-1] else 0
            exponent = ROOT if len(self.tokens) < 3 else float(np.clip(self.exponent, 0, PROPORTION))
            times = tokens / self.tokens[nearest]
            bounds += [float(self.values[nearest] * times**power) for power in (exponent, PROPORTION)]
        elif len(self.tokens) < 3:
            place = int(np.clip(np.searchsorted(self.tokens, tokens), 1, max(1, len(self.tokens) - 1)))
            bounds += self.values[place - 1 : place + 1].tolist()
        return min(bounds) / apart, max(bounds) * apart

    @cached_property
    def errors(self) -> NDArray[np.float64]:
        """`(n,)` relative errors, each size predicted from the others; none for fewer than three sizes."""
        n = len(self.tokens)
        if n < 3:
            return np.empty(0)
        kept = [np.arange(n) != i for i in range(n)]
        others = [Growth(self.tokens[keep], self.values[keep]).at(self.tokens[i]) for i, keep in enumerate(kept)]
        return np.array(others) / self.values - 1
