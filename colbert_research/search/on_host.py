"""The steps of a search on the processor: documents are ascending positions, products and scores are NumPy arrays."""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.index import Index, Scope, Segment
from colbert_research.kernels.operands import Selection
from colbert_research.ragged import Ragged
from colbert_research.search.engine import SCORES_HELD
from colbert_research.search.found import Found, best
from colbert_research.search.probe import nearest_cells
from colbert_research.search.trace import Stage, Trace

Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HostEngine:
    """See `Engine`. It holds nothing but the index."""

    index: Index

    def stage(self, trace: Trace, name: str) -> AbstractContextManager[Stage]:
        return trace.stage(name)

    def keep(self, trace: Trace, stage: str, documents: Positions, scores: NDArray[np.float32] | None = None) -> None:
        trace.keep(stage, documents, None if scores is None else scores[0])

    def parts(self, scope: Scope) -> Generator[Positions, None, None]:
        yield scope.positions

    def queries_at_once(self, documents: Positions) -> int:
        return max(1, SCORES_HELD // max(1, len(documents)))

    def products(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.index.codec.centroids is not None
        return kernels.dot_products(query, self.index.codec.centroids)

    def highest(self, products: NDArray[np.float32]) -> NDArray[np.float32]:
        return reduce(np.maximum, products)  # products lie column by column

    def cells(self, products: NDArray[np.float32], n: int) -> NDArray[np.int64]:
        found = np.unique(nearest_cells(products, n, self.index.empty_cells))
        return found[found >= 0]

    def candidates(self, cells: NDArray[np.int64], scope: Scope) -> Positions:
        found = [
            start + segment.inverted.documents_of(cells, len(segment))
            for start, segment in zip(self.index.starts, self.index.segments, strict=False)
            if segment.inverted is not None
        ]
        return scope.intersect(np.concatenate(found))

    def interaction(
        self,
        products: NDArray[np.float32],
        documents: Positions,
        trace: Trace,
        *,
        stage: str,
        kept: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        scores = np.empty((1, len(documents)), np.float32)
        with trace.stage(stage) as count:
            for place, segment, only in self.by_segment(documents):
                ids = segment.centroid_ids
                scores[0, place] = kernels.centroid_interaction(products, ids, kept=kept, only=only)
                count.tokens_read(tokens_of(segment, only), ids.values.itemsize)
            count.documents += len(documents)
        self.keep(trace, stage, documents, scores)
        return scores

    def narrow(self, documents: Positions, scores: NDArray[np.float32], size: int) -> Positions:
        (row,) = scores
        return documents[kernels.among_best(row, size)]

    def score(self, queries: Ragged, documents: Positions, trace: Trace, *, stage: str) -> NDArray[np.float32]:
        scores = np.empty((len(queries), len(documents)), np.float32)
        with trace.stage(stage) as count:
            for place, segment, only in self.by_segment(documents):
                scores[:, place] = self.index.codec.maxsim(queries, segment.codes, segment.offsets, only)
                count.tokens_read(len(queries) * tokens_of(segment, only), self.index.bytes_per_token)
            count.documents += len(queries) * len(documents)
        self.keep(trace, stage, documents, scores)
        return scores

    def best(self, documents: Positions, scores: NDArray[np.float32], k: int) -> list[Found]:
        return [best(documents, row, k) for row in scores]

    def by_segment(self, documents: Positions) -> Iterator[tuple[slice, Segment, Selection]]:
        """`(which of the documents, segment, their positions in it or None for all)`, segments without any left out."""
        cuts = documents.searchsorted(self.index.starts).tolist()
        for number, segment in enumerate(self.index.segments):
            low, high = cuts[number], cuts[number + 1]
            if high > low:
                every = high - low == len(segment)
                yield slice(low, high), segment, None if every else documents[low:high] - self.index.starts[number]


def tokens_of(segment: Segment, only: Selection) -> int:
    """How many tokens the documents at some positions in a segment have together; all documents where `only` is None."""
    if only is None:
        return int(segment.offsets[-1])
    return int((segment.offsets[only + 1] - segment.offsets[only]).sum())
