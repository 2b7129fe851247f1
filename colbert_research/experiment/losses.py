"""The documents that an experiment's search loses against exact search, over all its queries, and at which stage."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from colbert_research.experiment.question import Question
from colbert_research.ranking import Ranking
from colbert_research.search.losses import Loss, exact_ranks, loss_of, words
from colbert_research.settings import ConfigError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("query_id", "document_id", "grade", "exact rank", "cause", "rank", "of")


@dataclass(frozen=True)
class Losses:
    """What became of `each` of some documents; see `losses_of`."""

    each: tuple[Loss, ...]

    def __len__(self) -> int:
        return len(self.each)

    def table(self, *, lost: bool = True) -> "pd.DataFrame":
        """A row for each document that was lost (or each of all): query, document, grade, rank in exact search, cause, rank."""
        import pandas as pd

        shown = [loss for loss in self.each if loss.lost or not lost]
        rows = [(e.query_id, e.document_id, e.grade, e.exact_rank, e.cause, e.rank, e.of) for e in shown]
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"rank": "Int64", "of": "Int64"})

    def words(self) -> str:
        """How many were lost, and why, in a sentence."""
        return words(self.each)


def losses_of(experiment: Any, exact: Ranking, *, k: int = 10, judged: bool = True, queries: int | None = None) -> Losses:
    """What became, in an experiment's search, of the best `k` documents of an exact ranking, for each query.

    `exact`: that of `experiment.variant("codec.kind=exact search.kind=exhaustive")`, say. `judged`: only of the documents that
    are judged relevant. `queries`: the first so many. Searches the queries one by one. Raises ConfigError where the ranking is
    of other queries or where the search returns fewer than `k` documents.
    """
    if tuple(exact.query_ids) != tuple(experiment.collection.query_ids):
        raise ConfigError("the exact ranking is of other queries than the experiment's; take that of a variant of it")
    if k > experiment.config.k:
        raise ConfigError(f"k={k} documents of exact search cannot be found among k={experiment.config.k}; raise the latter")
    found: list[Loss] = []
    for number, query_id in enumerate(experiment.collection.query_ids[:queries]):
        grades = experiment.collection.qrels.get(query_id, {})
        wanted = {d: rank for d, rank in exact_ranks(exact, number, k).items() if not judged or grades.get(d, 0) > 0}
        if wanted:
            explanation = Question.of(experiment, None, query_id).explain()
            positions = experiment.index.positions(list(wanted)).tolist()
            for position, (document, rank) in zip(positions, wanted.items(), strict=True):
                grade = int(grades.get(document, 0))
                found.append(loss_of(explanation, position, query_id=query_id, exact_rank=rank, grade=grade))
    return Losses(tuple(found))
