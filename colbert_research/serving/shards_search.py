"""What a worker does for a shard: a search of its documents, in the index that all workers have open."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from colbert_research.config import content_hash
from colbert_research.index import Index, IndexMissingError, Scope
from colbert_research.search import Plaid, Queries, Rerank, SearchStrategy, Trace
from colbert_research.search.base import Found
from colbert_research.search.candidates import score_candidates
from colbert_research.serving.placing import Range
from colbert_research.serving.shards_cutoffs import Cut, Recorder
from colbert_research.settings import ConfigError

KEPT = 2  # generations that a worker has open


@dataclass(frozen=True)
class Opened:
    """One generation of the index in a folder. `manifest`: a hash of what it says of documents and codec, so that another index
    there is noticed."""

    path: str
    generation: int
    manifest: str

    @classmethod
    def of(cls, index: Index) -> "Opened":
        """The one that this process has open."""
        said = {
            name: value for name, value in index.manifest.items() if name != "structures"
        }  # which are added as they are built
        return cls(str(index.path), index.generation, content_hash(said))


@dataclass(frozen=True, eq=False)
class Part(Scope):
    """Those documents of a scope that belong to a shard.

    `size` is that of the `whole` scope: by it a strategy decides what it does, such as to score few documents without
    candidates, and every shard decides alike.
    """

    whole: int = 0

    @property
    def size(self) -> int:
        return self.whole

    @classmethod
    def of_shard(cls, scope: Scope, start: int, stop: int) -> "Part":
        """The documents in a scope from `start` to `stop` (exclusive)."""
        inside = scope.within(start, stop).positions + start
        return cls(scope.n_positions, inside, scope.is_subset, scope.size)


@dataclass(frozen=True, eq=False)
class Asked:
    """Queries, and of which documents. `allowed`: the bits of a subset's bitmap, None where all live documents may be found.

    `among`: for some of the queries, by number, the only documents that may be found, ascending; they are asked alone then.
    """

    opened: Opened
    strategy: SearchStrategy
    queries: Queries
    k: int
    start: int
    stop: int
    allowed: bytes | None = None
    among: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{len(self.queries)} queries to documents {self.start} to {self.stop - 1} of {self.opened.path}"


class Passed(NamedTuple):
    """What a shard has for a query: the documents that each cutoff of the strategy left, and the best, or all, of the last."""

    cuts: Sequence[Cut]
    found: Found


def allowed_of(scope: Scope) -> bytes | None:
    """A scope as it crosses to a worker, which knows by itself what is live."""
    return np.packbits(scope.bitmap).tobytes() if scope.is_subset else None


def look(given: tuple[Opened, SearchStrategy]) -> dict[str, Any]:
    """Open an index, and what a strategy needs beside it; says where and by whom."""
    opened, strategy = given
    index = _held(opened).index
    strategy.check_here()
    for structure in strategy.structures():
        index.structure(structure)
    return {"host": platform.node(), "pid": os.getpid()}


def search(asked: Asked) -> list[Passed]:
    """What the shard has for each query, or for those that `among` names."""
    held = _held(asked.opened)
    scope = held.scope(asked.allowed)
    if not asked.among:
        return _search(held.index, asked, asked.queries, scope, held.part(scope, asked.start, asked.stop))
    found = []
    for i, among in asked.among.items():
        part = Part(scope.n_positions, among, scope.is_subset, scope.size)
        found += _search(held.index, asked, asked.queries.slice(i, i + 1), scope, part)
    return found


def _search(index: Index, asked: Asked, queries: Queries, scope: Scope, part: Part) -> list[Passed]:
    strategy, k, trace = asked.strategy, asked.k, Trace()
    if type(strategy) is Plaid and not (scope.is_subset and scope.size <= strategy.n_exact):
        recorders = [Recorder(index) for _ in range(len(queries))]
        found = [strategy._one(each, query.vectors, k, part, trace) for each, query in zip(recorders, queries, strict=True)]
        return [Passed(each.cuts, of) for each, of in zip(recorders, found, strict=True)]
    if isinstance(strategy, Rerank) and scope.size > strategy.depth:
        # the first stage scores the whole index anyway, so the candidates are those of the whole
        candidates = strategy.first_stage.candidates(index, queries, strategy.depth, scope, trace)
        found = score_candidates(index, queries, k, [part.intersect(each) for each in candidates], trace)
    else:
        found = strategy._search(index, queries, k, part, trace)
    return [Passed((), of) for of in found]


class _Held:
    """An open index, and what is asked of it again and again."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._parts: dict[Range, Part] = {}

    def scope(self, allowed: bytes | None) -> Scope:
        if allowed is None:
            return self.index.scope()
        bits = np.unpackbits(np.frombuffer(allowed, np.uint8), count=self.index.n_positions)
        return Scope.where(bits.astype(np.bool_))

    def part(self, scope: Scope, start: int, stop: int) -> Part:
        if scope.is_subset:
            return Part.of_shard(scope, start, stop)
        if (start, stop) not in self._parts:
            self._parts[start, stop] = Part.of_shard(scope, start, stop)
        return self._parts[start, stop]


_open: dict[Opened, _Held] = {}


def _held(opened: Opened) -> _Held:
    """The index that is meant. Raises ConfigError where this machine does not see it, or has another one there."""
    if (known := _open.get(opened)) is not None:
        return known
    host, path = f"worker {os.getpid()} on {platform.node()}", Path(opened.path)
    try:
        index = Index.open(path, generation=opened.generation)
    except IndexMissingError as error:
        raise ConfigError(
            f"{host} does not find generation {opened.generation} of the index in {path} ({error}): the folder is not shared, "
            "or the index was changed meanwhile. Let it lie on a file system that all machines mount there, and start again"
        ) from error
    if Opened.of(index) != opened:
        raise ConfigError(f"{host} sees another index in {path} than this process does; let all machines mount the same folder")
    while len(_open) >= KEPT:
        del _open[next(iter(_open))]
    _open[opened] = _Held(index)
    return _open[opened]
