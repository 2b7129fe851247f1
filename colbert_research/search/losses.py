"""Where a search lost a document that exact search finds: the stage that left it out, or the codes that misranked it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from colbert_research.ranking import Ranking
from colbert_research.search.explanation import RESULT, Explanation

FOUND, MISRANKED = "found", "misranked by the codes"


@dataclass(frozen=True)
class Loss:
    """What became of one document in a search for one query.

    `exact_rank`: where exact search has it. `cause`: `found`; `not among the <stage>`, of the first stage; `cut after <stage>`,
    the last stage that looked at it, with its `rank` among the `of` documents there, None where that stage gives no scores;
    or, where the search scored it in full and ranked it below what was asked for, `misranked by the codes`.
    """

    query_id: str
    document_id: str
    exact_rank: int
    cause: str
    rank: int | None = None
    of: int | None = None

    @property
    def lost(self) -> bool:
        return self.cause != FOUND

    def words(self) -> str:
        """One sentence."""
        said = f"{self.document_id!r}, number {self.exact_rank} of exact search for {self.query_id!r}: {self.cause}"
        return said if self.rank is None else f"{said}, where it stood at rank {self.rank} of {self.of}"


def loss_of(explanation: Explanation, document_id: str, *, query_id: str, exact_rank: int) -> Loss:
    """What became of a document in an explained search. Raises ValueError for an id that the index does not have.

    The last stage before the result scores in full, in every strategy; what it looked at and the result lacks was outranked
    there, by scores of the codes.
    """
    if document_id not in explanation.document_ids:
        raise ValueError(f"no document {document_id!r} in the index; its ids are like {explanation.document_ids[0]!r}")
    position = list(explanation.document_ids).index(document_id)
    *stages, result = explanation.steps
    if position in result:
        return Loss(query_id, document_id, exact_rank, FOUND, result.rank(position), len(result))
    seen = [step for step in stages if position in step]
    if not seen:
        first = stages[0].stage if stages else RESULT
        return Loss(query_id, document_id, exact_rank, f"not among the documents of stage {first!r}")
    last = seen[-1]
    rank = None if last.scores is None else last.rank(position)
    cause = MISRANKED if last is stages[-1] else f"cut after stage {last.stage!r}"
    return Loss(query_id, document_id, exact_rank, cause, rank, len(last))


def exact_ranks(exact: Ranking, query: int, k: int) -> dict[str, int]:
    """The ids of a query's best `k` documents in an exact ranking, with their ranks from 1."""
    return {document: rank for rank, (document, _) in enumerate(exact.top(query)[:k], 1)}


def words(losses: Iterable[Loss]) -> str:
    """`of 120 documents, 41 were lost: 30 not among the documents of stage 'candidates', 8 cut after stage …`."""
    every = list(losses)
    causes = Counter(loss.cause for loss in every if loss.lost)
    told = ", ".join(f"{n} {cause}" for cause, n in causes.most_common())
    return f"of {len(every)} documents, {sum(causes.values())} were lost" + (f": {told}" if told else "")
