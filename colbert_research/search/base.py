"""What a search strategy is: frozen parameters with one verb, `search`. It holds no state and learns nothing from a query."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from colbert_research.config import Config
from colbert_research.index import Auxiliary, Index
from colbert_research.ragged import Ragged
from colbert_research.ranking import Ranking
from colbert_research.search.trace import Trace

Found = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Positions and scores of one query's documents, in any order."""


@dataclass(frozen=True, eq=False)
class Queries:
    """What is searched for, in parallel: token vectors, identifiers, and the texts where the caller gave them."""

    vectors: Ragged
    ids: tuple[str, ...]
    texts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, column in (("ids", self.ids), ("texts", self.texts)):
            if column is not None and len(column) != len(self.vectors):
                raise ValueError(f"{len(self.vectors)} queries, but {len(column)} query {name}")

    def __len__(self) -> int:
        return len(self.vectors)

    def __iter__(self) -> Iterator["Queries"]:
        """One query at a time."""
        return (self.slice(i, i + 1) for i in range(len(self)))

    def slice(self, start: int, stop: int) -> "Queries":
        """Queries `start` to `stop` (exclusive)."""
        texts = None if self.texts is None else self.texts[start:stop]
        return Queries(self.vectors.slice(start, stop), self.ids[start:stop], texts)


class SearchStrategy(Config, ABC):
    """Base of all strategies: checks what is asked, then hands it to `_search`, the one method that a strategy writes."""

    def search(
        self,
        index: Index,
        queries: Ragged,
        k: int,
        *,
        query_ids: Sequence[str] | None = None,
        query_texts: Sequence[str] | None = None,
        subset: Sequence[str] | None = None,
        trace: Trace | None = None,
    ) -> Ranking:
        """The best `k` documents of every query; fewer where the index, the subset or the strategy's candidates are fewer.

        `queries`: token vectors `(n_tokens, dim)`. `query_texts`: for strategies that look at words. `subset`: identifiers of
        the only documents that may be found; an empty one finds nothing, an unknown one is a KeyError. `trace`: collects times
        and counts. Raises ValueError for k < 1, for queries of another width than the index's, without tokens or with values
        that are not finite, for texts that are missing where they are needed, and for parameters that cannot give `k` results.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1; given {k}")
        ids = tuple(query_ids) if query_ids is not None else tuple(str(i) for i in range(len(queries)))
        asked = Queries(queries, ids, None if query_texts is None else tuple(query_texts))
        if asked.texts is None and self.needs_texts():
            raise ValueError(f"{self!r} looks at the words of the queries; pass query_texts, one text a query")
        if len(queries) and queries.dim != index.dim:
            raise ValueError(
                f"the queries have {queries.dim} dimensions and the index {index.dim}; "
                "encode them with the encoder and reducer that the index was built with"
            )
        if np.any(queries.lengths == 0):
            raise ValueError(f"query {ids[int(np.flatnonzero(queries.lengths == 0)[0])]!r} has no token vectors")
        if not np.isfinite(queries.values).all():
            raise ValueError("the queries hold values that are not finite (NaN or infinite)")
        self.check(index, k)
        positions = None if subset is None else np.unique(index.positions(subset))
        trace = trace if trace is not None else Trace()
        trace.queries += len(queries)
        if positions is not None and not len(positions):
            found: list[Found] = [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(queries)
        else:
            found = self._search(index, asked, k, positions, trace)
        return Ranking.of(found, query_ids=ids, document_ids=index.document_ids)

    def auxiliaries(self) -> tuple[Auxiliary, ...]:
        """The structures beside the codes that `_search` asks the index for."""
        return ()

    def needs_texts(self) -> bool:
        """Whether `_search` looks at the queries' texts."""
        return False

    def check(self, index: Index, k: int) -> None:
        """Raise ValueError when the strategy cannot serve this index or give `k` results."""

    @abstractmethod
    def widest(self, index: Index) -> Self:
        """This strategy with its knobs opened so far that it gives the exhaustive result on `index`."""

    @abstractmethod
    def _search(self, index: Index, queries: Queries, k: int, subset: NDArray[np.int64] | None, trace: Trace) -> list[Found]:
        """One `Found` a query. `subset`: rising positions, at least one, or None for all documents."""
