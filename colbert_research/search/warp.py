"""XTR's scoring by WARP's engine: only tokens in probed cells count, and what a document lacks is imputed.

Sources: XTR (Lee et al. 2023), section 3; WARP (Scheerer et al. 2025). There is no gathering: the scores of retrieved tokens
are all that is computed. Tokens are scored from their codes, without decoding them (implicit decompression), by the kernel
`token_maxima`; it also takes the first reduction, to the best token of each document and query token. WARP adds a residual to a
centroid; here scores are also multiplied by the stored inverse norm, so that they are those of exhaustive search.
"""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from colbert_research import kernels
from colbert_research.config import component
from colbert_research.index import Auxiliary, Index, Scope
from colbert_research.search.base import Found, Queries, SearchStrategy
from colbert_research.search.candidates import check_cells, score_all
from colbert_research.search.cells import Cells, TokensByCell, coded, sums_in_order
from colbert_research.search.finders import FINDERS, ExactFinder, found_cells, neighbours_of
from colbert_research.search.found import best
from colbert_research.search.imputation import IMPUTATIONS, Retrieved
from colbert_research.search.trace import Trace


class Warp(SearchStrategy):
    """All tokens in the best `nprobe` cells of each query token, and `imputation` for query tokens that a document lacks.

    A document's score is the sum over query tokens of its best retrieved token or else the imputed score: not MaxSim, unless
    every cell is probed. The paper probes 32 cells. A subset of at most `exact_subset` documents is scored exactly, without
    probing; of a larger one only its own tokens are retrieved. Fewer than k documents are found where fewer have a token in a
    probed cell.
    `finder`: with `hnsw` the cells are looked for in a graph, and the other centroids are never touched, which pays from about
    2^16 centroids on; imputation by WARPSELECT, which needs the scores of all, is then refused.
    """

    kind: Literal["warp"] = "warp"
    nprobe: int = Field(32, ge=1)
    imputation: component("imputation", IMPUTATIONS, default="warpselect") = "warpselect"  # type: ignore[valid-type]
    exact_subset: int = Field(1000, ge=0)
    finder: component("finder", FINDERS, default="exact") = "exact"  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _rule_and_finder(self) -> Self:
        if self.imputation.all_cells and self.finder.kind != "exact":
            raise ValueError(
                f"imputation={self.imputation.kind} needs the scores of all centroids, which finder={self.finder.kind} does "
                "without; choose imputation mean, none, constant or top_k, or finder exact"
            )
        return self

    def auxiliaries(self) -> tuple[Auxiliary, ...]:
        return (TokensByCell(),) if self.finder.kind == "exact" else (TokensByCell(), neighbours_of(self.finder))

    def widest(self, index: Index) -> Self:
        n_centroids = coded(index, self.kind).n_centroids
        opened = {"nprobe": n_centroids, "imputation": self.imputation.widest(index), "finder": ExactFinder()}
        return self.model_copy(update=opened)

    def check(self, index: Index, k: int) -> None:
        n_centroids = coded(index, self.kind).n_centroids
        check_cells("nprobe", self.nprobe, n_centroids)
        if self.finder.kind != "exact":
            self.finder.check(n=n_centroids, dim=index.dim, k=self.nprobe)

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        if not scope.is_all and scope.size <= self.exact_subset:
            return score_all(index, queries, k, scope, trace)
        cells, codec = index.auxiliary(self.auxiliaries()[0]), coded(index, self.kind)
        return [self._one(index, cells, codec.turned(query.vectors.values), k, scope, trace) for query in queries]

    def _one(
        self,
        index: Index,
        cells: Cells,
        query: NDArray[np.float32],
        k: int,
        scope: Scope,
        trace: Trace,
    ) -> Found:
        with trace.stage("probe") as count:
            cells, scores, wanted = self._probe(index, cells, query)
            probed = np.flatnonzero(wanted.any(axis=1))
            count.centroids += len(probed)
        with trace.stage("scan") as count:
            rows, places, documents = cells.chosen(probed, scope)
            maxima = kernels.token_maxima(query, cells.tokens, rows, places, len(documents), wanted)
            count.tokens_read(len(rows), index.bytes_per_token + cells.documents.itemsize)
            count.documents += len(documents)
        with trace.stage("impute"):
            each = np.arange(len(rows))
            retrieved = Retrieved(
                maxima, scores, cells.sizes, k,
                lambda: kernels.token_maxima(query, cells.tokens, rows, each, len(rows), wanted),
            )  # fmt: skip
            totals = sums_in_order(self.imputation.filled(retrieved))
        return best(documents, totals, k)

    def _probe(
        self, index: Index, cells: Cells, query: NDArray[np.float32]
    ) -> tuple[Cells, NDArray[np.float32], NDArray[np.bool_]]:
        """All cells, or only those found; the query tokens' scores with their centroids; which cells each token probes.

        The scores `(n_query_tokens, n_cells)`, the last `(n_cells, n_query_tokens)`.
        """
        if self.finder.kind == "exact":
            scores = kernels.dot_products(query, cells.tokens.table.centroids)  # type: ignore[arg-type]
            found = kernels.greatest(scores, self.nprobe)
        else:
            numbers = found_cells(index, self.finder, query, self.nprobe)
            near = np.unique(numbers[numbers >= 0])
            cells, found = cells.only(near), np.where(numbers >= 0, np.searchsorted(near, numbers), -1)
            scores = kernels.dot_products(query, cells.tokens.table.centroids)  # type: ignore[arg-type]
        wanted = np.zeros(scores.shape[::-1], np.bool_)
        tokens, ranks = np.nonzero(found >= 0)
        wanted[found[tokens, ranks], tokens] = True
        return cells, scores, wanted
