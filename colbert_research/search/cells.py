"""The tokens of a segment grouped by centroid: a probed cell is read as consecutive rows (WARP, section on the index)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import Codec, TableCodec
from colbert_research.index import Arrays, DerivedStructure, Index, Scope, Segment, SegmentStructure
from colbert_research.index.blocks import grouped
from colbert_research.index.damage import check_range, open_array, open_offsets
from colbert_research.kernels.operands import CodedTokens
from colbert_research.ragged import interleaved, item_of_row, offsets_of, rows_of


@dataclass(frozen=True, eq=False)
class Cells:
    """`tokens`: all tokens' codes, grouped by centroid: `offsets` are those of the `K` cells. `documents` `(n_tokens,)` int32:
    the place of each token's document among the segment's, or those of a block of segments, ascending within a cell."""

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
        """Tokens in some cells, of documents in the scope (of the segment).

        Their rows, the place of each one's document among those that have such a token, and these documents, ascending.
        """
        rows = rows_of(self.tokens.offsets, cells)
        documents = self.documents[rows]
        present = np.zeros(scope.n_positions, np.bool_)
        present[documents] = True
        if not scope.is_all:
            taken = scope.contains(documents)
            rows, documents, present = rows[taken], documents[taken], present & scope.bitmap
        positions = np.cumsum(present, dtype=np.int64) - 1
        return rows, positions[documents], np.flatnonzero(present)

    @classmethod
    def joined(cls, parts: Sequence["Cells"], starts: NDArray[np.int64]) -> "Cells":
        """The cells of consecutive documents, of whose parts the first are at `starts`; copied unless there is one."""
        if len(parts) == 1:
            return parts[0]
        offsets, places = interleaved([part.tokens.offsets for part in parts])
        rows = np.argsort(np.concatenate(places))

        def together(arrays: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
            given = [array for array in arrays if array is not None]
            return np.concatenate(given)[rows] if given else None

        tokens = [part.tokens for part in parts]
        documents = [part.documents + np.int32(start) for part, start in zip(parts, starts, strict=False)]
        codes = np.concatenate([each.codes for each in tokens])[rows]
        ids, norms = together([each.centroid_ids for each in tokens]), together([each.inverse_norms for each in tokens])
        return cls(CodedTokens(tokens[0].table, codes, offsets, ids, norms), np.concatenate(documents)[rows])


class TokensByCell(SegmentStructure):
    """For each segment the codes of its tokens, once more, grouped by centroid: as many bytes per token as the codec's, and 4
    for its document. Memory while building: these arrays, and about 24 bytes per token."""

    kind: Literal["tokens_by_cell"] = "tokens_by_cell"

    def build(self, codec: Codec, segment: Segment, needed: Mapping[DerivedStructure, Arrays]) -> Arrays:
        ids = segment.codes["centroid_ids"]
        order = np.argsort(ids, kind="stable")
        codes = {name: segment.codes[name][order] for name in codec.layout}
        documents = item_of_row(segment.offsets)[order].astype(np.int32)
        offsets = offsets_of(np.bincount(ids, minlength=_coded(codec, self.kind).n_centroids))
        return {**codes, "documents": documents, "offsets": offsets}

    def read(self, folder: Path, codec: Codec, segment: Segment) -> Arrays:
        n_tokens, n_centroids = int(segment.offsets[-1]), _coded(codec, self.kind).n_centroids
        layout = {**codec.layout, "documents": (np.dtype(np.int32), ())}
        arrays = {
            name: open_array(folder / f"{name}.npy", dtype, (n_tokens, *shape)) for name, (dtype, shape) in layout.items()
        }
        check_range(folder / "centroid_ids.npy", n_centroids)
        check_range(folder / "documents.npy", len(segment))
        return {**arrays, "offsets": open_offsets(folder / "offsets.npy", n_centroids, n_tokens)}

    def open(self, codec: Codec, segments: Sequence[Segment], arrays: Sequence[Arrays]) -> tuple[Cells, ...]:
        """The cells of each block of documents (`Contents.blocks`)."""
        tokens, found, at = _coded(codec, self.kind).tokens, [], 0
        parts = [Cells(tokens(each, np.asarray(each["offsets"])), each["documents"]) for each in arrays]
        for group in grouped(segments):
            found.append(Cells.joined(parts[at : at + len(group)], offsets_of([len(segment) for segment in group])))
            at += len(group)
        return tuple(found)


def coded(index: Index, strategy: str) -> TableCodec:
    """The codec of an index whose tokens are a centroid and a code that is scored as it is; ValueError for any other index."""
    return _coded(index.codec, strategy)


def _coded(codec: Codec, what: str) -> TableCodec:
    if not isinstance(codec, TableCodec) or codec.centroids is None:
        raise ValueError(
            f"{what} needs an index whose codec has centroids and codes beside them, such as residual; this one has "
            f"{codec.config!r}. Build one with such a codec, or choose another search.kind"
        )
    return codec


def sums_in_order(maxima: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over query tokens of `(n_documents, n_query_tokens)`, one float32 addition after the other as in MaxSim."""
    totals = np.zeros(len(maxima), np.float32)
    for column in maxima.T:
        totals += column
    return totals
