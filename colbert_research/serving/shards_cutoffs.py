"""Cutoffs over the documents of all shards.

PLAID keeps the best so many documents of a stage for the next one. A shard cannot know which of its own are among the best of
all; but those are among its own best so many, so it keeps these and tells their scores, and who asked takes the best of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.index import Scope
from colbert_research.ragged import Ragged
from colbert_research.search.base import Found
from colbert_research.search.found import best
from colbert_research.search.on_host import HostEngine
from colbert_research.search.trace import Trace

Positions = NDArray[np.int64]
MANY = 2**62


class Cut(NamedTuple):
    """The best `size` documents of a stage, or all where there are fewer: ascending positions, and scores of that stage."""

    size: int
    positions: Positions
    scores: NDArray[np.float32]


class Candidate:
    """Documents of which no stage thinks that they are few enough to pass as they are."""

    def __init__(self, positions: Positions) -> None:
        self.positions = positions

    def __len__(self) -> int:
        return MANY


@dataclass(frozen=True, eq=False)
class Recorder(HostEngine):
    """The steps of PLAID for one query on a shard: every stage is computed, and what it leaves is remembered in `cuts`.

    `best` gives all documents that were scored.
    """

    cuts: list[Cut] = field(default_factory=list)

    def keep(self, trace: Trace, stage: str, documents: object, scores: object = None) -> None:
        pass

    def candidates(self, cells: Positions, scope: Scope) -> Candidate:  # type: ignore[override]
        contents, inside = self.index.contents, scope.positions
        starts = contents.block_starts
        found = [
            start + block.inverted.documents_of(cells, len(block))
            for start, stop, block in zip(starts[:-1], starts[1:], contents.blocks, strict=True)
            if block.inverted is not None and start <= inside[-1] and inside[0] < stop
        ]
        return Candidate(scope.intersect(np.concatenate(found)))

    def interaction(  # type: ignore[override]
        self,
        products: NDArray[np.float32],
        documents: Candidate,
        trace: Trace,
        *,
        stage: str,
        kept: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        return super().interaction(products, documents.positions, trace, stage=stage, kept=kept)

    def narrow(self, documents: Candidate, scores: NDArray[np.float32], size: int) -> Candidate:  # type: ignore[override]
        (row,) = scores
        chosen = kernels.among_best(row, size)
        self.cuts.append(Cut(size, documents.positions[chosen], row[chosen]))
        return Candidate(documents.positions[chosen])

    def score(  # type: ignore[override]
        self, queries: Ragged, documents: Candidate, trace: Trace, *, stage: str
    ) -> NDArray[np.float32]:
        return super().score(queries, documents.positions, trace, stage=stage)

    def best(self, documents: Candidate, scores: NDArray[np.float32], k: int) -> list[Found]:  # type: ignore[override]
        return [(documents.positions, row) for row in scores]


class OfShard(Protocol):
    """What a shard has for a query; see `Passed`."""

    @property
    def cuts(self) -> Sequence[Cut]: ...

    @property
    def found(self) -> Found: ...


def together(shards: Sequence[OfShard], k: int) -> tuple[Found, dict[int, Positions]]:
    """The best `k` of all shards, given in the order of their positions, after the cutoffs of all.

    And the shards that have to be asked again before that is certain, by number, among which of their documents: behind a
    second cutoff a shard's own best may be such as the first one, taken over all shards, leaves out.
    """
    left: Positions | None = None
    again: dict[int, Positions] = {}
    for level in range(max((len(shard.cuts) for shard in shards), default=0)):
        cuts = [shard.cuts[level] for shard in shards]
        passed = [np.ones(len(cut.positions), np.bool_) if left is None else _among(cut.positions, left) for cut in cuts]
        positions = np.concatenate([cut.positions[here] for cut, here in zip(cuts, passed, strict=True)])
        scores = np.concatenate([cut.scores[here] for cut, here in zip(cuts, passed, strict=True)])
        chosen = np.argsort(-scores, kind="stable")[: cuts[0].size]  # ties by position, which rise
        last = None if len(chosen) < cuts[0].size else (-scores[chosen[-1]], positions[chosen[-1]])
        if left is not None:
            for number, (shard, cut, here) in enumerate(zip(shards, cuts, passed, strict=True)):
                wanted = shard.cuts[level - 1].positions
                wanted = wanted[_among(wanted, left)]
                if len(wanted) > np.count_nonzero(here) and (
                    last is None or last > max(zip(-cut.scores, cut.positions, strict=True))
                ):
                    again[number] = wanted
        left = np.sort(positions[chosen])
    positions = np.concatenate([shard.found[0] for shard in shards])
    scores = np.concatenate([shard.found[1] for shard in shards])
    if left is not None:
        stays = _among(positions, left)
        positions, scores = positions[stays], scores[stays]
        return best(positions, scores, k), again
    order = np.lexsort((positions, -scores))[:k]
    return (positions[order], scores[order]), again


def _among(positions: Positions, chosen: Positions) -> NDArray[np.bool_]:
    return np.isin(positions, chosen, assume_unique=True)
