"""For ablation 16: search without the vectors of [CLS] and [SEP], and MaxSim less a penalty on long documents."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from pydantic import Field

from colbert_research.config import Config
from colbert_research.encoders import TokenVectors
from colbert_research.index import Index, Scope
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import Exhaustive, Queries, Trace, Warp
from colbert_research.search.base import Found
from colbert_research.search.decoded import token_offsets
from colbert_research.search.found import best


class NoSpecials(Config):
    """A pooler that leaves out a document's special tokens; a document of nothing else keeps them."""

    kind: Literal["ablation_length:NoSpecials"] = "ablation_length:NoSpecials"
    ids: tuple[int, ...] = (101, 102)

    def fit(self, documents: TokenVectors) -> Mapping[str, Any]:
        return {}

    def pool(self, documents: TokenVectors, state: Mapping[str, Any], *, seed: int) -> TokenVectors:
        token_ids = np.asarray(documents.token_ids.values)
        offsets = documents.token_ids.offsets
        kept = ~np.isin(token_ids, self.ids)
        counts = np.diff(np.concatenate([[0], np.cumsum(kept)])[offsets])
        for document in np.flatnonzero(counts == 0):
            kept[offsets[document] : offsets[document + 1]] = True
        rows = offsets_of(np.diff(np.concatenate([[0], np.cumsum(kept)])[offsets]))
        vectors = np.asarray(documents.vectors.values, np.float32)[kept]
        return TokenVectors(Ragged(vectors, rows), Ragged(token_ids[kept], rows))


class Trimmed(Exhaustive):
    """MaxSim without a query's first and last token, which are [CLS] and [SEP]."""

    kind: Literal["ablation_length:Trimmed"] = "ablation_length:Trimmed"

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        return super()._search(index, trimmed(queries), k, scope, trace)


class TrimmedWarp(Warp):
    """WARP without a query's first and last token, which are [CLS] and [SEP]."""

    kind: Literal["ablation_length:TrimmedWarp"] = "ablation_length:TrimmedWarp"

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        return super()._search(index, trimmed(queries), k, scope, trace)


class Penalised(Exhaustive):
    """The mean of MaxSim over a query's tokens, less `weight` times the logarithm of the number of a document's vectors."""

    kind: Literal["ablation_length:Penalised"] = "ablation_length:Penalised"
    weight: float = Field(0.05, ge=0)

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        lengths = np.log(np.maximum(1, np.diff(token_offsets(index))))
        found = []
        for query, (positions, scores) in zip(queries, super()._search(index, queries, scope.size, scope, trace), strict=True):
            order = np.argsort(positions)
            positions, scores = positions[order], scores[order]
            total = scores / len(query.vectors.values) - self.weight * lengths[positions]
            found.append(best(positions, total.astype(np.float32), k))
        return found


def trimmed(queries: Queries) -> Queries:
    """Queries without their first and last token; one of two tokens or fewer as it is."""
    offsets = queries.vectors.offsets
    kept = np.ones(int(offsets[-1]), np.bool_)
    for start, stop in pairwise(offsets):
        if stop - start > 2:
            kept[[start, stop - 1]] = False
    lengths = np.diff(np.concatenate([[0], np.cumsum(kept)])[offsets])
    return Queries(Ragged(np.asarray(queries.vectors.values)[kept], offsets_of(lengths)), queries.ids, queries.texts)
