"""What a search did for one query: the documents that each of its stages looked at, and where any one of them stood there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from colbert_research.ranking import Ranking
from colbert_research.search.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

RESULT = "result"
UNSEEN = ""
"""Stands for a stage where a document was looked at by none."""


@dataclass(frozen=True, eq=False)
class Step:
    """A stage, the documents that it looked at, and the scores that it gave them.

    `positions` `(n,)` int64, ascending; `scores` `(n,)` float32, None of a stage that gives none. What a stage leaves out is
    missing from the next one.
    """

    stage: str
    positions: NDArray[np.int64]
    scores: NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.positions)

    def __contains__(self, position: int) -> bool:
        return bool(np.isin(position, self.positions))

    def rank(self, position: int) -> int:
        """The rank of a document that it looked at, by its scores, from 1; ties by position."""
        (place,) = np.flatnonzero(self.positions == position)
        assert self.scores is not None
        return 1 + int(np.sum(self.scores > self.scores[place])) + int(np.sum(self.scores[:place] == self.scores[place]))


@dataclass(frozen=True, eq=False)
class Explanation:
    """The `steps` of one search for one query, the last of which is its result, over documents with these ids."""

    steps: tuple[Step, ...]
    document_ids: Sequence[str]

    @classmethod
    def of(cls, trace: Trace, ranking: Ranking) -> "Explanation":
        """From the trace of a search for one query that kept its documents, and what it found."""
        kept = trace.kept or {}
        steps = [_joined(stage, kept[stage]) for stage in trace.stages if stage in kept]
        return cls((*steps, _joined(RESULT, [(ranking.positions, ranking.scores)])), ranking.document_ids)

    def last(self, position: int) -> Step | None:
        """The last step that looked at the document at a position of the index, which is the result for one that was found."""
        return next((step for step in reversed(self.steps) if position in step), None)

    def documents(self) -> dict[str, list[str]]:
        """Stage -> the ids of the documents that it looked at, by position."""
        return {step.stage: [self.document_ids[i] for i in step.positions.tolist()] for step in self.steps}

    def table(self, *documents: str) -> "pd.DataFrame":
        """How many documents each stage looked at, and the rank of each of these by its scores: "in" where it gives none, and
        "-" where the document did not get so far. Raises ValueError for an unknown document id."""
        import pandas as pd

        known = {document: i for i, document in enumerate(self.document_ids)} if documents else {}
        if unknown := [document for document in documents if document not in known]:
            raise ValueError(f"no document {unknown[0]!r} in the index; its ids are like {self.document_ids[0]!r}")
        rows = [(step.stage, len(step), *(_standing(step, known[document]) for document in documents)) for step in self.steps]
        columns = ["stage", "documents", *(f"rank of {document}" for document in documents)]
        return pd.DataFrame(rows, columns=columns).set_index("stage")


def _standing(step: Step, position: int) -> int | str:
    return "-" if position not in step else "in" if step.scores is None else step.rank(position)


def _joined(stage: str, parts: Sequence[tuple[NDArray[np.int64], NDArray[np.float32] | None]]) -> Step:
    """A stage that looked at its documents in parts; of one that it looked at again, the later score counts."""
    positions, last = np.unique(np.concatenate([part for part, _ in parts])[::-1], return_index=True)
    scores = [scores for _, scores in parts if scores is not None]
    return Step(stage, positions, np.concatenate(scores)[::-1][last] if len(scores) == len(parts) else None)
