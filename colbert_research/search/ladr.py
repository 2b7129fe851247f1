"""LADR: re-ranking that follows a graph of neighbouring documents from what it has found so far.

Source: Kulkarni, MacAvaney, Goharian and Frieder 2023, "Lexically-Accelerated Dense Retrieval", the adaptive variant; for late
interaction MacAvaney and Tonellotto 2024.
"""

from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.config import component
from colbert_research.index import DerivedStructure, Index, Scope
from colbert_research.search.base import UNSEEN, Found, Opens, Queries
from colbert_research.search.candidates import largest_segment, score_all
from colbert_research.search.found import best
from colbert_research.search.graphs import GRAPHS, DocumentGraph
from colbert_research.search.on_host import HostEngine
from colbert_research.search.staged import Staged
from colbert_research.search.trace import Trace


class Ladr(Staged):
    """The best `n_seeds` (n) of the `first_stage` are scored exactly; then, again and again, the neighbours in the `graph` of
    the best `depth` (c) documents so far, until those bring no new document.

    The papers take both the seeds and the graph from BM25. Neighbours are of the same segment of the index. A subset is neither
    left nor crossed: neighbours outside are not followed. Documents, or a subset, of at most `n_seeds` are scored exactly,
    without seeds.
    """

    opens: ClassVar[Opens] = {UNSEEN: ("n_seeds",), "first stage": ("n_seeds", "depth")}
    kind: Literal["ladr"] = "ladr"
    graph: component("graph", GRAPHS, default="mean_vector_graph") = "mean_vector_graph"  # type: ignore[valid-type]
    n_seeds: int = Field(500, ge=1, description="n")
    depth: int = Field(20, ge=1, description="c")

    def _structures(self) -> tuple[DerivedStructure, ...]:
        return (*super()._structures(), self.graph)

    def exhaustive_equivalent(self, index: Index) -> Self:
        return self.model_copy(update={"n_seeds": index.n_documents, "depth": index.n_documents})

    def check(self, index: Index, k: int) -> None:
        super().check(index, k)
        most, given = largest_segment(index)[0] - 1, self.graph.neighbours
        if given > most and given != type(self.graph).model_fields["neighbours"].default:  # of the default, all that there are
            raise ValueError(
                f"graph.neighbours={self.graph.neighbours}, but a document has at most {most} others in its segment of the "
                "index; lower search.graph.neighbours"
            )

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        if scope.size <= self.n_seeds:
            return score_all(index, queries, k, scope, trace)
        seeds = self.first_stage.candidates(index, queries, self.n_seeds, scope, trace)
        graph: DocumentGraph = index.structure(self.graph)
        return [
            self._one(index, query, k, positions, graph, scope, trace) for query, positions in zip(queries, seeds, strict=True)
        ]

    def _one(
        self,
        index: Index,
        query: Queries,
        k: int,
        seeds: NDArray[np.int64],
        graph: DocumentGraph,
        scope: Scope,
        trace: Trace,
    ) -> Found:
        engine = HostEngine(index)
        positions, scores = seeds, engine.score(query.vectors, seeds, trace, stage="exact")[0]
        followed = np.empty(0, np.int64)
        while True:
            with trace.stage("neighbours") as count:
                top = np.setdiff1d(best(positions, scores, self.depth)[0], followed)
                followed = np.union1d(followed, top)
                reached = np.setdiff1d(graph.neighbours_of(top), positions)
                reached = scope.intersect(reached[reached >= 0])
                count.documents += len(reached)
            if not len(reached):
                return best(positions, scores, k)
            more = engine.score(query.vectors, reached, trace, stage="exact")[0]
            positions, scores = np.concatenate([positions, reached]), np.concatenate([scores, more])
            order = np.argsort(positions)
            positions, scores = positions[order], scores[order]
