"""An index's tokens grouped by centroid, so that a probed cell is read as consecutive rows (WARP, section on the index)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import TableCodec
from colbert_research.index import Auxiliary, Index, Scope
from colbert_research.kernels.operands import CodedTokens
from colbert_research.ragged import item_of_row, offsets_of, rows_of
from colbert_research.search.decoded import token_offsets


@dataclass(frozen=True, eq=False)
class Cells:
    """`tokens`: all tokens' codes, grouped by centroid: `offsets` are those of the `K` cells. `documents` `(n_tokens,)` int32:
    the position of each token's document, rising within a cell."""

    tokens: CodedTokens
    documents: NDArray[np.int32]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Tokens of each cell: `(K,)`."""
        return np.diff(self.tokens.offsets)

    def only(self, cells: NDArray[np.int64]) -> "Cells":
        """Some cells alone, which are then numbered from 0 in this order; their tokens and centroids are copied."""
        tokens, rows = self.tokens, rows_of(self.tokens.offsets, cells)
        assert tokens.table.centroids is not None
        return Cells(
            CodedTokens(
                replace(tokens.table, centroids=tokens.table.centroids[cells]),
                tokens.codes[rows],
                offsets_of(self.sizes[cells]),
                np.repeat(np.arange(len(cells), dtype=np.int32), self.sizes[cells]),
                None if tokens.inverse_norms is None else tokens.inverse_norms[rows],
            ),
            self.documents[rows],
        )

    def chosen(self, cells: NDArray[np.int64], scope: Scope) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Tokens in some cells, of documents in the scope: rows, the place of each one's document, those documents, rising."""
        rows = rows_of(self.tokens.offsets, cells)
        documents = self.documents[rows]
        present = np.zeros(scope.n_documents, np.bool_)
        present[documents] = True
        if not scope.is_all:
            taken = scope.contains(documents)
            rows, documents, present = rows[taken], documents[taken], present & scope.bitmap
        places = np.cumsum(present, dtype=np.int64) - 1
        return rows, places[documents], np.flatnonzero(present)


class TokensByCell(Auxiliary):
    """Codes of all tokens, once more, grouped by centroid: as many bytes a token as the codec's, and 4 for its document.

    Memory while building: these arrays, and about 24 bytes a token.
    """

    kind: Literal["tokens_by_cell"] = "tokens_by_cell"

    def build(self, index: Index) -> Mapping[str, NDArray[Any]]:
        codec = coded(index, self.kind)
        ids = np.concatenate([segment.codes["centroid_ids"] for segment in index.segments])
        order = np.argsort(ids, kind="stable")
        codes = {name: np.concatenate([segment.codes[name] for segment in index.segments])[order] for name in codec.layout}
        documents = item_of_row(token_offsets(index))[order].astype(np.int32)
        return {**codes, "documents": documents, "offsets": offsets_of(np.bincount(ids, minlength=codec.n_centroids))}

    def open(self, index: Index, arrays: Mapping[str, NDArray[Any]]) -> Cells:
        return Cells(coded(index, self.kind).tokens(arrays, np.asarray(arrays["offsets"])), arrays["documents"])


def coded(index: Index, strategy: str) -> TableCodec:
    """The codec of an index whose tokens are a centroid and a code that is scored as it is; ValueError for any other index."""
    if not isinstance(index.codec, TableCodec) or index.codec.centroids is None:
        raise ValueError(
            f"{strategy} needs an index whose codec has centroids and codes beside them, such as residual; this one has "
            f"{index.codec.config!r}. Build one with such a codec, or choose another search.kind"
        )
    return index.codec


def sums_in_order(maxima: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over query tokens of `(n_documents, n_query_tokens)`, one float32 addition after the other as in MaxSim."""
    totals = np.zeros(len(maxima), np.float32)
    for column in maxima.T:
        totals += column
    return totals
