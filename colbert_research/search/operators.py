"""Other operators than the maximum: what a query token makes of its similarities with a document's tokens. To compare with.

Source: ColBERT (Khattab and Zaharia 2020), section 4.4 and figure 5, which puts the mean, and one vector a text, beside MaxSim.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from colbert_research.index import Index, Scope
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search.base import Found, Opens, Queries, SearchStrategy
from colbert_research.search.candidates import score_all
from colbert_research.search.decoded import decoded_blocks
from colbert_research.search.found import best
from colbert_research.search.trace import Trace

Floats = NDArray[np.float32]
TOKENS_AT_ONCE = 512
"""Query tokens that are compared with a block of document tokens at a time."""


class Operator(SearchStrategy):
    """Every document scored by `operator` over its tokens, summed over the query's tokens; in float32, on decoded vectors.

    `max`: MaxSim. `mean`: the mean similarity. `top`: the mean of the `n` greatest. `first`: the similarity of the first token
    of the document with the first of the query alone, where BERT has [CLS]. `specials`: with `drop`, the first and the last
    token of every text are left out, where BERT has [CLS] and [SEP]; texts of two tokens or fewer keep theirs.
    """

    opens: ClassVar[Opens] = {"score": ("operator", "specials")}
    kind: Literal["operator"] = "operator"
    operator: Literal["max", "mean", "top", "first"] = "max"
    n: int | None = Field(None, ge=1)
    specials: Literal["keep", "drop"] = "keep"

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if (self.n is not None) != (self.operator == "top"):
            raise ValueError(f"n says how many similarities operator=top takes; given n={self.n}, operator={self.operator}")
        if self.operator == "first" and self.specials == "drop":
            raise ValueError("operator=first compares the first tokens, which specials=drop leaves out; choose one of the two")
        return self

    def exhaustive_equivalent(self, index: Index) -> Self:
        return self.model_copy(update={"operator": "max", "n": None, "specials": "keep"})

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        if self.operator == "max" and self.specials == "keep":
            return score_all(index, queries, k, scope, trace)
        asked = self._seen(queries.vectors)
        if self.operator == "mean":
            asked = _sums(asked)
        with trace.stage("score") as count:
            scores = np.concatenate([self._scores(asked, block) for block in self._blocks(index)], axis=1)
            scores = scores[:, scope.positions]
            count.documents += scores.size
            count.tokens_read(len(queries) * index.n_tokens, index.bytes_per_token)
        trace.keep("score", scope.positions, scores[0])
        return [best(scope.positions, row, k) for row in scores]

    def _blocks(self, index: Index) -> Iterator[Ragged]:
        return (self._compared(block) for segment in index.segments for block in decoded_blocks(index.codec, segment))

    def _seen(self, texts: Ragged) -> Ragged:
        """The tokens of each text that count."""
        if self.operator == "first":
            return _first(texts)
        return _inner(texts) if self.specials == "drop" else texts

    def _compared(self, texts: Ragged) -> Ragged:
        """What the query's tokens are compared with: of `mean`, which is linear, one vector for each document."""
        seen = self._seen(texts)
        return _sums(seen, mean=True) if self.operator == "mean" else seen

    def _scores(self, queries: Ragged, documents: Ragged) -> Floats:
        """`(n_queries, n_documents)`; minus infinity for a document without tokens, which is not found."""
        scores = np.full((len(queries), len(documents)), -np.inf, np.float32)
        filled = np.flatnonzero(np.diff(documents.offsets))
        for start, piece in queries.chunks(TOKENS_AT_ONCE):
            # float64, then rounded: float32 sums of BLAS depend on where a document lies among the others
            products = (np.asarray(documents.values, np.float64) @ np.asarray(piece.values, np.float64).T).astype(np.float32)
            reduced = np.empty((len(filled), products.shape[1]), np.float32)
            for row, document in enumerate(filled):
                reduced[row] = self._reduced(products[documents.offsets[document] : documents.offsets[document + 1]])
            summed = np.add.reduceat(reduced, piece.offsets[:-1], axis=1) if len(filled) else reduced[:, :0]
            scores[start : start + len(piece), filled] = summed.T
        return scores

    def _reduced(self, products: Floats) -> Floats:
        """Of a document's tokens with some query tokens `(n_tokens, n_query_tokens)`: one value for each query token."""
        if self.operator != "top" or self.n is None:
            return products.max(axis=0)
        if len(products) > self.n:
            products = np.partition(products, -self.n, axis=0)[-self.n :]
        mean: Floats = products.mean(axis=0, dtype=np.float32)
        return mean


def _first(texts: Ragged) -> Ragged:
    """The first token of each text that has any."""
    filled = np.diff(texts.offsets) > 0
    return Ragged(np.asarray(texts.values)[texts.offsets[:-1][filled]], offsets_of(filled.astype(np.int64)))


def _sums(texts: Ragged, *, mean: bool = False) -> Ragged:
    """One vector for each text that has tokens: their sum, or their mean."""
    lengths = np.diff(texts.offsets)
    filled = lengths > 0
    sums = np.add.reduceat(np.asarray(texts.values, np.float32), texts.offsets[:-1][filled], axis=0, dtype=np.float32)
    return Ragged(sums / lengths[filled, None].astype(np.float32) if mean else sums, offsets_of(filled.astype(np.int64)))


def _inner(texts: Ragged) -> Ragged:
    """Each text without its first and last token, where it has more."""
    lengths = np.diff(texts.offsets)
    kept = np.ones(texts.n_rows, np.bool_)
    long = lengths > 2
    kept[texts.offsets[:-1][long]] = False
    kept[texts.offsets[1:][long] - 1] = False
    return Ragged(np.asarray(texts.values)[kept], offsets_of(np.where(long, lengths - 2, lengths)))
