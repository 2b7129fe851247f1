"""Exhaustive search: every document scored, on whatever codes the index holds. The reference of every comparison."""

from abc import abstractmethod
from contextlib import closing
from typing import Literal, Self

from colbert_research.index import Index, Scope
from colbert_research.ragged import Ragged
from colbert_research.search.base import Found, Queries, SearchStrategy
from colbert_research.search.engine import Engine
from colbert_research.search.found import NOTHING, merged
from colbert_research.search.on_host import HostEngine
from colbert_research.search.trace import Trace


class ExhaustiveSearch(SearchStrategy):
    """No candidates, no pruning: MaxSim with every document (ColBERT, section 3.3)."""

    kind: str

    @abstractmethod
    def engine(self, index: Index) -> Engine:
        """What computes the steps of a search over this index."""

    def exhaustive_equivalent(self, index: Index) -> Self:
        return self

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        return best_of_all(self.engine(index), queries.vectors, k, scope, trace, stage="score")


class Exhaustive(ExhaustiveSearch):
    """See `ExhaustiveSearch`; on the processor."""

    kind: Literal["exhaustive"] = "exhaustive"

    def engine(self, index: Index) -> Engine:
        return HostEngine(index)


def best_of_all(engine: Engine, queries: Ragged, k: int, scope: Scope, trace: Trace, *, stage: str) -> list[Found]:
    """For each query, the `k` best of all documents that may be found, all of them scored in `stage`."""
    found = [NOTHING] * len(queries)
    with closing(engine.parts(scope)) as parts:
        for documents in parts:
            block = engine.queries_at_once(documents)
            for start in range(0, len(queries), block):
                scores = engine.score(queries.slice(start, start + block), documents, trace, stage=stage)
                with engine.stage(trace, "topk"):
                    for query, later in enumerate(engine.best(documents, scores, k), start):
                        found[query] = merged(found[query], later, k)
    return found
