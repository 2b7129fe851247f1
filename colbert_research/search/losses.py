"""Where a search lost a document that exact search finds: the stage that left it out and the settings that let it pass, or the
codes that misranked it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from colbert_research.index import Index
from colbert_research.ragged import Ragged
from colbert_research.search.base import UNSEEN, SearchStrategy
from colbert_research.search.cell_ranks import cell_ranks
from colbert_research.search.exhaustive import Exhaustive
from colbert_research.search.explanation import Explanation, Step

FOUND, MISRANKED = "found", "misranked by the codes"


@dataclass(frozen=True)
class Loss:
    """What became of one document in a search for one query.

    `cause`: `found`; `not among the documents of stage …`, the first one; `cut after stage …`, the last that looked at it, with
    its `rank` among the `of` documents there, None where that stage gives no scores; `misranked by the codes` where it was
    scored last and exhaustive search of the same index does not find it either. `stage`: where it was lost, `UNSEEN` or the
    last that looked at it. `opened_by`: the settings that decide it, each of which, or all in one tuple together, would let
    it pass that stage. `coded_rank`, `coded_score`: by exhaustive search of the index. `cell_rank`: of all cells that its
    tokens lie in, the best rank among those of any query token, from 1: so many must be probed; None for an index without
    centroids. `exact_rank`, `exact_score`: by exact search of the vectors, where they were given. `grade`: as judged.
    """

    query_id: str
    document_id: str
    cause: str
    stage: str
    opened_by: tuple[tuple[str, ...], ...] = ()
    rank: int | None = None
    of: int | None = None
    exact_rank: int | None = None
    exact_score: float | None = None
    coded_rank: int | None = None
    coded_score: float | None = None
    cell_rank: int | None = None
    grade: int = 0

    @property
    def lost(self) -> bool:
        return self.cause != FOUND

    @property
    def settings(self) -> str:
        """`opened_by` in words: `ncells`, `centroid_score_threshold or ndocs`, `k_tokens and ann`."""
        return " or ".join(" and ".join(together) for together in self.opened_by)

    def words(self) -> str:
        """One sentence."""
        exact = "" if self.exact_rank is None else f", number {self.exact_rank} of exact search"
        said = f"{self.document_id!r}{exact} for {self.query_id!r}: {self.cause}"
        said += "" if self.rank is None else f", where it stood at rank {self.rank} of {self.of}"
        if self.stage == UNSEEN and self.cell_rank is not None:
            said += f"; the nearest of its cells is number {self.cell_rank} of a query token's"
        if self.cause == MISRANKED:
            scores = "" if self.exact_score is None else f", by exact vectors {self.exact_score:.3f}"
            said += f"; its score by the codes is {self.coded_score:.3f}{scores}"
        return said + (f"; {self.settings} would let it pass" if self.settings else "")


@dataclass(frozen=True, eq=False)
class LossFinder:
    """One search for one query, to be asked what became of documents; it searches again as far as that needs.

    `query`: a `Ragged` of one item. `names`: `query_ids` and `query_texts`, for strategies that look at them.
    """

    strategy: SearchStrategy
    index: Index
    query: Ragged
    k: int
    names: Mapping[str, Any] = field(default_factory=dict)
    _opened: dict[tuple[str, ...], Explanation] = field(default_factory=dict)

    def loss(
        self, document_id: str, *, exact_rank: int | None = None, exact_score: float | None = None, grade: int = 0
    ) -> Loss:
        """What became of a document. Raises KeyError for one that the index does not have."""
        (position,) = self.index.positions([document_id]).tolist()
        explanation, (query_id,) = self._explained(()), self.names.get("query_ids") or [""]
        last, coded = explanation.last(position), self._coded
        stage = UNSEEN if last is None else last.stage
        rank = of = None
        if last is not None:
            rank, of = None if last.scores is None else last.rank(position), len(last)
        cause, opened_by = self._cause(explanation, position, stage)
        return Loss(
            *(query_id, document_id, cause, stage, opened_by, rank, of, exact_rank, exact_score),
            coded_rank=coded.rank(position),
            coded_score=_score(coded, position),
            cell_rank=self._cell_rank(position),
            grade=grade,
        )

    def _cause(self, explanation: Explanation, position: int, stage: str) -> tuple[str, tuple[tuple[str, ...], ...]]:
        *stages, result = explanation.steps
        if stage == result.stage:
            return FOUND, ()
        if stages and stage == stages[-1].stage and self._coded.rank(position) > len(result):
            return MISRANKED, ()
        first = (stages or [result])[0].stage
        cause = f"not among the documents of stage {first!r}" if stage == UNSEEN else f"cut after stage {stage!r}"
        return cause, self._opened_by(position, stage)

    def _opened_by(self, position: int, stage: str) -> tuple[tuple[str, ...], ...]:
        """The settings of a stage each of which alone lets a document pass it; else all of them together."""
        opened = self.strategy.exhaustive_equivalent(self.index)
        named = self.strategy.opens.get(stage, ())
        tight = [name for name in named if getattr(self.strategy, name) != getattr(opened, name)]
        if len(tight) < 2:
            return tuple((name,) for name in tight)
        alone = tuple((name,) for name in tight if self._passes(position, stage, (name,)))
        return alone or (tuple(tight),)

    def _passes(self, position: int, stage: str, settings: tuple[str, ...]) -> bool:
        """Whether a document gets past a stage with some settings opened; not tried where that would build a structure."""
        opened = self.strategy.opened(self.index, settings)
        if not {*opened.structures()} <= {*self.strategy.structures()}:
            return False
        try:
            last = self._explained(settings).last(position)
        except ValueError:  # they cannot be opened without the others
            return False
        return last is not None and last.stage != stage

    def _explained(self, settings: tuple[str, ...]) -> Explanation:
        """What the search does with some settings opened."""
        if settings not in self._opened:
            strategy = self.strategy.opened(self.index, settings) if settings else self.strategy
            self._opened[settings] = strategy.explain(self.index, self.query, self.k, **self.names)
        return self._opened[settings]

    @cached_property
    def _coded(self) -> Step:
        """All documents of the index, by exhaustive search."""
        return Exhaustive().explain(self.index, self.query, self.k).steps[0]

    def _cell_rank(self, position: int) -> int | None:
        if self.index.codec.centroids is None:
            return None
        _, ranks = cell_ranks(self.index, self.query, position)
        return int(ranks.min()) if ranks.size else None


def words(losses: Iterable[Loss]) -> str:
    """`of 120 documents, 41 were lost: 30 not among the documents of stage 'candidates' (ncells), 8 cut after stage …`."""
    every = list(losses)
    causes = Counter(f"{each.cause} ({each.settings})" if each.settings else each.cause for each in every if each.lost)
    told = ", ".join(f"{n} {cause}" for cause, n in causes.most_common())
    return f"of {len(every)} documents, {sum(causes.values())} were lost" + (f": {told}" if told else "")


def _score(step: Step, position: int) -> float:
    assert step.scores is not None
    return float(step.scores[np.searchsorted(step.positions, position)])
