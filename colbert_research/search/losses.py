"""Where a search lost a document that exact search finds: the stage that left it out, or the codes that misranked it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from colbert_research.ranking import Ranking
from colbert_research.search.explanation import Explanation

FOUND, MISRANKED = "found", "misranked by the codes"
IN_FULL = ("exact", "score")
"""Stages that score all tokens of a document, by its codes."""


@dataclass(frozen=True)
class Loss:
    """What became of one document in a search for one query.

    `exact_rank`: where exact search has it. `cause`: `found`; `not among the <stage>`, of the first stage; `cut after <stage>`,
    the last stage that looked at it, with its `rank` among the `of` documents there, None where that stage gives no scores;
    or, where the search scored it in full and ranked it below what was asked for, `misranked by the codes`. `grade`: as judged.
    """

    query_id: str
    document_id: str
    exact_rank: int
    cause: str
    rank: int | None = None
    of: int | None = None
    grade: int = 0

    @property
    def lost(self) -> bool:
        return self.cause != FOUND

    def words(self) -> str:
        """One sentence."""
        said = f"{self.document_id!r}, number {self.exact_rank} of exact search for {self.query_id!r}: {self.cause}"
        return said if self.rank is None else f"{said}, where it stood at rank {self.rank} of {self.of}"


def loss_of(explanation: Explanation, position: int, *, query_id: str, exact_rank: int, grade: int = 0) -> Loss:
    """What became of the document at a position of the index in an explained search.

    What the last stage looked at and the result lacks was outranked there: by scores of the codes, where that stage scores in
    full, and else by what it scores with, as WARP's imputed scores.
    """
    document, (*stages, result) = explanation.document_ids[position], explanation.steps
    cause, rank, of = f"not among the documents of stage {(stages or [result])[0].stage!r}", None, None
    for step in stages:
        if position in step:
            rank, of = None if step.scores is None else step.rank(position), len(step)
            cause = MISRANKED if step is stages[-1] and step.stage in IN_FULL else f"cut after stage {step.stage!r}"
    if position in result:
        cause, rank, of = FOUND, result.rank(position), len(result)
    return Loss(query_id, document, exact_rank, cause, rank, of, grade)


def exact_ranks(exact: Ranking, query: int, k: int) -> dict[str, int]:
    """The ids of a query's best `k` documents in an exact ranking, with their ranks from 1."""
    return {document: rank for rank, (document, _) in enumerate(exact.top(query)[:k], 1)}


def words(losses: Iterable[Loss]) -> str:
    """`of 120 documents, 41 were lost: 30 not among the documents of stage 'candidates', 8 cut after stage …`."""
    every = list(losses)
    causes = Counter(loss.cause for loss in every if loss.lost)
    told = ", ".join(f"{n} {cause}" for cause, n in causes.most_common())
    return f"of {len(every)} documents, {sum(causes.values())} were lost" + (f": {told}" if told else "")
