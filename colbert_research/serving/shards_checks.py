"""What is asked of shards: which strategies they can search by, and the checks of a search before any worker sees it."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from colbert_research.index import FilterLike, Index, Scope
from colbert_research.search import Auto, SearchStrategy
from colbert_research.search.candidates import centroids_of
from colbert_research.search.dialects import Dialect
from colbert_research.settings import ConfigError


def check_strategy(strategy: SearchStrategy) -> None:
    """Raise ConfigError for a strategy whose scores depend on which other documents may be found: shards cannot be compared."""
    settings = strategy.model_dump()
    reason = {
        "weighted": 0 < settings.get("weight", 0) < 1 and "scales the scores from the lowest to the highest of all documents",
        "warp": settings.get("imputation", {}).get("kind") in ("mean", "top_k")
        and f"imputes by imputation={settings['imputation']['kind']} what all documents that were found have",
    }.get(settings["kind"])
    if reason:
        raise ConfigError(
            f"search.kind={settings['kind']} {reason}, which no shard knows; search it in one process, or choose another"
        )


class _Looked(Index):
    """An index whose searches end before the strategy is asked: what is wrong has been refused then, and the scope is known."""

    def scope(self, ids: Iterable[str] | None = None, filter: FilterLike | None = None) -> Scope:
        index, found = self.__dict__["_looked_at"]
        found.append(index.scope(ids, filter))
        return Scope.of(np.empty(0, np.int64), index.n_positions)


def checked(strategy: SearchStrategy, index: Index, queries: Any, k: int, **given: Any) -> Scope:
    """The scope of a search, all of whose checks were made. Raises as `SearchStrategy.search` says."""
    found: list[Scope] = []
    looked = object.__new__(_Looked)
    looked.__dict__.update(index.__dict__, _looked_at=(index, found))
    strategy.search(looked, queries, k, **given)
    return found[0]


def chosen(strategy: SearchStrategy, index: Index, k: int, scope: Scope) -> SearchStrategy:
    """The strategy that a strategy stands for, which all shards are asked for."""
    if isinstance(strategy, Auto):
        return strategy.choose(index, k, scope)[0]
    if isinstance(strategy, Dialect):
        plaid, most = strategy.plaid(k), len(centroids_of(index, strategy.kind))
        return plaid if plaid.ncells <= most else plaid.model_copy(update={"ncells": most})
    return strategy
