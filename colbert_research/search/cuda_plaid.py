"""PLAID on a CUDA device: every stage computes there on what lies there; cells, and the best documents, come back."""

from typing import Literal

from pydantic import Field

from colbert_research.index import Index, Scope
from colbert_research.kernels.cuda.arrays import Array, column_maxima, to_numpy, upload
from colbert_research.ragged import Ragged
from colbert_research.search.base import Found, Queries
from colbert_research.search.on_device import DeviceIndex, check_device, device_index
from colbert_research.search.plaid import NO_SCORES, PlaidSettings, reaching
from colbert_research.search.trace import Trace


class CudaPlaid(PlaidSettings):
    """What `plaid` of the same settings finds, with the same scores.

    `memory_gb`: as in `cuda_exhaustive`; codes that do not fit are an error, because each query asks for other documents.
    """

    kind: Literal["cuda_plaid"] = "cuda_plaid"
    memory_gb: float | None = Field(None, gt=0)

    def check(self, index: Index, k: int) -> None:
        super().check(index, k)
        check_device(self.kind, "plaid")

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        if not len(queries):
            return []
        there = device_index(index, self.memory_gb, stream=False)
        if not scope.is_all and scope.size <= self.n_exact:
            return self._exact(there, queries.vectors, upload(scope.positions, there.place), k, trace)
        return [self._one(there, query.vectors, k, scope, trace) for query in queries]

    def _one(self, there: DeviceIndex, query: Ragged, k: int, scope: Scope, trace: Trace) -> Found:
        with there.stage(trace, "probe") as count:
            scores = there.products(query.values)
            cells = there.cells(scores, self.ncells)
            highest = to_numpy(column_maxima(scores)) if self.has_threshold else NO_SCORES
            opened = reaching(highest, self.cell_score_threshold)
            if opened is not None:
                cells = cells[opened[cells]]
            count.centroids += len(cells)
        with there.stage(trace, "candidates") as count:
            candidates = there.candidates(cells)
            if not scope.is_all:
                candidates = upload(scope.intersect(to_numpy(candidates)), there.place)
            count.documents += len(candidates)
        kept = reaching(highest, self.centroid_score_threshold)
        if kept is not None and len(candidates) > self.ndocs:
            pruned = there.interaction(scores, candidates, trace, stage="pruned interaction", kept=kept)
            candidates = there.narrow(candidates, pruned, self.ndocs)
        if len(candidates) > self.n_exact:
            unpruned = there.interaction(scores, candidates, trace, stage="interaction")
            candidates = there.narrow(candidates, unpruned, self.n_exact)
        return self._exact(there, query, candidates, k, trace)[0]

    def _exact(self, there: DeviceIndex, queries: Ragged, positions: Array, k: int, trace: Trace) -> list[Found]:
        assert there.shards.resident is not None
        with there.stage(trace, "exact") as count:
            scores = there.score(there.shards.resident, queries, positions)
            tokens = len(queries) * there.tokens_of(positions)
            count.documents += len(queries) * len(positions)
            count.tokens += tokens
            count.bytes += tokens * there.bytes_per_token
        return there.found(positions, scores, k)
