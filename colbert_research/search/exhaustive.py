"""Exhaustive search: every document scored, on whatever codes the index holds. The reference of every comparison."""

from typing import Literal, Self

import numpy as np

from colbert_research.index import Index, Scope
from colbert_research.ragged import Ragged
from colbert_research.search.base import Found, Queries, SearchStrategy
from colbert_research.search.stages import best, merge_best, score
from colbert_research.search.trace import Trace

SCORES_HELD = 2**27  # float32 scores of one block of queries: 512 MiB


class Exhaustive(SearchStrategy):
    """No candidates, no pruning: MaxSim with every document (ColBERT, section 3.3)."""

    kind: Literal["exhaustive"] = "exhaustive"

    def widest(self, index: Index) -> Self:
        return self

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        found: list[Found] = []
        block = max(1, SCORES_HELD // max(1, index.n_documents))
        for start in range(0, len(queries), block):
            part = queries.vectors.slice(start, start + block)
            if scope.is_all:
                found += _all(index, part, k, trace)
            else:
                scores = score(index, part, scope.positions, trace, stage="score")
                found += [best(scope.positions, row, k) for row in scores]
        return found


def _all(index: Index, queries: Ragged, k: int, trace: Trace) -> list[Found]:
    parts: list[list[Found]] = [[] for _ in range(len(queries))]
    for start, segment in zip(index.starts, index.segments, strict=False):
        with trace.stage("score") as count:
            scores = index.codec.maxsim(queries, segment.codes, segment.offsets)
            count.documents += len(queries) * len(segment)
            count.tokens += len(queries) * int(segment.offsets[-1])
            count.bytes += len(queries) * int(segment.offsets[-1]) * index.bytes_per_token
        with trace.stage("topk"):
            positions = np.arange(start, start + len(segment), dtype=np.int64)
            for query, row in enumerate(scores):
                parts[query].append(best(positions, row, k))
    with trace.stage("topk"):
        return [merge_best(part, k) for part in parts]
