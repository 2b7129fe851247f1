"""An index on a CUDA device: its codes copied there once, or, where they do not fit, shards that pass through two buffers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.codecs import Codec, TableCodec
from colbert_research.codecs.centroid import CentroidCodec
from colbert_research.codecs.exact import ExactCodec
from colbert_research.index import Index
from colbert_research.kernels import cuda_backend
from colbert_research.kernels.cuda.arrays import Array, Place, empty, rising, to_numpy, upload
from colbert_research.kernels.cuda.launch import home, missing
from colbert_research.kernels.cuda.transfer import BUFFERS, conveyed, fill, free_bytes, lane_to, pinned, synchronize
from colbert_research.kernels.operands import CodedTokens
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search.base import Found
from colbert_research.search.decoded import token_offsets
from colbert_research.search.trace import Stage, Trace

SCORES_HELD = 2**27  # float32 scores of one block of queries: 512 MiB
FOR_THE_INDEX, FOR_SCORES = 3 / 4, 1 / 8  # of the memory that may be used
ROWS_A_PIECE = 2**20
FREE_TAKEN = 0.9  # of the device's free memory, where no limit is given

_copies: WeakKeyDictionary[Index, tuple[float | None, "DeviceIndex"]] = WeakKeyDictionary()
_made = Lock()


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


class DeviceIndex:
    """The codes of an index for a device at `place`, of whose memory `room` bytes may be used (None: any amount).

    Where codes and offsets are less than three quarters of `room`, they lie on the device, as one shard. Else they are copied
    to pinned memory, as large as they are, and cut into shards of whole documents that go to the device at every search.
    Raises ValueError for a codec that no CUDA kernel scores, and for a document that does not fit twice.
    """

    def __init__(self, index: Index, place: Place, room: int | None) -> None:
        self.codec, self.place = index.codec, place
        self.bytes_per_token = index.bytes_per_token
        self._room, self._lane, self._busy = room, lane_to(place), Lock()
        self._offsets = token_offsets(index)
        self._lists = [(s.inverted.offsets, s.inverted.documents) for s in index.segments if s.inverted is not None]
        self._starts = index.starts
        layout = _layout(index.codec)
        row = sum(dtype.itemsize * int(np.prod(shape, dtype=np.int64)) for dtype, shape in layout.values())
        share = None if room is None else int(room * FOR_THE_INDEX)
        if share is None or index.n_tokens * row + 8 * len(self._offsets) <= share:
            self._sources: list[dict[str, NDArray[Any]]] = []
            arrays = {name: empty((index.n_tokens, *shape), dtype.name, place) for name, (dtype, shape) in layout.items()}
            for name, array in arrays.items():
                for at, rows in _rows(index, name, layout[name][1]):
                    fill(array, at, rows, place)
            self.shards: tuple[Shard, ...] = (Shard(0, _tokens(index.codec, arrays, self._offsets)),)
        else:
            self._stream(index, layout, row, share)

    def _stream(self, index: Index, layout: Mapping[str, Any], row: int, share: int) -> None:
        """Shards in pinned memory, and two sets of buffers on the device."""
        tokens = Ragged(np.broadcast_to(np.int8(0), (index.n_tokens,)), self._offsets)
        pieces = list(tokens.chunks(max(1, share // 2 // row)))
        longest = max(piece.n_rows for _, piece in pieces)
        if 2 * longest * row > share:
            raise ValueError(
                f"a document of {longest} tokens, {longest * row} bytes, does not fit twice into three quarters of "
                f"{self._room / 1e9:g} GB; raise search.memory_gb to at least {2 * longest * row / FOR_THE_INDEX / 1e9:.3g}"  # type: ignore[operator]
            )
        whole = {name: pinned((index.n_tokens, *shape), dtype, self.place) for name, (dtype, shape) in layout.items()}
        for name, array in whole.items():
            for at, rows in _rows(index, name, layout[name][1]):
                array[at : at + len(rows)] = rows
        self._buffers = [
            {name: empty((longest, *shape), dtype.name, self.place) for name, (dtype, shape) in layout.items()}
            for _ in range(BUFFERS)
        ]
        self._sources, shards = [], []
        for number, (start, piece) in enumerate(pieces):
            low, high = self._offsets[start], self._offsets[start + len(piece)]
            self._sources.append({name: array[low:high] for name, array in whole.items()})
            there = {name: buffer[: high - low] for name, buffer in self._buffers[number % BUFFERS].items()}
            shards.append(Shard(start, _tokens(self.codec, there, piece.offsets)))
        self.shards = tuple(shards)

    @property
    def n_documents(self) -> int:
        return len(self._offsets) - 1

    @property
    def is_resident(self) -> bool:
        """Whether all codes lie on the device."""
        return not self._sources

    def visited(self, subset: NDArray[np.int64] | None) -> Iterator[tuple[Shard, NDArray[np.int64] | None]]:
        """The shards with any of the documents at rising positions `subset`, and their places there; None for all."""
        places: list[NDArray[np.int64] | None] = [None] * len(self.shards)
        chosen = np.arange(len(self.shards))
        if subset is not None:
            cuts = np.searchsorted(subset, [shard.start for shard in self.shards] + [len(self._offsets) - 1])
            places = [subset[a:b] - s.start for s, a, b in zip(self.shards, cuts[:-1], cuts[1:], strict=True)]
            chosen = np.flatnonzero(np.diff(cuts))
        if self.is_resident:
            yield self.shards[0], places[0]
            return
        with self._busy:  # one search at a time uses the buffers
            sources = [(int(i) % BUFFERS, self._sources[i]) for i in chosen]
            for i in conveyed(sources, self._buffers, self._lane):
                yield self.shards[chosen[i]], places[chosen[i]]

    @contextmanager
    def stage(self, trace: Trace, name: str) -> Iterator[Stage]:
        """As `Trace.stage`; it ends when the device is done."""
        with trace.stage(name) as stage:
            yield stage
            synchronize(self.place)

    def score(self, shard: Shard, queries: Ragged, only: Array | None) -> Array:
        """MaxSim of queries with a shard's documents, or those at places `only`: `(n_queries, n)` float32, on the device."""
        codec, tokens = self.codec, shard.tokens
        if isinstance(codec, TableCodec):
            assert isinstance(tokens, CodedTokens)
            return kernels.maxsim_codes(queries.map(codec.turned), tokens, only=only, backend="cuda")
        assert isinstance(tokens, Ragged)
        if isinstance(codec, ExactCodec):
            return kernels.maxsim(queries.map(lambda rows: _wide(rows, tokens.dim)), tokens, only=only, backend="cuda")
        n = len(shard) if only is None else len(only)
        scores = empty((len(queries), n), "float32", self.place)
        for i, query in enumerate(queries):
            scores[i] = cuda_backend.centroid_interaction(self.products(query), tokens, None, only)
        return scores

    def products(self, query: NDArray[np.float32]) -> Array:
        """Products of a query's tokens with the codec's centroids: `(n_tokens, K)` float32, on the device."""
        return cuda_backend.dot_products(upload(np.asarray(query, np.float32), self.place), self.centroids)

    def best(self, scores: Array, k: int) -> Array:
        """Places of the `k` best of scores `(n,)`, on the device: score descending, then place ascending."""
        return cuda_backend.topk(scores, min(k, len(scores))) if len(scores) else empty((0,), "int64", self.place)

    def found(self, positions: Array | None, scores: Array, k: int, *, start: int = 0) -> Found:
        """The `k` best of documents at rising `positions` (None: all), and their scores, in the processor's memory."""
        places = self.best(scores, k)
        chosen = places if positions is None else positions[places]
        return to_numpy(chosen) + start, to_numpy(scores[places])

    def narrow(self, positions: Array, scores: Array, size: int) -> Array:
        """The `size` positions with the best scores, rising, on the device."""
        return positions[rising(self.best(scores, size))]

    @cached_property
    def centroids(self) -> Array:
        """The codec's centroids, on the device."""
        assert self.codec.centroids is not None
        return upload(self.codec.centroids, self.place)

    @cached_property
    def centroid_ids(self) -> Ragged:
        """The centroid of each document's tokens, where all codes lie on the device."""
        tokens = self.shards[0].tokens
        return Ragged(tokens.centroid_ids, tokens.offsets) if isinstance(tokens, CodedTokens) else tokens

    @cached_property
    def id_bytes(self) -> int:
        return int(self.codec.layout["centroid_ids"][0].itemsize)

    @cached_property
    def _lengths(self) -> Array:
        return upload(np.diff(self._offsets), self.place)

    def tokens_of(self, positions: Array) -> int:
        """How many tokens the documents at `positions`, on the device, have together."""
        return int(self._lengths[positions].sum())

    @cached_property
    def lists(self) -> Ragged:
        """For each centroid, the documents of all segments with a token there, rising, on the device."""
        counts = np.array([np.diff(offsets) for offsets, _ in self._lists])
        merged = offsets_of(counts.sum(axis=0))
        documents, cursor = np.empty(merged[-1], np.int32), merged[:-1].copy()
        for start, count, (offsets, ids) in zip(self._starts, counts, self._lists, strict=False):
            documents[np.repeat(cursor - offsets[:-1], count) + np.arange(len(ids))] = ids + np.int32(start)
            cursor += count
        return Ragged(upload(documents, self.place), merged)

    @property
    def scores_held(self) -> int:
        """How many scores are computed before the best of them are chosen."""
        return SCORES_HELD if self._room is None else min(SCORES_HELD, int(self._room * FOR_SCORES) // 4)


def check_device(kind: str, instead: str) -> None:
    """Raise RuntimeError where there is nothing to search on."""
    lacking = missing()
    if lacking:
        raise RuntimeError(
            f"search.kind={kind} searches on a CUDA device, and here {lacking}; choose search.kind={instead}, or "
            "pip install 'colbert-research[cuda13]' (or cuda12) on a machine with an NVIDIA GPU"
        )


def device_index(index: Index, memory_gb: float | None) -> DeviceIndex:
    """The copy of an index on the first CUDA device, made once and freed with the index; another `memory_gb` makes it anew."""
    place = home(Place("numpy", None))
    with _made:
        limit, known = _copies.get(index, (None, None))
        if known is None or known.place.device != place.device or limit != memory_gb:
            _copies.pop(index, None)
            del known  # freed before the next is made
            free = free_bytes(place)
            room = int(memory_gb * 1e9) if memory_gb is not None else None if free is None else int(free * FREE_TAKEN)
            known = DeviceIndex(index, place, room)
            _copies[index] = memory_gb, known
        return known


def _layout(codec: Codec) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """The codec's arrays as they lie on a device: rows of vectors are as wide as the kernels want them."""
    if isinstance(codec, ExactCodec):
        return {"vectors": (np.dtype(codec.config.dtype), (-(-codec.dim // 16) * 16,))}
    if isinstance(codec, (TableCodec, CentroidCodec)):
        return dict(codec.layout)
    raise ValueError(
        f"no CUDA kernel scores the codes of {type(codec).__name__}; choose search.kind=exhaustive, or a codec that is exact, "
        "centroid or a TableCodec"
    )


def _rows(index: Index, name: str, shape: tuple[int, ...]) -> Iterator[tuple[int, NDArray[Any]]]:
    """`(row, part)` of an array of all segments, widened to `shape`."""
    at = 0
    for segment in index.segments:
        for low in range(0, int(segment.offsets[-1]), ROWS_A_PIECE):
            part = segment.codes[name][low : min(low + ROWS_A_PIECE, int(segment.offsets[-1]))]
            yield at + low, _wide(part, shape[0]) if shape else part
        at += int(segment.offsets[-1])


def _wide(rows: NDArray[Any], width: int) -> NDArray[Any]:
    """Rows `(n, dim)` with zeros appended up to `width`."""
    return rows if rows.shape[1] == width else np.pad(rows, ((0, 0), (0, width - rows.shape[1])))


def _tokens(codec: Codec, arrays: Mapping[str, Array], offsets: NDArray[np.int64]) -> CodedTokens | Ragged:
    """Arrays on the device as the codec's kernel takes them."""
    if isinstance(codec, TableCodec):
        return codec.tokens(arrays, offsets)
    (array,) = arrays.values()
    return Ragged(array, offsets)
