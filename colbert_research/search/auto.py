"""A choice for who does not want to make one: exhaustive while that is fast, else PLAID with measured settings."""

import logging
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from colbert_research.index import Index, Scope
from colbert_research.search.base import UNSEEN, Found, Opens, Queries, SearchStrategy
from colbert_research.search.candidates import centroids_of
from colbert_research.search.decoded import token_offsets
from colbert_research.search.exhaustive import Exhaustive
from colbert_research.search.plaid import Plaid
from colbert_research.search.trace import Trace

logger = logging.getLogger("colbert_research")


class Auto(SearchStrategy):
    """`exhaustive` where the documents that may be found have at most `exhaustive_tokens` tokens together, or the codec no
    centroids; else `plaid`.

    So small collections and narrow filters get exact results, and exactly k documents are found where there are k with tokens.
    `ncells` and `n_exact` are what `plaid` gets; `n_exact` is raised to 4 k where k is large, and a query whose cells hold
    fewer than k documents is searched again with four times as many, until there are k. `choose` tells what is chosen and why;
    a search notes it in its trace.
    """

    opens: ClassVar[Opens] = {UNSEEN: ("ncells",), "interaction": ("n_exact",)}
    kind: Literal["auto"] = "auto"
    exhaustive_tokens: int = Field(2_000_000, ge=0)
    ncells: int = Field(4, ge=1)
    n_exact: int = Field(512, ge=1)

    def choose(self, index: Index, k: int, scope: Scope | None = None) -> tuple[SearchStrategy, str]:
        """The strategy for an index, k and the documents that may be found (None: all), and the reason in a sentence."""
        scope = scope or index.scope()
        n_tokens = index.n_tokens if scope.is_all else int(np.diff(token_offsets(index))[scope.positions].sum())
        tokens = f"{n_tokens} tokens" if scope.is_all else f"{n_tokens} tokens of the {scope.size} documents that may be found"
        if n_tokens <= self.exhaustive_tokens:
            return Exhaustive(), f"exhaustive: {tokens} are at most {self.exhaustive_tokens}"
        if index.codec.centroids is None:
            return Exhaustive(), f"exhaustive: codec {index.codec.config.kind!r} has no centroids to find candidates with"  # type: ignore[attr-defined]
        n_exact = max(self.n_exact, 4 * k)
        ncells = min(self.ncells, len(index.codec.centroids))
        chosen = Plaid(ncells=ncells, ndocs=n_exact, n_exact=n_exact)
        return chosen, f"plaid with ncells={ncells}, n_exact={n_exact}: {tokens}"

    def widened(self, chosen: Plaid, index: Index) -> Plaid:
        """What is searched again for queries with too few candidates: with four times as many cells, as far as there are."""
        return chosen.model_copy(update={"ncells": min(4 * chosen.ncells, len(centroids_of(index, self.kind)))})

    def exhaustive_equivalent(self, index: Index) -> Self:
        centroids = index.codec.centroids
        ncells = self.ncells if centroids is None else len(centroids)
        return self.model_copy(update={"exhaustive_tokens": index.n_tokens, "ncells": ncells, "n_exact": index.n_documents})

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        chosen, reason = self.choose(index, k, scope)
        logger.info("auto chose %s", reason)
        trace.notes.append(reason)
        found = chosen._search(index, queries, k, scope, trace)
        while isinstance(chosen, Plaid) and (short := too_few(index, found, k, scope)):
            chosen = self.widened(chosen, index)
            note = f"{len(short)} queries had too few candidates: searched again with ncells={chosen.ncells}"
            logger.info("auto: %s", note)
            trace.notes.append(note)
            for i in short:
                (found[i],) = chosen._search(index, queries.slice(i, i + 1), k, scope, trace)
        return found


def too_few(index: Index, found: list[Found], k: int, scope: Scope) -> list[int]:
    """The queries for which fewer documents were found than `k`, or than there are with tokens where these are fewer."""
    if all(len(positions) >= k for positions, _ in found):
        return []
    filled = np.diff(token_offsets(index)) > 0
    wanted = min(k, int(np.count_nonzero(filled[scope.positions])))
    return [i for i, (positions, _) in enumerate(found) if len(positions) < wanted]
