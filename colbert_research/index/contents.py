"""What the segments of an index hold, less what was deleted: documents by identifier and by position, and their codes.

A position counts through all segments, deleted documents too, so that nothing moves when one is deleted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import Codec
from colbert_research.index.blocks import Block, grouped
from colbert_research.index.documents import Document
from colbert_research.index.inverted import InvertedLists
from colbert_research.index.scope import Scope
from colbert_research.index.segment import Segment
from colbert_research.ragged import offsets_of, rows_of

DOCUMENTS_READ = 1024


@dataclass(frozen=True, eq=False)
class Contents:
    """Segments in order, and of each the ascending positions within it of its `deleted` documents.

    `earlier`: blocks of another generation, which may share some with this one.
    """

    segments: tuple[Segment, ...]
    deleted: tuple[NDArray[np.int64], ...]
    earlier: Mapping[tuple[Segment, ...], Block] = field(default_factory=dict)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """`(n_segments + 1,)` int64: the position of each segment's first document."""
        return offsets_of([len(segment) for segment in self.segments])

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """What a search reads together (see `blocks`); the positions of their documents follow one another."""
        return tuple(self._blocks.values())

    @cached_property
    def block_starts(self) -> NDArray[np.int64]:
        """`(n_blocks + 1,)` int64: the position of each block's first document."""
        return offsets_of([len(block) for block in self.blocks])

    @cached_property
    def _blocks(self) -> dict[tuple[Segment, ...], Block]:
        return {group: self.earlier.get(group) or Block.of(group) for group in grouped(self.segments)}

    def made(self) -> Mapping[tuple[Segment, ...], Block]:
        """The blocks that were made, for another generation."""
        return self.__dict__.get("_blocks", self.earlier)

    @property
    def n_positions(self) -> int:
        return int(self.starts[-1])

    @property
    def n_documents(self) -> int:
        """How many documents are live."""
        return self.n_positions - len(self.dead)

    @cached_property
    def n_tokens(self) -> int:
        """Tokens of live documents."""
        deleted = sum(
            int((segment.offsets[each + 1] - segment.offsets[each]).sum())
            for segment, each in zip(self.segments, self.deleted, strict=True)
        )
        return sum(int(segment.offsets[-1]) for segment in self.segments) - deleted

    @cached_property
    def dead(self) -> NDArray[np.int64]:
        """Ascending positions of all deleted documents."""
        parts = [start + each for start, each in zip(self.starts, self.deleted, strict=False)]
        return np.concatenate([np.empty(0, np.int64), *parts])

    @cached_property
    def scope(self) -> Scope:
        """The documents that are live."""
        return Scope.all(self.n_positions) if not len(self.dead) else Scope.without(self.dead, self.n_positions)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The identifier at each position, those of deleted documents too; one may stand there more than once."""
        parts = [segment.documents.ids for segment in self.segments]
        return parts[0] if len(parts) == 1 else tuple(i for part in parts for i in part)

    @cached_property
    def document_ids(self) -> tuple[str, ...]:
        """The identifiers of live documents, by position."""
        return self.ids if not len(self.dead) else tuple(self.ids[i] for i in self.scope.positions.tolist())

    @cached_property
    def position_of(self) -> dict[str, int]:
        """The position of each live document."""
        if not len(self.dead):
            return {document: i for i, document in enumerate(self.ids)}
        return dict(zip(self.document_ids, self.scope.positions.tolist(), strict=True))

    def positions(self, document_ids: Iterable[str]) -> NDArray[np.int64]:
        """Positions of live documents by identifier; raises as `Index.positions` says."""
        if isinstance(document_ids, str):
            raise TypeError(f"expected a list of document ids; given one string, {document_ids!r:.60}. Put it in a list")
        document_ids = list(document_ids)  # of a generator, too, which gives its items once
        if strange := [each for each in document_ids if not isinstance(each, str)]:
            raise TypeError(f"expected a list of document ids, which are strings; given {strange[0]!r:.60}")
        if unknown := [each for each in document_ids if each not in self.position_of]:
            n = len(self.position_of)
            raise KeyError(f"{len(unknown)} unknown document ids, such as {unknown[:3]}; the index has {n} documents")
        return np.array([self.position_of[each] for each in document_ids], np.int64)

    def documents_at(self, positions: NDArray[np.int64]) -> list[Document]:
        """Documents by position, in the order asked for; deleted ones too."""
        segment_of = np.searchsorted(self.starts, positions, side="right") - 1
        found: dict[int, Document] = {}
        for number in np.unique(segment_of).tolist():
            inside = positions[segment_of == number]
            found.update(zip(inside.tolist(), self.segments[number].documents.read(inside - self.starts[number]), strict=True))
        return [found[position] for position in positions.tolist()]

    def each_document_at(self, positions: NDArray[np.int64]) -> Iterator[Document]:
        """`documents_at`, of which some are in memory at a time."""
        for low in range(0, len(positions), DOCUMENTS_READ):
            yield from self.documents_at(positions[low : low + DOCUMENTS_READ])

    def lengths_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens of the documents at some positions."""
        parts = [np.diff(segment.offsets) for segment in self.segments]
        return np.concatenate([np.empty(0, np.int64), *parts])[positions]

    @cached_property
    def with_tokens(self) -> NDArray[np.bool_]:
        """`(n_positions,)`: which documents have tokens; no search finds one without."""
        return self.lengths_at(np.arange(self.n_positions)) > 0

    def codes_of(
        self, codec: Codec, positions: NDArray[np.int64], names: Sequence[str] | None = None
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Codes (or only the arrays in `names`) and offsets of the documents at ascending `positions`, copied."""
        parts: list[tuple[Segment, NDArray[np.int64]]] = []
        for start, segment in zip(self.starts, self.segments, strict=False):
            low, high = np.searchsorted(positions, [start, start + len(segment)])
            if high > low:
                parts.append((segment, positions[low:high] - start))
        lengths = [np.diff(segment.offsets)[local] for segment, local in parts]
        rows = [rows_of(segment.offsets, local) for segment, local in parts]
        codes = {}
        for name in names or codec.layout:
            dtype, shape = codec.layout[name]
            arrays = [segment.codes[name][r] for (segment, _), r in zip(parts, rows, strict=True)]
            codes[name] = np.concatenate([np.empty((0, *shape), dtype), *arrays])
        return codes, offsets_of(np.concatenate([np.empty(0, np.int64), *lengths]))

    @cached_property
    def empty_cells(self) -> NDArray[np.int64]:
        """The centroids that no token of a live document has, ascending; none for a codec without centroids."""
        return np.flatnonzero(self.documents_by_cell == 0)

    @cached_property
    def documents_by_cell(self) -> NDArray[np.int64]:
        """`(K,)` int64: how many live documents have a token of each centroid; `(0,)` for a codec without centroids."""
        counts = [
            lists if dead is None else lists - np.diff(dead.offsets)
            for lists, dead in zip(self._lists, self._dead_lists, strict=True)
        ]
        return np.sum(counts, axis=0, dtype=np.int64) if counts else np.empty(0, np.int64)

    @cached_property
    def dead_tokens(self) -> NDArray[np.int64]:
        """`(K,)` int64: how many tokens of deleted documents each centroid has; for a codec with centroids."""
        counts = [np.zeros(len(self._lists[0]), np.int64)]
        counts += [
            np.bincount(np.asarray(segment.centroid_ids.values[rows_of(segment.offsets, each)], np.int64), minlength=len(lists))
            for segment, each, lists in zip(self.segments, self.deleted, self._lists, strict=True)
            if len(each)
        ]
        return np.sum(counts, axis=0, dtype=np.int64)

    @cached_property
    def _lists(self) -> list[NDArray[np.int64]]:
        """Of each segment, the lengths of its inverted lists, where it has some."""
        return [np.diff(segment.inverted.offsets) for segment in self.segments if segment.inverted is not None]

    @cached_property
    def _dead_lists(self) -> list[InvertedLists | None]:
        """Of each segment with inverted lists, those of its deleted documents alone."""
        return [
            InvertedLists.build(segment.centroid_ids.take(each), len(segment.inverted.offsets) - 1) if len(each) else None
            for segment, each in zip(self.segments, self.deleted, strict=True)
            if segment.inverted is not None
        ]
