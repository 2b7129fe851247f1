"""How far a ranking agrees with a reference, such as exact search, query by query: RBO, nRecall, overlap.

A `Ranking` has decided its ties, so both are strict orders and every measure is of what a user is shown. RBO's forms for ties
(Corsi and Urbano 2024) are therefore not needed; two rankings that tie the same documents agree on them, since both break ties
by position. A query whose reference found nothing has no agreement: NaN in the arrays, left out of tables, as `overlap` leaves
it out. One that found nothing where the reference did counts 0.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from colbert_research.ragged import item_of_row
from colbert_research.ranking import Ranking

if TYPE_CHECKING:
    import pandas as pd


class _Shared(NamedTuple):
    """The documents that both rankings of a query have, `(m,)` int64: query, rank, rank in the reference, both from 1."""

    query: NDArray[np.int64]
    rank: NDArray[np.int64]
    reference: NDArray[np.int64]


def rank_biased_overlap(ranking: Ranking, reference: Ranking, *, p: float = 0.9) -> NDArray[np.float64]:
    """RBO_EXT of each query, `(n_queries,)` float64 from 0 to 1: agreement extrapolated from the two lists.

    `p`: persistence. Depth d weighs (1 - p) p^(d-1), so that the first 10 ranks hold 86 % of the weight at .9, and the first
    100 at .99. Lists may be of different lengths. Raises ValueError for other queries, or a `p` outside (0, 1).

    Webber, Moffat, Zobel 2010, equation 32. Its first sum runs over the documents that both lists have rather than over
    depths: one that both hold from depth m on adds p^d / d for each depth d from m to the end of the longer list.
    """
    if not 0 < p < 1:
        raise ValueError(f"p lies between 0 and 1, as .9 does; given {p}")
    found = _shared(ranking, reference)
    n, lengths = len(ranking), np.stack([np.diff(ranking.offsets), np.diff(reference.offsets)])
    short, long = lengths.min(axis=0), lengths.max(axis=0)
    depths = np.arange(1, int(long.max(initial=0)) + 1, dtype=np.float64)
    sums, weighted = _sums(p**depths), _sums(p**depths / depths)  # of p^d up to each depth, and of p^d / d
    entered = np.maximum(found.rank, found.reference)
    at_long = np.bincount(found.query, minlength=n)
    at_short = np.bincount(found.query[entered <= short[found.query]], minlength=n)
    seen = np.bincount(found.query, weighted[long[found.query]] - weighted[entered - 1], minlength=n)
    share = at_short / np.maximum(short, 1)  # the shorter list is taken to go on as it went
    unseen = share * (sums[long] - sums[short] - short * (weighted[long] - weighted[short]))
    beyond = ((at_long - at_short) / np.maximum(long, 1) + share) * p**long
    value = np.clip((1 - p) / p * (seen + unseen) + beyond, 0.0, 1.0)  # beyond either by rounding alone
    return np.where(lengths[1] > 0, value, np.nan)


def n_recall(ranking: Ranking, oracle: Ranking, k: int, *, within: int | None = None) -> NDArray[np.float64]:
    """nRecall of each query, `(n_queries,)` float64: the share of the oracle's best `k` that are in the best `within`.

    `oracle`: the exact ranking. `within`: `k` unless given, which is overlap@k. A query whose oracle found fewer than `k` is
    divided by what it found. Raises ValueError for other queries, and unless 1 <= k <= within.
    """
    depth = k if within is None else within
    if not 1 <= k <= depth:
        raise ValueError(f"expected 1 <= k <= within; given k={k} and within={depth}")
    found = _shared(ranking, oracle)
    wanted = np.minimum(np.diff(oracle.offsets), k)
    hits = np.bincount(found.query[(found.reference <= k) & (found.rank <= depth)], minlength=len(ranking))
    return np.where(wanted > 0, hits / np.maximum(wanted, 1), np.nan)


def agreement(ranking: Ranking, oracle: Ranking, *, k: int = 10, within: Sequence[int] = (), p: float = 0.9) -> "pd.DataFrame":
    """Agreement with an oracle as a table like that of `evaluate`, which can be compared likewise: query_id, measure, value.

    Measures: `overlap@k`, `nRecall@k within k'` for each of `within`, `RBO(p=…)`. Queries in the order of the rankings, less
    those whose oracle found nothing. Raises ValueError as the measures do.
    """
    import pandas as pd

    columns = {f"overlap@{k}": n_recall(ranking, oracle, k)}
    columns |= {f"nRecall@{k} within {depth}": n_recall(ranking, oracle, k, within=depth) for depth in within}
    columns[f"RBO(p={p:g})"] = rank_biased_overlap(ranking, oracle, p=p)
    wide = pd.DataFrame(columns)[np.diff(oracle.offsets) > 0]
    queries = np.asarray(ranking.query_ids, dtype=object)[wide.index]
    return pd.DataFrame(
        {
            "query_id": np.repeat(queries, len(columns)),
            "measure": list(columns) * len(wide),
            "value": wide.to_numpy().ravel(),
        }
    )


def _sums(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n + 1,)`: the sum of the first i terms at position i."""
    return np.concatenate([np.zeros(1), np.cumsum(terms)])


def _shared(ranking: Ranking, reference: Ranking) -> _Shared:
    if ranking.query_ids != reference.query_ids:
        raise ValueError("agreement is of rankings of the same queries in the same order; give one with `take` of the other's")
    one, other = _numbers(ranking, reference)
    width = max(one.max(initial=0), other.max(initial=0)) + 1
    queries = item_of_row(ranking.offsets)
    keys = queries * width + one, item_of_row(reference.offsets) * width + other
    _, at, there = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    return _Shared(queries[at], ranking.ranks[at], reference.ranks[there])


def _numbers(one: Ranking, other: Ranking) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The documents of both rankings by numbers that they share: positions, where the lists of documents are the same."""
    if one.document_ids is other.document_ids or one.document_ids == other.document_ids:
        return one.positions, other.positions
    number: dict[str, int] = {}
    found = []
    for each in (one, other):
        used, inverse = np.unique(each.positions, return_inverse=True)
        numbers = [number.setdefault(each.document_ids[p], len(number)) for p in used]
        found.append(np.array(numbers, np.int64)[inverse])
    return found[0], found[1]
