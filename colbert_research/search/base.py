"""What a search strategy is: frozen parameters with one verb, `search`. It holds no state and learns nothing from a query."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Self

from colbert_research.config import Config
from colbert_research.encoders.base import TokenVectors
from colbert_research.index import DerivedStructure, FilterLike, Index, Scope
from colbert_research.index.derived import in_order
from colbert_research.ragged import Ragged
from colbert_research.ranking import Ranking
from colbert_research.search.explanation import UNSEEN as UNSEEN
from colbert_research.search.explanation import Explanation
from colbert_research.search.found import NOTHING, Found
from colbert_research.search.queries import Queries, whole
from colbert_research.search.trace import Trace

__all__ = ["UNSEEN", "Found", "Opens", "Queries", "SearchStrategy"]

logger = logging.getLogger("colbert_research")


Opens = Mapping[str, tuple[str, ...]]


class SearchStrategy(Config, ABC):
    """Base of all strategies: checks what is asked, then hands it to `_search`, the one method that a strategy writes.

    `opens`: stage -> the settings that decide which of the documents it looked at go on; with `UNSEEN` for its name, those that
    decide which are looked at by any stage. The value that lets all go on is that of `exhaustive_equivalent`.
    """

    opens: ClassVar[Opens] = {}

    def search(
        self,
        index: Index,
        queries: Ragged | TokenVectors,
        k: int,
        *,
        query_ids: Sequence[str] | None = None,
        query_texts: Sequence[str] | None = None,
        subset: Iterable[str] | None = None,
        filter: FilterLike | None = None,
        trace: Trace | None = None,
    ) -> Ranking:
        """The best `k` documents of every query; fewer where the index, the subset or the strategy's candidates are fewer.

        `queries`: token vectors `(n_tokens, dim)`, or what an encoder gives. `query_texts`: for strategies that look at words,
        `query_ids`: for those that look queries up. `subset`: identifiers of the only documents that may be found; an empty one
        finds nothing, an unknown one is a KeyError. `filter`: which documents may be found, by their metadata (`Filter.of`);
        with a `subset`, those that both admit. Every strategy scores few documents exactly, by its settings; of more, one with
        candidates may find fewer than `k` although there are `k`, except for `auto`. `trace`: collects times and counts. Raises
        ValueError for k < 1, for queries of another width than the index's, without tokens or with values that are not finite,
        for texts or ids that are missing where they are needed, for parameters that cannot give `k` results, and, as
        FilterError, for a filter that is malformed or does not fit the index; TypeError for what is of another type.
        """
        if not isinstance(index, Index):
            raise TypeError(f"expected an open index (Index.open(folder) opens one); given {index!r}")
        k, asked = whole(k), Queries.of(queries, query_ids, query_texts, dim=index.dim)
        if asked.texts is None and self.needs_texts():
            raise ValueError(f"{self!r} looks at the words of the queries; pass query_texts, one text a query")
        if query_ids is None and self.needs_ids():
            raise ValueError(
                f"{self!r} looks queries up by id, and a number would be taken for one; pass query_ids, those that its file has"
            )
        strategy, notes = self.fitted(index)
        strategy.check_size(index.n_documents, k)
        strategy.check_here()
        if len(index):
            strategy.check(index, k)
        scope = index.scope(subset, filter)
        trace = trace if trace is not None else Trace()
        trace.queries += len(asked)
        trace.notes += [note for note in notes if note not in trace.notes]
        found = strategy._search(index, asked, k, scope, trace) if scope.size and len(asked) else [NOTHING] * len(asked)
        nothing = sum(1 for positions, _ in found if not len(positions)) if scope.size else 0
        if nothing:
            note = f"{self.kind}: {nothing} of {len(asked)} queries found nothing"  # type: ignore[attr-defined]
            logger.warning("%s", note)
            trace.notes.append(note)
        return Ranking.of(found, query_ids=asked.ids, document_ids=index.ids_by_position)

    def explain(
        self,
        index: Index,
        query: Ragged | TokenVectors,
        k: int,
        *,
        query_ids: Sequence[str] | None = None,
        query_texts: Sequence[str] | None = None,
        subset: Iterable[str] | None = None,
        filter: FilterLike | None = None,
    ) -> Explanation:
        """`search` for one query, with the documents that each stage looked at; raises what `search` raises.

        Raises ValueError for another number of queries.
        """
        vectors = query.vectors if isinstance(query, TokenVectors) else query
        if isinstance(vectors, Ragged) and len(vectors) != 1:
            raise ValueError(f"one query is explained at a time; given {len(vectors)}. Take one, as queries.slice(0, 1) does")
        trace = Trace(kept={})
        found = self.search(
            index, query, k, query_ids=query_ids, query_texts=query_texts, subset=subset, filter=filter, trace=trace
        )
        return Explanation.of(trace, found)

    def opened(self, index: Index, settings: Iterable[str]) -> Self:
        """This strategy with some of its settings as its exhaustive equivalent has them; it need not be a valid config."""
        opened = self.exhaustive_equivalent(index)
        return self.model_copy(update={name: getattr(opened, name) for name in settings})

    def fitted(self, index: Index) -> tuple[Self, list[str]]:
        """This strategy with settings at their default lowered to the most that the index has, and a note of each.

        A setting with another value is never changed: `check` refuses it.
        """
        fields, changed, notes = type(self).model_fields, {}, []
        for name, most in self._most(index).items():
            given = getattr(self, name)
            if given == fields[name].default and given > most:
                changed[name] = most
                notes.append(f"{self.kind}: {name}={most}, all that there are, where the default is {given}")  # type: ignore[attr-defined]
        return (self.model_copy(update=changed) if changed else self), notes

    def _most(self, index: Index) -> Mapping[str, int]:
        """The most that settings may be on an index, as far as there are such limits."""
        return {}

    def structures(self) -> tuple[DerivedStructure, ...]:
        """The structures beside the codes that a search opens, and all that these are built from, in an order to build them."""
        return in_order(self._structures())

    def needs_centroids(self) -> bool:
        """Whether it serves only indexes whose codec has centroids."""
        return False

    def what_needs_centroids(self) -> str:
        """The setting because of which it needs centroids, for errors."""
        return f"search.kind={self.kind}"  # type: ignore[attr-defined]

    def needs_texts(self) -> bool:
        """Whether `_search` looks at the queries' texts."""
        return False

    def needs_ids(self) -> bool:
        """Whether `_search` looks queries up by their ids, which must then be given."""
        return False

    def check_size(self, n_documents: int, k: int) -> None:
        """Raise ValueError when `k` results cannot come from what the stages leave of `n_documents`; known before any index."""

    def check_here(self) -> None:
        """Raise RuntimeError or ImportError where this machine lacks what a search needs."""

    def check(self, index: Index, k: int) -> None:
        """Raise ValueError when the strategy cannot serve this index."""

    def _structures(self) -> tuple[DerivedStructure, ...]:
        """The structures that `_search` asks the index for."""
        return ()

    @abstractmethod
    def exhaustive_equivalent(self, index: Index) -> Self:
        """This strategy with its knobs opened so far that it gives the exhaustive result on `index`."""

    @abstractmethod
    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        """One `Found` a query, of which there is at least one. `scope`: the documents that may be found, at least one."""
