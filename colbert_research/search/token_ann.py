"""ColBERT's own end-to-end search: nearest document tokens of every query token, then exact scoring of their documents.

Source: ColBERT (Khattab and Zaharia 2020), section 3.6. With `n_exact` it is the single-vector heuristic that MUVERA (Dhulipala
et al. 2024, section 3.1) compares itself with: only the documents that appear first in the lists of neighbours are scored.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from colbert_research.codecs import Codec
from colbert_research.config import Seed, component
from colbert_research.index import Arrays, DerivedStructure, Index, Scope, Segment, SegmentStructure
from colbert_research.index.damage import open_rows
from colbert_research.search.ann import ANNS, FaissStructure, build_faiss, training_rows
from colbert_research.search.base import UNSEEN, Found, Opens, Queries, SearchStrategy
from colbert_research.search.candidates import check_reach, largest_segment, score_all, score_candidates
from colbert_research.search.decoded import decoded_blocks, decoded_rows, token_offsets
from colbert_research.search.neighbours import Neighbours
from colbert_research.search.trace import Trace


class TokenNeighbours(SegmentStructure):
    """For each segment a faiss structure over its decoded token vectors; flat, if they are too few to train it on.

    Memory while building: the structure of a segment, twice at the end.
    """

    kind: Literal["token_ann"] = "token_ann"
    opaque: ClassVar[frozenset[str]] = frozenset({"faiss"})
    structure: FaissStructure

    def build(self, codec: Codec, segment: Segment, needed: Mapping[DerivedStructure, Arrays]) -> Arrays:
        sample = decoded_rows(codec, segment, training_rows(int(segment.offsets[-1]), self.structure))
        blocks = (block.values for block in decoded_blocks(codec, segment))
        return {"faiss": build_faiss(self.structure, codec.dim, sample=sample, blocks=blocks)}

    def read(self, folder: Path, codec: Codec, segment: Segment) -> Arrays:
        return {"faiss": open_rows(folder / "faiss.npy", np.dtype(np.uint8), mmap=True)}

    def open(self, codec: Codec, segments: Sequence[Segment], arrays: Sequence[Arrays]) -> Neighbours:
        sizes = [int(segment.offsets[-1]) for segment in segments]
        return Neighbours.of([each["faiss"] for each in arrays], sizes, codec.dim)


class TokenAnn(SearchStrategy):
    """`k_tokens` (k') nearest document tokens of every query token by `ann`; all their documents are scored exactly.

    `n_exact`: of those documents only so many are scored, in the order of first appearance when the lists are read rank by
    rank, each rank in the order of the query's tokens. `deduplicate=False` counts tokens rather than documents, so that a
    document which appears twice counts twice (MUVERA's weaker baseline). A subset of at most `n_exact` (or else `k_tokens`)
    documents is scored exactly, without candidates; a larger one is searched among its own tokens.
    Each segment has its own structure, and `ann` says how each is searched; one of too few tokens to train it on is compared
    whole.
    """

    opens: ClassVar[Opens] = {UNSEEN: ("ann", "k_tokens"), "neighbours": ("n_exact",)}
    kind: Literal["token_ann"] = "token_ann"
    ann: component("ann", ANNS, default="ivfpq") = "ivfpq"  # type: ignore[valid-type]
    k_tokens: int = Field(500, ge=1, description="k'")
    n_exact: int | None = Field(None, ge=1)
    deduplicate: bool = True
    seed: Seed = 42

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if self.n_exact is None and not self.deduplicate:
            raise ValueError("deduplicate=False says what n_exact counts; give n_exact too")
        return self

    def _structures(self) -> tuple[TokenNeighbours]:
        return (TokenNeighbours(structure=self.ann.structure(self.seed)),)

    def exhaustive_equivalent(self, index: Index) -> Self:
        opened = {"ann": self.ann.exhaustive_equivalent(), "k_tokens": index.n_tokens, "n_exact": None, "deduplicate": True}
        return self.model_copy(update=opened)

    def check_size(self, n_documents: int, k: int) -> None:
        if self.n_exact is not None:
            check_reach("n_exact", self.n_exact, n_documents, k)

    def check(self, index: Index, k: int) -> None:
        self.ann.check(n=largest_segment(index)[1], dim=index.dim, k=min(self.k_tokens, index.n_tokens))

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        if scope.is_subset and scope.size <= (self.n_exact or self.k_tokens):
            return score_all(index, queries, k, scope, trace)
        offsets, candidates = token_offsets(index), []
        with_tokens = np.diff(offsets) > 0 if scope.is_all else scope.bitmap & (np.diff(offsets) > 0)
        self._check_lengths(queries, min(k, int(np.count_nonzero(with_tokens))))
        neighbours: Neighbours = index.structure(self._structures()[0])
        allowed = None if scope.is_all else np.repeat(scope.bitmap, np.diff(offsets))
        for query in queries:
            with trace.stage("neighbours") as count:
                tokens = neighbours.search(query.vectors.values, self.k_tokens, self.ann, allowed)
                read = _read(tokens, offsets)
                candidates.append(self._documents(read))
                count.tokens += len(np.unique(tokens[tokens >= 0]))
                count.documents += len(candidates[-1])
            if trace.kept is not None:
                trace.keep_order("neighbours", np.array([*dict.fromkeys(read.tolist())], np.int64))
        return score_candidates(index, queries, k, candidates, trace)

    def _check_lengths(self, queries: Queries, k: int) -> None:
        few = np.flatnonzero(queries.vectors.lengths * self.k_tokens < k)
        if len(few):
            tokens = queries.vectors.lengths[few[0]]
            raise ValueError(
                f"k={k} results cannot come from the k_tokens={self.k_tokens} neighbours of each of the {tokens} tokens of "
                f"query {queries.ids[few[0]]!r}; raise search.k_tokens to at least {-(-k // tokens)} or lower k"
            )

    def _documents(self, read: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ascending positions of the documents to score, from those that are `read` in the lists of neighbours."""
        if self.n_exact is not None and not self.deduplicate:
            read = read[: self.n_exact]
        unique, first = np.unique(read, return_index=True)
        if self.n_exact is not None and len(unique) > self.n_exact:
            unique = np.sort(unique[np.argsort(first)[: self.n_exact]])
        return unique


def _read(tokens: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The documents of neighbours `(n_query_tokens, k_tokens)` as the lists are read, rank by rank; one for each token."""
    read = tokens.T.ravel()
    return np.searchsorted(offsets, read[read >= 0], side="right") - 1
