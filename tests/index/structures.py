"""Small structures to try the keeping of structures with."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from colbert_research.index import CodecStructure, SegmentStructure
from colbert_research.index.damage import check_range, open_array
from colbert_research.ragged import offsets_of

built: list[tuple[str, str]] = []
"""Kind and part of everything that was built."""


class Lengths(SegmentStructure):
    """Tokens of each document, some times."""

    kind: Literal["lengths"] = "lengths"
    times: int = 1

    def build(self, codec, segment, needed):
        built.append((self.kind, segment.path.name))
        return {"lengths": self.times * np.diff(segment.offsets)}

    def read(self, folder: Path, codec, segment):
        file = folder / "lengths.npy"
        lengths = open_array(file, np.dtype(np.int64), (len(segment),))
        check_range(file, 1000)
        return {"lengths": lengths}

    def open(self, codec, segments, arrays):
        return np.concatenate([each["lengths"] for each in arrays])


class LaterLengths(Lengths):
    """The same settings, written by later code."""

    version: ClassVar[int] = 2


class Sums(SegmentStructure):
    """Where each document's tokens start in its segment, made of `Lengths`."""

    kind: Literal["sums"] = "sums"

    def needs(self):
        return (Lengths(),)

    def build(self, codec, segment, needed):
        built.append((self.kind, segment.path.name))
        return {"sums": offsets_of(needed[Lengths()]["lengths"])}

    def read(self, folder: Path, codec, segment):
        return {"sums": open_array(folder / "sums.npy", np.dtype(np.int64), (len(segment) + 1,))}

    def open(self, codec, segments, arrays):
        return tuple(each["sums"] for each in arrays)


class Norms(CodecStructure):
    """Lengths of the codec's centroids; nothing in them can be checked."""

    kind: Literal["norms"] = "norms"
    opaque: ClassVar[frozenset[str]] = frozenset({"norms"})

    def build(self, codec):
        built.append((self.kind, "codec"))
        return {"norms": np.linalg.norm(codec.centroids, axis=1)}

    def read(self, folder: Path, codec):
        return {"norms": open_array(folder / "norms.npy", np.dtype(np.float32), (len(codec.centroids),))}

    def open(self, codec, arrays):
        return arrays["norms"]
