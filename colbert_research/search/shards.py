"""An index's codes for a device: copied there once, or, where they do not fit, in shards that pass through two buffers."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import Codec, TableCodec
from colbert_research.codecs.base import Layout
from colbert_research.codecs.centroid import CentroidCodec
from colbert_research.codecs.exact import ExactCodec
from colbert_research.index import Index, Scope
from colbert_research.kernels.cuda.arrays import Array, Place, empty
from colbert_research.kernels.cuda.kept import Kept
from colbert_research.kernels.cuda.transfer import BUFFERS, conveyed, fill, lane_to, pinned
from colbert_research.kernels.operands import CodedTokens
from colbert_research.ragged import Ragged
from colbert_research.search.decoded import token_offsets

FOR_THE_INDEX = 3 / 4  # of the device's memory that may be used
ROWS_PER_PIECE = 2**20


@dataclass(frozen=True, eq=False)
class Shard:
    """Some documents on the device, the first of them at position `start`. `tokens`: what the codec's kernel takes."""

    start: int
    tokens: CodedTokens | Ragged

    @property
    def offsets(self) -> NDArray[np.int64]:
        return self.tokens.offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def centroid_ids(self) -> Ragged:
        """The centroid of each document's tokens, on the device, where the codec has centroids."""
        tokens: Any = self.tokens
        return Ragged(tokens.centroid_ids, tokens.offsets) if isinstance(tokens, CodedTokens) else tokens


Visit = tuple[Shard, NDArray[np.int64] | None]
"""A shard that is on the device, and the local positions of the documents that are meant; None for all."""


class Shards:
    """The codes of an index for a device at `place`, of whose memory `room` bytes may be used (None: any amount).

    Where codes and offsets take at most three quarters of `room`, they lie on the device, as one shard. Else they are copied to
    pinned memory, as large as they are, and cut into shards of whole documents that go to the device whenever they are visited.
    Raises ValueError for a codec that no CUDA kernel scores, and for a document that does not fit twice.
    """

    def __init__(self, index: Index, place: Place, room: int | None) -> None:
        self._place, self._lane, self._busy = place, lane_to(place), Lock()
        self._sources: list[dict[str, NDArray[Any]]] = []
        self._buffers: list[dict[str, Array]] = []
        self.offsets = token_offsets(index)
        layout = device_layout(index.codec)
        if fits(index, room):
            arrays = {name: empty((self.offsets[-1], *shape), dtype.name, place) for name, (dtype, shape) in layout.items()}
            for name, at, rows in _parts(index, layout):
                fill(arrays[name], at, rows, place)
            self._all = [Shard(0, _tokens(index.codec, arrays, self.offsets))]
        else:
            assert room is not None
            self._all = self._cut(index, layout, room)
        self._kept = Kept((self._all, self._buffers), place)

    def _cut(self, index: Index, layout: Layout, room: int) -> list[Shard]:
        """Shards in pinned memory, by turns for one of the buffers on the device."""
        share, row = int(room * FOR_THE_INDEX), row_bytes(layout)
        tokens = Ragged(np.broadcast_to(np.int8(0), (self.offsets[-1],)), self.offsets)
        pieces = list(tokens.chunks(max(1, share // BUFFERS // row)))
        longest = max(piece.n_rows for _, piece in pieces)
        if BUFFERS * longest * row > share:
            raise ValueError(
                f"a document of {longest} tokens, {longest * row} bytes, does not fit twice into three quarters of "
                f"{room / 1e9:g} GB; raise search.memory_gb to at least {BUFFERS * longest * row / FOR_THE_INDEX / 1e9:.3g}"
            )
        whole = {name: pinned((self.offsets[-1], *shape), dtype, self._place) for name, (dtype, shape) in layout.items()}
        for name, at, rows in _parts(index, layout):
            whole[name][at : at + len(rows)] = rows
        for _ in range(BUFFERS):
            buffer = {name: empty((longest, *shape), dtype.name, self._place) for name, (dtype, shape) in layout.items()}
            self._buffers.append(buffer)
        shards = []
        for number, (start, piece) in enumerate(pieces):
            low, high = self.offsets[start], self.offsets[start + len(piece)]
            self._sources.append({name: array[low:high] for name, array in whole.items()})
            there = {name: array[: high - low] for name, array in self._buffers[number % BUFFERS].items()}
            shards.append(Shard(start, _tokens(index.codec, there, piece.offsets)))
        return shards

    def __len__(self) -> int:
        return len(self._all)

    @property
    def resident(self) -> Shard | None:
        """All documents, where their codes lie on the device, for work on the current stream; None where they do not."""
        return None if self._sources else self._kept.here()[0][0]

    def visited(self, scope: Scope) -> Generator[Visit, None, None]:
        """The shards with any of the documents in the scope, for work on the stream that is current at the first.

        A shard is there until the next is asked for; close the iterator, so that others may visit.
        """
        chosen = list(range(len(self)))
        local: list[NDArray[np.int64] | None] = [None] * len(self)
        if not scope.is_all:
            cuts = np.searchsorted(scope.positions, [*(shard.start for shard in self._all), len(self.offsets) - 1])
            local = [scope.positions[a:b] - s.start for s, a, b in zip(self._all, cuts[:-1], cuts[1:], strict=True)]
            chosen = np.flatnonzero(np.diff(cuts)).tolist()
        shards, buffers = self._kept.here()
        if not self._sources:
            yield shards[0], local[0]
            return
        with self._busy:  # the buffers serve one search at a time
            sources = [(i % BUFFERS, self._sources[i]) for i in chosen]
            for i in conveyed(sources, buffers, self._lane):
                yield shards[chosen[i]], local[chosen[i]]


def device_layout(codec: Codec) -> Layout:
    """The codec's arrays as they lie on a device: vectors are as wide as the kernels want them.

    Raises ValueError for a codec that no CUDA kernel scores.
    """
    if isinstance(codec, ExactCodec):
        return {"vectors": (np.dtype(codec.config.dtype), (-(-codec.dim // 16) * 16,))}
    if isinstance(codec, (TableCodec, CentroidCodec)):
        return codec.layout
    raise ValueError(
        f"no CUDA kernel scores the codes of {type(codec).__name__}; choose search.kind=exhaustive, or a codec that is exact, "
        "centroid or a TableCodec"
    )


def row_bytes(layout: Layout) -> int:
    """Bytes of one token's codes."""
    return sum(dtype.itemsize * int(np.prod(shape, dtype=np.int64)) for dtype, shape in layout.values())


def fits(index: Index, room: int | None) -> bool:
    """Whether the codes and offsets of an index take at most three quarters of `room` bytes; any do of None."""
    offsets = token_offsets(index)
    taken = int(offsets[-1]) * row_bytes(device_layout(index.codec)) + offsets.nbytes
    return room is None or taken <= room * FOR_THE_INDEX


def widened(rows: NDArray[Any], width: int) -> NDArray[Any]:
    """Rows `(n, dim)` with zeros appended up to `width`."""
    return rows if rows.shape[1] == width else np.pad(rows, ((0, 0), (0, width - rows.shape[1])))


def _parts(index: Index, layout: Layout) -> Iterator[tuple[str, int, NDArray[Any]]]:
    """`(name, first row, rows)` of the arrays of all segments, piece by piece."""
    for name, (_, shape) in layout.items():
        at = 0
        for segment in index.segments:
            n_tokens = int(segment.offsets[-1])
            for low in range(0, n_tokens, ROWS_PER_PIECE):
                rows = segment.codes[name][low : min(low + ROWS_PER_PIECE, n_tokens)]
                yield name, at + low, widened(rows, shape[0]) if shape else rows
            at += n_tokens


def _tokens(codec: Codec, arrays: Mapping[str, Array], offsets: NDArray[np.int64]) -> CodedTokens | Ragged:
    """Arrays on the device as the codec's kernel takes them."""
    if isinstance(codec, TableCodec):
        return codec.tokens(arrays, offsets)
    (array,) = arrays.values()
    return Ragged(array, offsets)
