"""What answers queries: a retriever in this process, or shards of its index elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from colbert_research.index import FilterLike
from colbert_research.search.retriever import Hit, Retriever


@dataclass(frozen=True)
class Answer:
    """The hits of each query, best first, and the share of the index's documents that were looked for in time.

    `answered` below 1: shards did not answer before the deadline, and `why` names them; what they hold is in no list.
    """

    hits: Sequence[Sequence[Hit]]
    answered: float = 1.0
    why: str = ""


class Answering(Protocol):
    """Answers queries from several threads at once."""

    @property
    def retriever(self) -> Retriever:
        """The index, its pipeline and the strategy."""
        ...

    def answer(
        self,
        texts: Sequence[str],
        k: int,
        ids: Sequence[str] | None = None,
        filter: FilterLike | None = None,
        deadline: float | None = None,
    ) -> Answer:
        """The hits of each text, as `Retriever.search_many` gives and refuses them.

        `deadline`: seconds after which shards that have not answered are left out, and said to be; None waits for all.
        """
        ...
