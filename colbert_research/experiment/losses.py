"""The documents that an experiment's search loses against exact search, over all its queries, and at which stage."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from colbert_research.experiment.question import Question
from colbert_research.ranking import Ranking
from colbert_research.search.losses import Loss, words
from colbert_research.settings import ConfigError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "query_id": "query_id",
    "document_id": "document_id",
    "grade": "grade",
    "cause": "cause",
    "settings": "settings that decide it",
    "rank": "rank there",
    "of": "of",
    "cell_rank": "rank of nearest cell",
    "exact_rank": "rank, exact",
    "coded_rank": "rank, codes",
    "exact_score": "score, exact",
    "coded_score": "score, codes",
}
"""Fields of `Loss` and the columns of its table."""
WHOLE = ("grade", "rank", "of", "cell_rank", "exact_rank", "coded_rank")


@dataclass(frozen=True)
class Losses:
    """What became of `each` of some documents; see `losses_of`."""

    each: tuple[Loss, ...]

    def __len__(self) -> int:
        return len(self.each)

    def table(self, *, lost: bool = True) -> "pd.DataFrame":
        """A row for each document that was lost, or for each of all; the columns are those of `COLUMNS` that say anything."""
        import pandas as pd

        shown = [loss for loss in self.each if loss.lost or not lost]
        table = pd.DataFrame([[getattr(each, name) for name in COLUMNS] for each in shown], columns=list(COLUMNS))
        table = table.astype(dict.fromkeys(WHOLE, "Int64") | {"exact_score": float, "coded_score": float})
        if table["cell_rank"].isna().all():
            table = table.drop(columns="cell_rank")
        return table.round({"exact_score": 4, "coded_score": 4}).rename(columns=COLUMNS)

    def counts(self) -> "pd.DataFrame":
        """How many were lost by cause and the settings that decide it, the most first."""
        import pandas as pd

        rows = [(loss.cause, loss.settings) for loss in self.each if loss.lost]
        table = pd.DataFrame(rows, columns=["cause", COLUMNS["settings"]])
        return table.value_counts(sort=True).rename("documents").reset_index()

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
        best = list(enumerate(exact.top(number)[:k], 1))
        wanted = [each for each in best if not judged or grades.get(each[1][0], 0) > 0]
        if wanted:
            finder = Question.of(experiment, None, query_id).loss_finder
            for rank, (document, score) in wanted:
                grade = int(grades.get(document, 0))
                found.append(finder.loss(document, exact_rank=rank, exact_score=score, grade=grade))
    return Losses(tuple(found))
