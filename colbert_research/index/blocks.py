"""Blocks: what a search reads together. A large segment is a block; small ones, such as many additions leave, share one.

A call of a kernel costs as much for a hundred documents as for some thousands, so that a hundred small segments would make a
query many times slower than one segment with the same documents. Blocks of several segments are copies in memory, made when
they are first needed. They grow by doubling, as the digits of a binary number: a segment that is added makes few blocks anew,
and generations share the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.index.inverted import InvertedLists
from colbert_research.index.segment import Segment
from colbert_research.ragged import Ragged, offsets_of

SMALL, LARGEST = 4 * 2**20, 64 * 2**20  # bytes of codes: of a segment that shares a block, and of a block of several


@dataclass(frozen=True, eq=False)
class Block:
    """Some consecutive documents: `offsets` `(n_documents + 1,)` int64 and codes of their tokens, inverted lists."""

    offsets: NDArray[np.int64]
    codes: Mapping[str, NDArray[Any]]
    inverted: InvertedLists | None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def centroid_ids(self) -> Ragged:
        """The centroid of each document's tokens, where the codec has centroids."""
        return Ragged(self.codes["centroid_ids"], self.offsets)

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> "Block":
        """The documents of some segments; copied unless there is one."""
        if len(segments) == 1:
            return cls(segments[0].offsets, segments[0].codes, segments[0].inverted)
        codes = {name: np.concatenate([segment.codes[name] for segment in segments]) for name in segments[0].codes}
        lists = [segment.inverted for segment in segments if segment.inverted is not None]
        starts = offsets_of([len(segment) for segment in segments])
        return cls(
            offsets_of(np.concatenate([np.diff(segment.offsets) for segment in segments])),
            codes,
            InvertedLists.joined(lists, starts) if lists else None,
        )


def grouped(segments: Sequence[Segment]) -> list[tuple[Segment, ...]]:
    """The segments of each block, in order."""
    groups: list[tuple[Segment, ...]] = []
    for segment in segments:
        groups.append((segment,))
        while len(groups) > 1 and _share(groups[-2], groups[-1]):
            last = groups.pop()
            groups[-1] += last
    return groups


def _share(one: Sequence[Segment], other: Sequence[Segment]) -> bool:
    """Whether two neighbouring groups become one."""
    small = all(_bytes([segment]) <= SMALL for segment in (*one, *other))
    return small and len(one) == len(other) and _bytes([*one, *other]) <= LARGEST


def _bytes(segments: Sequence[Segment]) -> int:
    return sum(int(array.nbytes) for segment in segments for array in segment.codes.values())
