"""`Trace`: what a search did, stage by stage: time, and the centroids, documents, tokens and bytes of codes it touched."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Stage:
    """Sums over all queries of one search."""

    seconds: float = 0.0
    centroids: int = 0
    documents: int = 0
    tokens: int = 0
    bytes: int = 0

    def tokens_read(self, tokens: int, bytes_per_token: int) -> None:
        """Count tokens, and the bytes of their codes."""
        self.tokens += tokens
        self.bytes += tokens * bytes_per_token


@dataclass
class Trace:
    """Collects what a strategy did, and what it has to say; hand one to `search` to look inside it.

    `stages` stand in the order in which a query passes through them, those too that the first query skipped. `kept`: given as
    an empty dictionary, it collects what each stage looked at of one query, as pairs of positions and scores (see
    `SearchStrategy.explain`).
    """

    queries: int = 0
    stages: dict[str, Stage] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    kept: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float32] | None]]] | None = None
    _last: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a block as part of a stage, and give the stage to count in."""
        if name not in self.stages:
            order = in_order([[*self.stages], [self._last, name] if self._last else [name]])
            self.stages = {each: self.stages.get(each) or Stage() for each in order}
        self._last, stage = name, self.stages[name]
        start = time.perf_counter()
        try:
            yield stage
        finally:
            stage.seconds += time.perf_counter() - start

    def keep(self, stage: str, positions: NDArray[np.int64], scores: NDArray[np.float32] | None = None) -> None:
        """Remember the documents that a stage looked at, where that was asked for."""
        if self.kept is not None:
            self.kept.setdefault(stage, []).append((positions, scores))

    def keep_order(self, stage: str, positions: NDArray[np.int64]) -> None:
        """`keep`, of documents in an order, the best first: each one's score is how many are before it, negated."""
        self.keep(stage, positions, -np.arange(len(positions), dtype=np.float32))

    def seconds(self) -> dict[str, float]:
        """Stage -> seconds, in the order of `stages`."""
        return {name: stage.seconds for name, stage in self.stages.items()}

    def work(self) -> dict[str, dict[str, int]]:
        """Stage -> counts; the same for the same search on any machine."""
        return {name: {k: v for k, v in asdict(stage).items() if k != "seconds"} for name, stage in self.stages.items()}


def in_order(sequences: Iterable[Iterable[str]]) -> list[str]:
    """The names in some sequences, each once; one that earlier sequences lack follows the name before it in its own."""
    names: list[str] = []
    for sequence in sequences:
        place = 0
        for name in sequence:
            if name not in names:
                names.insert(place, name)
            place = names.index(name) + 1
    return names
