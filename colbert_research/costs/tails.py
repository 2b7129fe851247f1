"""How long a query takes that waits for the slowest of many shards, from the times of the same queries on some of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tail:
    """The slowest of `shards` shards in multiples of one shard: its median over the queries, and its 95th percentile."""

    strategy: str
    shards: int
    median: float
    p95: float
    source: str


def slowest_of(tails: Sequence[Tail], strategy: str, shards: int, median: float, p95: float) -> tuple[float, float] | None:
    """Median and p95 of the slowest of some shards, of which one has these, by what was measured of the strategy.

    Between numbers of shards that were looked at, by the logarithm of the number. The multiples were measured where times
    spread otherwise than those at hand, so p95 is never taken for less than the median. None for more shards than any of them.
    """
    if shards == 1:
        return median, p95
    found = sorted((each for each in tails if each.strategy == strategy), key=lambda each: each.shards)
    if not found or shards > found[-1].shards:
        return None
    at, numbers = np.log(shards), np.log([1, *(each.shards for each in found)])
    times = (np.interp(at, numbers, [1.0, *values]) for values in ([e.median for e in found], [e.p95 for e in found]))
    slowest, late = (float(factor * value) for factor, value in zip(times, (median, p95), strict=True))
    return slowest, max(slowest, late)


def drawn(
    milliseconds: NDArray[np.float64], shards: int, *, draws: int, seed: int, correlated: bool = True
) -> NDArray[np.float64]:
    """`draws` times of the slowest of so many shards, drawn with replacement from `(n_queries, n_shards)` milliseconds.

    `correlated`: of one query at a time, which is slow on all shards if it is on one. Otherwise every shard's time is drawn
    from all queries, as if they had nothing in common.
    """
    rng = np.random.default_rng(seed)
    n_queries, n_shards = milliseconds.shape
    query = rng.integers(0, n_queries, (draws, 1 if correlated else shards))
    return np.asarray(milliseconds[query, rng.integers(0, n_shards, (draws, shards))].max(axis=1))
