"""`Scope`: which documents of an index a search may find."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Scope:
    """Some of an index's `n_positions`, or all of them: made once per search, and asked by every stage. It does not change.

    `chosen`: ascending positions `(size,)` int64, None where nothing is left out. `is_subset`: whether the caller asked for
    some documents, of which strategies score few exactly; an index without its deleted documents is no subset. `all`,
    `without`, `of` and `where` make one. Positions and bitmap of all are made only when they are asked for.
    """

    n_positions: int
    chosen: NDArray[np.int64] | None
    is_subset: bool = False

    @classmethod
    def all(cls, n_positions: int) -> "Scope":
        """Every document of an index."""
        return cls(n_positions, None)

    @classmethod
    def without(cls, deleted: NDArray[np.int64], n_positions: int) -> "Scope":
        """Every document of an index but those at some positions."""
        live = np.ones(n_positions, np.bool_)
        live[deleted] = False
        return cls(n_positions, _constant(np.flatnonzero(live)))

    @classmethod
    def of(cls, positions: NDArray[np.int64], n_positions: int) -> "Scope":
        """The documents at some positions, in any order, each counted once.

        It is a subset even where these are all documents. Raises IndexError for a position outside the index.
        """
        chosen = np.unique(np.asarray(positions, np.int64))
        if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < n_positions:
            raise IndexError(f"positions lie between 0 and {n_positions - 1}; given {chosen[0]} to {chosen[-1]}")
        return cls(n_positions, _constant(chosen), is_subset=True)

    @classmethod
    def where(cls, allowed: NDArray[np.bool_]) -> "Scope":
        """The documents at the positions that are true in `allowed` `(n_positions,)`; a subset even where all are."""
        return cls(len(allowed), _constant(np.flatnonzero(allowed)), is_subset=True)

    @property
    def is_all(self) -> bool:
        """Whether no position is left out."""
        return self.chosen is None

    @property
    def size(self) -> int:
        """How many documents may be found."""
        return self.n_positions if self.chosen is None else len(self.chosen)

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """Ascending positions `(size,)` of the documents that may be found; read-only."""
        return _constant(np.arange(self.n_positions, dtype=np.int64)) if self.chosen is None else self.chosen

    @cached_property
    def bitmap(self) -> NDArray[np.bool_]:
        """`(n_positions,)`: whether each document may be found; read-only."""
        allowed = np.full(self.n_positions, self.chosen is None)
        allowed[self.chosen if self.chosen is not None else slice(0)] = True
        allowed.flags.writeable = False
        return allowed

    def within(self, start: int, stop: int) -> "Scope":
        """The part of it in the documents from `start` to `stop` (exclusive), numbered from 0, such as those of a segment."""
        if self.chosen is None:
            return Scope(stop - start, None, self.is_subset)
        low, high = np.searchsorted(self.chosen, [start, stop])
        return Scope(stop - start, _constant(self.chosen[low:high] - start), self.is_subset)

    def contains(self, positions: NDArray[np.signedinteger[Any]]) -> NDArray[np.bool_]:
        """Whether each of some documents may be found: bool, of the shape of `positions`."""
        return self.bitmap[positions]

    def intersect(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some positions that may be found, in the same order."""
        return positions if self.chosen is None else positions[self.bitmap[positions]]


def _constant(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    positions.flags.writeable = False
    return positions
