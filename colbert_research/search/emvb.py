"""EMVB: PLAID with bit vectors before centroid interaction and a filter of terms in the last stage.

Source: EMVB (Nardini et al. 2024), section 3. Its codes are product codes of residuals; here any codec with centroids serves.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from colbert_research import kernels
from colbert_research.codecs import TableCodec
from colbert_research.config import Threshold
from colbert_research.index import Index, Scope
from colbert_research.search.base import UNSEEN, Found, Opens, Queries, SearchStrategy
from colbert_research.search.candidates import check_cells, check_reach, score_all
from colbert_research.search.cells import coded, sums_in_order
from colbert_research.search.found import best
from colbert_research.search.on_host import HostEngine, tokens_of
from colbert_research.search.trace import Trace

WORD = 8  # bytes of a word of a mask


class Emvb(SearchStrategy):
    """Documents in `ncells` cells per query token; `n_filtered` by bit vectors; `n_exact` by centroids; these scored in full.

    `bit_threshold` (th): a document covers a query token when the centroid of one of its tokens scores at least that with it.
    The documents that cover most query tokens stay, ties by position.
    `term_threshold` (th_r): in the last stage a document token is scored for a query token only if its centroid scores more
    than that; where a document has no such token, its best centroid score stands in. Other tokens do not count. Without it the
    last stage is MaxSim. A note in the trace tells the share of terms (pairs of a query and a document token) scored.
    Thresholds are cosines, or quantiles of all scores of the query with the centroids. The paper takes 0.4 and 0.5.
    A subset of at most `n_exact` documents is scored exactly.
    """

    opens: ClassVar[Opens] = {
        UNSEEN: ("ncells",),
        "bit vectors": ("n_filtered",),
        "interaction": ("n_exact",),
        "exact": ("term_threshold",),
    }
    kind: Literal["emvb"] = "emvb"
    ncells: int = Field(4, ge=1)
    bit_threshold: Threshold = Threshold(value=0.4)
    n_filtered: int = Field(4096, ge=1)
    n_exact: int = Field(1024, ge=1)
    term_threshold: Threshold | None = Threshold(value=0.5)

    @model_validator(mode="after")
    def _stages_narrow(self) -> Self:
        if self.n_exact > self.n_filtered:
            raise ValueError(f"n_exact={self.n_exact} is more than the n_filtered={self.n_filtered} that reach that stage")
        return self

    def exhaustive_equivalent(self, index: Index) -> Self:
        n, n_centroids = index.n_documents, coded(index, self.kind).n_centroids
        return self.model_copy(update={"ncells": n_centroids, "n_filtered": n, "n_exact": n, "term_threshold": None})

    def needs_centroids(self) -> bool:
        return True

    def _most(self, index: Index) -> Mapping[str, int]:
        return {"ncells": coded(index, self.kind).n_centroids}

    def check_size(self, n_documents: int, k: int) -> None:
        check_reach("n_exact", self.n_exact, n_documents, k)

    def check(self, index: Index, k: int) -> None:
        check_cells("ncells", self.ncells, coded(index, self.kind).n_centroids)

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        if scope.is_subset and scope.size <= self.n_exact:
            return score_all(index, queries, k, scope, trace)
        codec, engine = coded(index, self.kind), HostEngine(index)
        found, scored, terms = [], 0, 0
        for query in queries:
            of_query = codec.rotated(query.vectors.values)
            scores = self._probe(codec, of_query, trace)
            positions = self._narrowed(engine, scores, scope, trace)
            if self.term_threshold is None:
                (totals,) = engine.score(query.vectors, positions, trace, stage="exact")
            else:
                wanted = (scores > _limit(scores, self.term_threshold)).T
                totals, counts = _filtered(engine, codec, of_query, scores, wanted, positions, trace)
                scored, terms = scored + counts[0], terms + counts[1]
            found.append(best(positions, totals, k))
        if terms:
            trace.notes.append(f"emvb scored {scored} of {terms} terms, {scored / terms:.1%}")
        return found

    def _probe(self, codec: TableCodec, query: NDArray[np.float32], trace: Trace) -> NDArray[np.float32]:
        """Scores of the query's tokens with all centroids: `(n_query_tokens, K)`."""
        with trace.stage("probe") as count:
            scores = kernels.dot_products(query, codec.table.centroids)  # type: ignore[arg-type]
            count.centroids += scores.shape[1]
        return scores

    def _narrowed(self, engine: HostEngine, scores: NDArray[np.float32], scope: Scope, trace: Trace) -> NDArray[np.int64]:
        """Ascending positions of the documents that reach the last stage."""
        with trace.stage("candidates") as count:
            cells = engine.cells(scores, self.ncells)
            positions = engine.candidates(cells, scope)
            count.centroids += len(cells)
            count.documents += len(positions)
        trace.keep("candidates", positions)
        if len(positions) > self.n_filtered:
            masks = masks_of(scores >= _limit(scores, self.bit_threshold))
            positions = engine.narrow(positions, _coverage(engine, masks, positions, trace), self.n_filtered)
        if len(positions) > self.n_exact:
            unpruned = engine.interaction(scores, positions, trace, stage="interaction")
            positions = engine.narrow(positions, unpruned, self.n_exact)
        return positions


def masks_of(covers: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """One bit per query token for each centroid, `(K, words)`, from `covers` `(n_query_tokens, K)`."""
    packed = np.packbits(covers.T, axis=1, bitorder="little")
    words = -(-packed.shape[1] // WORD)
    padded = np.zeros((len(packed), WORD * words), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64)


def _limit(scores: NDArray[np.float32], threshold: Threshold) -> float:
    return float(np.quantile(scores, threshold.quantile)) if threshold.value is None else threshold.value  # type: ignore[arg-type]


def _coverage(engine: HostEngine, masks: NDArray[np.uint64], positions: NDArray[np.int64], trace: Trace) -> NDArray[np.float32]:
    """How many query tokens each document covers: `(1, n_positions)`."""
    covered = np.empty((1, len(positions)), np.float32)
    with trace.stage("bit vectors") as count:
        for place, block, only in engine.by_block(positions):
            ids = block.centroid_ids
            covered[0, place] = kernels.coverage(masks, ids, only=only)
            count.tokens_read(tokens_of(block, only), ids.values.itemsize)
        count.documents += len(positions)
    trace.keep("bit vectors", positions, covered[0])
    return covered


def _filtered(
    engine: HostEngine,
    codec: TableCodec,
    query: NDArray[np.float32],
    scores: NDArray[np.float32],
    wanted: NDArray[np.bool_],
    positions: NDArray[np.int64],
    trace: Trace,
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Scores of documents from the terms that are `wanted` `(K, n_query_tokens)`, and how many those are, of all."""
    maxima = np.empty((len(positions), len(query)), np.float32)
    terms_of, scored, terms = wanted.sum(axis=1), 0, 0
    with trace.stage("exact") as count:
        for place, block, only in engine.by_block(positions):
            ids = block.centroid_ids
            rows, documents = kernels.wanted_tokens(terms_of > 0, ids, only=only)
            tokens = codec.tokens(block.codes, block.offsets)
            found = kernels.token_maxima(query, tokens, rows, documents, place.stop - place.start, wanted)
            stand_in = kernels.centroid_maxima(scores, ids, only=only)
            maxima[place] = np.where(np.isneginf(found), stand_in, found)
            scored += int(terms_of[ids.values[rows]].sum())
            terms += tokens_of(block, only) * len(query)
            count.tokens_read(len(rows), engine.index.bytes_per_token)
        count.documents += len(positions)
    totals = sums_in_order(maxima)
    trace.keep("exact", positions, totals)
    return totals, (scored, terms)
