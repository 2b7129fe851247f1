"""XTR's scoring by WARP's engine: only tokens in probed cells count, and what a document lacks is imputed.

Sources: XTR (Lee et al. 2023), section 3; WARP (Scheerer et al. 2025). There is no gathering: the scores of retrieved tokens
are all that is computed. Tokens are scored from their codes, without decoding them (implicit decompression), by the kernel
`token_maxima`; it also takes the first reduction, to the best token of each document and query token. WARP adds a residual to a
centroid; here scores are also multiplied by the stored inverse norm, so that they are those of exhaustive search.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from colbert_research import kernels
from colbert_research.config import component
from colbert_research.index import DerivedStructure, Index, Scope
from colbert_research.search.base import UNSEEN, Found, Opens, Queries, SearchStrategy
from colbert_research.search.candidates import check_cells, score_all
from colbert_research.search.cells import Cells, TokensByCell, coded, sums_in_order
from colbert_research.search.finders import FINDERS, ExactFinder, found_cells, neighbours_of
from colbert_research.search.found import best, joined
from colbert_research.search.imputation import IMPUTATIONS, Retrieved
from colbert_research.search.probe import nearest_cells
from colbert_research.search.trace import Trace


@dataclass(frozen=True, eq=False)
class Scan:
    """One query over the probed cells of a block: `rows` of retrieved tokens, for each the place of its document among the
    `documents` found, which rise, and the cells that each query token has `wanted`."""

    query: NDArray[np.float32]
    cells: Cells
    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    documents: NDArray[np.int64]
    wanted: NDArray[np.bool_]

    @cached_property
    def maxima(self) -> NDArray[np.float32]:
        """`(n_documents, n_query_tokens)`: best retrieved scores, minus infinity where there is none."""
        return self._scores(self.positions, len(self.documents))

    def token_scores(self) -> NDArray[np.float32]:
        """`(n_tokens, n_query_tokens)`: each retrieved token's own."""
        return self._scores(np.arange(len(self.rows)), len(self.rows))

    def _scores(self, positions: NDArray[np.int64], n: int) -> NDArray[np.float32]:
        return kernels.token_maxima(self.query, self.cells.tokens, self.rows, positions, n, self.wanted)


class Warp(SearchStrategy):
    """All tokens in the best `nprobe` cells of each query token, and `imputation` for query tokens that a document lacks.

    A document's score is the sum over query tokens of its best retrieved token or else the imputed score: not MaxSim, unless
    every cell is probed. The paper probes 32 cells. A subset of at most `exact_subset` documents is scored exactly, without
    probing; of a larger one only its own tokens are retrieved. Fewer than k documents are found where fewer have a token in a
    probed cell.
    `finder`: with `hnsw` the cells are looked for in a graph, and the other centroids are never touched, which pays from about
    2^16 centroids on; imputation by WARPSELECT, which needs the scores of all, is then refused.
    """

    opens: ClassVar[Opens] = {UNSEEN: ("nprobe", "finder"), "impute": ("nprobe", "imputation", "finder")}
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

    def _structures(self) -> tuple[DerivedStructure, ...]:
        return (TokensByCell(),) if self.finder.kind == "exact" else (TokensByCell(), neighbours_of(self.finder))

    def exhaustive_equivalent(self, index: Index) -> Self:
        n_centroids = coded(index, self.kind).n_centroids
        opened = {"nprobe": n_centroids, "imputation": self.imputation.exhaustive_equivalent(index), "finder": ExactFinder()}
        return self.model_copy(update=opened)

    def needs_centroids(self) -> bool:
        return True

    def _most(self, index: Index) -> Mapping[str, int]:
        return {"nprobe": coded(index, self.kind).n_centroids}

    def check(self, index: Index, k: int) -> None:
        n_centroids = coded(index, self.kind).n_centroids
        check_cells("nprobe", self.nprobe, n_centroids)
        if self.finder.kind != "exact":
            self.finder.check(n=n_centroids, dim=index.dim, k=self.nprobe)

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        if scope.is_subset and scope.size <= self.exact_subset:
            return score_all(index, queries, k, scope, trace)
        cells: tuple[Cells, ...] = index.structure(TokensByCell())
        codec = coded(index, self.kind)
        return [self._one(index, cells, codec.rotated(query.vectors.values), k, scope, trace) for query in queries]

    def _one(
        self, index: Index, cells: tuple[Cells, ...], query: NDArray[np.float32], k: int, scope: Scope, trace: Trace
    ) -> Found:
        with trace.stage("probe") as count:
            cells, scores, wanted, dead = self._probe(index, cells, query)
            probed = np.flatnonzero(wanted.any(axis=1))
            count.centroids += len(probed)
        with trace.stage("scan") as count:
            starts = index.contents.block_starts.tolist()
            scans = [
                Scan(query, part, *part.chosen(probed, scope.within(start, stop)), wanted)
                for part, start, stop in zip(cells, starts[:-1], starts[1:], strict=True)
            ]
            maxima = joined([scan.maxima for scan in scans])
            rows = sum(len(scan.rows) for scan in scans)
            count.tokens_read(rows, index.bytes_per_token + cells[0].documents.itemsize)
            count.documents += len(maxima)
        with trace.stage("impute"):
            sizes = sum((part.sizes for part in cells[1:]), start=cells[0].sizes) - dead
            retrieved = Retrieved(maxima, scores, sizes, k, lambda: joined([scan.token_scores() for scan in scans]))
            totals = sums_in_order(self.imputation.filled(retrieved))
        documents = joined([scan.documents + start for scan, start in zip(scans, starts, strict=False)])
        trace.keep("impute", documents, totals)
        return best(documents, totals, k)

    def _probe(
        self, index: Index, cells: tuple[Cells, ...], query: NDArray[np.float32]
    ) -> tuple[tuple[Cells, ...], NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]:
        """All cells, or only those found; the query tokens' scores with their centroids; which cells each token probes; how
        many tokens of deleted documents each cell has.

        The scores `(n_query_tokens, n_cells)`, the next `(n_cells, n_query_tokens)`, the last `(n_cells,)`.
        """
        dead = index.contents.dead_tokens
        if self.finder.kind == "exact":
            scores = kernels.dot_products(query, cells[0].tokens.table.centroids)  # type: ignore[arg-type]
            found = nearest_cells(scores, self.nprobe, index.empty_cells)
        else:
            numbers = found_cells(index, self.finder, query, self.nprobe)
            near = np.unique(numbers[numbers >= 0])
            found = np.where(numbers >= 0, np.searchsorted(near, numbers), -1)
            cells, dead = tuple(part.only(near) for part in cells), dead[near]
            scores = kernels.dot_products(query, cells[0].tokens.table.centroids)  # type: ignore[arg-type]
        wanted = np.zeros(scores.shape[::-1], np.bool_)
        tokens, ranks = np.nonzero(found >= 0)
        wanted[found[tokens, ranks], tokens] = True
        return cells, scores, wanted, dead
