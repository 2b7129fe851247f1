"""XTR's scoring by WARP's engine: only tokens in probed cells count, and what a document lacks is imputed.

Sources: XTR (Lee et al. 2023), section 3; WARP (Scheerer et al. 2025). There is no gathering: the scores of retrieved tokens
are all that is computed. Tokens are scored from their codes, without decoding them (implicit decompression), by the kernel
`token_maxima`; it also takes the first reduction, to the best token of each document and query token. WARP adds a residual to a
centroid; here scores are also multiplied by the stored inverse norm, so that they are those of exhaustive search.
"""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research import kernels
from colbert_research.config import component
from colbert_research.index import Auxiliary, Index
from colbert_research.search.base import Found, Queries, SearchStrategy
from colbert_research.search.candidates import check_cells, is_few, score_all
from colbert_research.search.cells import Cells, TokensByCell, coded, sums_in_order
from colbert_research.search.imputation import IMPUTATIONS, Retrieved
from colbert_research.search.stages import best
from colbert_research.search.trace import Trace


class Warp(SearchStrategy):
    """All tokens in the best `nprobe` cells of each query token, and `imputation` for query tokens that a document lacks.

    A document's score is the sum over query tokens of its best retrieved token or else the imputed score: not MaxSim, unless
    every cell is probed. The paper probes 32 cells. A subset of at most `exact_subset` documents is scored exactly, without
    probing; of a larger one only its own tokens are retrieved. Fewer than k documents are found where fewer have a token in a
    probed cell.
    """

    kind: Literal["warp"] = "warp"
    nprobe: int = Field(32, ge=1)
    imputation: component("imputation", IMPUTATIONS, default="warpselect") = "warpselect"  # type: ignore[valid-type]
    exact_subset: int = Field(1000, ge=0)

    def auxiliaries(self) -> tuple[Auxiliary, ...]:
        return (TokensByCell(),)

    def widest(self, index: Index) -> Self:
        n_centroids = coded(index, self.kind).n_centroids
        return self.model_copy(update={"nprobe": n_centroids, "imputation": self.imputation.widest(index)})

    def check(self, index: Index, k: int) -> None:
        check_cells("nprobe", self.nprobe, coded(index, self.kind).n_centroids)

    def _search(self, index: Index, queries: Queries, k: int, subset: NDArray[np.int64] | None, trace: Trace) -> list[Found]:
        if subset is not None and is_few(index, subset, self.exact_subset):
            return score_all(index, queries, k, subset, trace)
        cells, codec = index.auxiliary(self.auxiliaries()[0]), coded(index, self.kind)
        return [self._one(index, cells, codec.turned(query.vectors.values), k, subset, trace) for query in queries]

    def _one(
        self,
        index: Index,
        cells: Cells,
        query: NDArray[np.float32],
        k: int,
        subset: NDArray[np.int64] | None,
        trace: Trace,
    ) -> Found:
        with trace.stage("probe") as count:
            scores = kernels.dot_products(query, cells.tokens.table.centroids)  # type: ignore[arg-type]
            nearest = kernels.greatest(scores, self.nprobe)
            wanted = np.zeros(scores.shape[::-1], np.bool_)
            wanted[nearest, np.arange(len(query))[:, None]] = True
            probed = np.flatnonzero(wanted.any(axis=1))
            count.centroids += len(probed)
        with trace.stage("scan") as count:
            rows, places, documents = cells.chosen(probed, index.n_documents, subset)
            maxima = kernels.token_maxima(query, cells.tokens, rows, places, len(documents), wanted)
            count.tokens += len(rows)
            count.documents += len(documents)
            count.bytes += len(rows) * (index.bytes_per_token + cells.documents.itemsize)
        with trace.stage("impute"):
            each = np.arange(len(rows))
            retrieved = Retrieved(
                maxima, scores, cells.sizes, k,
                lambda: kernels.token_maxima(query, cells.tokens, rows, each, len(rows), wanted),
            )  # fmt: skip
            totals = sums_in_order(self.imputation.filled(retrieved))
        return best(documents, totals, k)
