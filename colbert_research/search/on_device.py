"""An index on a CUDA device, and what strategies there do with it; arrays stay on the device until they are found."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.codecs import TableCodec
from colbert_research.codecs.exact import ExactCodec
from colbert_research.index import Index
from colbert_research.kernels import cuda_backend
from colbert_research.kernels.cuda.arrays import Array, Place, empty, rising, to_numpy, upload
from colbert_research.kernels.cuda.launch import home, missing
from colbert_research.kernels.cuda.tally import Tally, best, tally_for
from colbert_research.kernels.cuda.topk import MOST
from colbert_research.kernels.cuda.transfer import free_bytes, synchronize
from colbert_research.kernels.operands import CodedTokens
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search.base import Found
from colbert_research.search.shards import Shard, Shards, fits, widened
from colbert_research.search.trace import Stage, Trace

CHOSEN_THERE = MOST  # of a row; more are chosen on the processor
SCORES_HELD = 2**27  # float32 scores of one block of queries: 512 MiB
FOR_SCORES = 1 / 8  # of the device's memory that may be used
FREE_TAKEN = 0.9  # of the device's free memory, where no limit is given

_copies: WeakKeyDictionary[Index, tuple[float | None, "DeviceIndex"]] = WeakKeyDictionary()
_made = Lock()


def check_device(kind: str, instead: str) -> None:
    """Raise RuntimeError where there is nothing to search on."""
    lacking = missing()
    if lacking:
        raise RuntimeError(
            f"search.kind={kind} searches on a CUDA device, and here {lacking}; choose search.kind={instead}, or "
            "pip install 'colbert-research[cuda13]' (or cuda12) on a machine with an NVIDIA GPU"
        )


def device_index(index: Index, memory_gb: float | None, *, stream: bool = True) -> "DeviceIndex":
    """The copy of an index on the first CUDA device, made once and freed with the index; another `memory_gb` makes it anew.

    Raises ValueError for an index that does not fit, unless it may be streamed.
    """
    place = home(Place("numpy", None))
    with _made:
        limit, known = _copies.get(index, (None, None))
        if known is None or known.place.device != place.device or limit != memory_gb:
            _copies.pop(index, None)
            known = None  # freed before the next is made
            free = free_bytes(place)
            room = int(memory_gb * 1e9) if memory_gb is not None else None if free is None else int(free * FREE_TAKEN)
            if stream or fits(index, room):
                known = DeviceIndex(index, place, room)
                _copies[index] = memory_gb, known
        if known is None or (known.shards.resident is None and not stream):
            raise ValueError(
                f"the codes of {index!r} do not fit into search.memory_gb={memory_gb}; raise it, or choose "
                "search.kind=cuda_exhaustive, which streams them, or plaid"
            )
        return known


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores `(n_queries, n)` float32 on the device, and the counts of them by which the best are chosen there."""

    values: Array
    tally: Tally


class DeviceIndex:
    """What a search on a device needs of an index; it does not hold the index itself. Arguments as of `Shards`."""

    def __init__(self, index: Index, place: Place, room: int | None) -> None:
        self.shards = Shards(index, place, room)
        self.place, self.codec, self.bytes_per_token, self.n_documents = place, index.codec, index.bytes_per_token, len(index)
        self.scores_held = SCORES_HELD if room is None else min(SCORES_HELD, int(room * FOR_SCORES) // 4)
        self._starts = index.starts
        self._lists = [(s.inverted.offsets, s.inverted.documents) for s in index.segments if s.inverted is not None]

    @contextmanager
    def stage(self, trace: Trace, name: str) -> Iterator[Stage]:
        """As `Trace.stage`; it ends when the device is done."""
        with trace.stage(name) as stage:
            yield stage
            synchronize(self.place)

    def score(self, shard: Shard, queries: Ragged, only: Array | None, *, lifts: str = "float32") -> Scores:
        """MaxSim of queries with a shard's documents, or those at places `only`. `lifts`: as of `cuda.codes.maxsim_codes`."""
        codec, tokens = self.codec, shard.tokens
        tally = tally_for(len(queries), int(queries.lengths.max(initial=0)), self.place)
        if isinstance(codec, TableCodec):
            assert isinstance(tokens, CodedTokens)
            turned = queries.map(codec.turned)
            return Scores(cuda_backend.maxsim_codes(turned, tokens, only, lifts=lifts, tally=tally), tally)
        assert isinstance(tokens, Ragged)
        if isinstance(codec, ExactCodec):
            asked = queries.map(lambda rows: widened(rows, tokens.dim))
            return Scores(cuda_backend.maxsim(asked, tokens, only, tally=tally), tally)
        scores = empty((len(queries), len(shard) if only is None else len(only)), "float32", self.place)
        for i, query in enumerate(queries):  # every token is a centroid
            products, counts = self.products(query), tally.of_query(i)
            scores[i] = cuda_backend.centroid_interaction(products, tokens, None, only, tally=counts)
        return Scores(scores, tally)

    def products(self, query: NDArray[np.float32]) -> Array:
        """Products of a query's tokens with the codec's centroids: `(n_tokens, K)` float32, on the device."""
        return cuda_backend.dot_products(upload(np.asarray(query, np.float32), self.place), self._centroids)

    def cells(self, products: Array, n: int) -> NDArray[np.int64]:
        """The centroids that are among the `n` greatest of any query token, rising, in the processor's memory."""
        if n > CHOSEN_THERE:
            return np.unique(kernels.greatest(to_numpy(products), n))
        return np.unique(to_numpy(cuda_backend.greatest(products, n)))

    def candidates(self, cells: NDArray[np.int64]) -> Array:
        """Rising positions of the documents with a token in any of the cells, on the device."""
        return cuda_backend.union(self._inverted, cells, self.n_documents)

    def interaction(
        self, products: Array, positions: Array, trace: Trace, *, stage: str, kept: NDArray[np.bool_] | None = None
    ) -> Scores:
        """Centroid interaction of one query with the documents at rising `positions`.

        `kept` `(K,)`: tokens of other centroids are left out.
        """
        there = None if kept is None else upload(kept, self.place)
        with self.stage(trace, stage) as count:
            tally = tally_for(1, len(products), self.place)
            scores = cuda_backend.centroid_interaction(products, self._centroid_ids, there, positions, tally=tally)
            tokens = self.tokens_of(positions)
            count.documents += len(positions)
            count.tokens += tokens
            count.bytes += tokens * self.codec.layout["centroid_ids"][0].itemsize
        return Scores(scores[None], tally)

    def best(self, scores: Scores, k: int) -> list[tuple[Array, Array]]:
        """For each query, places and scores of its `k` best, on the device: score descending, then place ascending."""
        if min(k, int(scores.values.shape[1])) > CHOSEN_THERE:
            chosen = [upload(kernels.topk(to_numpy(row), k), self.place) for row in scores.values]
            return [(places, row[places]) for places, row in zip(chosen, scores.values, strict=True)]
        places, values, state = best(scores.values, scores.tally, k)
        counts, nans = to_numpy(state).T
        if nans.any():
            raise ValueError(f"{nans.sum()} scores are not numbers (NaN); look for NaN or infinite token vectors")
        return [(row[:count], own[:count]) for row, own, count in zip(places, values, counts.tolist(), strict=True)]

    def found(self, positions: Array | None, scores: Scores, k: int, *, start: int = 0) -> list[Found]:
        """For each query, the `k` best of documents at rising `positions` (None: all), and their scores, for the processor."""
        best = self.best(scores, k)
        return [(to_numpy(p if positions is None else positions[p]) + start, to_numpy(values)) for p, values in best]

    def narrow(self, positions: Array, scores: Scores, size: int) -> Array:
        """The `size` positions with the best scores of the one query, rising, on the device."""
        ((places, _),) = self.best(scores, size)
        return positions[rising(places)]

    def tokens_of(self, positions: Array) -> int:
        """How many tokens the documents at `positions`, on the device, have together."""
        return int(self._lengths[positions].sum())

    @cached_property
    def _lengths(self) -> Array:
        return upload(np.diff(self.shards.offsets), self.place)

    @cached_property
    def _centroids(self) -> Array:
        assert self.codec.centroids is not None
        return upload(self.codec.centroids, self.place)

    @cached_property
    def _centroid_ids(self) -> Ragged:
        """The centroid of each document's tokens; all codes lie on the device."""
        assert self.shards.resident is not None
        tokens: Any = self.shards.resident.tokens
        return Ragged(tokens.centroid_ids, tokens.offsets) if isinstance(tokens, CodedTokens) else tokens

    @cached_property
    def _inverted(self) -> Ragged:
        """For each centroid, the documents of all segments with a token there, rising, on the device."""
        counts = np.array([np.diff(offsets) for offsets, _ in self._lists])
        merged = offsets_of(counts.sum(axis=0))
        documents, cursor = np.empty(merged[-1], np.int32), merged[:-1].copy()
        for start, count, (offsets, ids) in zip(self._starts, counts, self._lists, strict=False):
            documents[np.repeat(cursor - offsets[:-1], count) + np.arange(len(ids))] = ids + np.int32(start)
            cursor += count
        return Ragged(upload(documents, self.place), merged)
