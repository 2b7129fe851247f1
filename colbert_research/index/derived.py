"""Structures that strategies need beside the codes: what one of them says. `structures.py` keeps them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from inspect import isabstract
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from colbert_research.codecs import Codec
from colbert_research.config import Config, content_hash
from colbert_research.index.segment import Segment

Arrays = Mapping[str, NDArray[Any]]
"""Named arrays; on disk, each is a file `<name>.npy`."""


class DerivedStructure(Config, ABC):
    """The settings of a structure that is derived from an index, such as a graph over its documents.

    It is built part by part: a `SegmentStructure` from each segment, a `CodecStructure` from the codec alone. The same settings
    and the same segment give the same bytes. `index.structure(it)` opens it, and builds the parts that are not there yet.

    `version` is raised whenever the same settings would build other arrays, so that old ones are no longer found. `opaque`:
    arrays in whose numbers nothing can be checked; their checksums are, when they are opened.
    """

    kind: str
    version: ClassVar[int] = 1
    opaque: ClassVar[frozenset[str]] = frozenset()

    def needs(self) -> tuple["DerivedStructure", ...]:
        """The structures whose arrays `build` is given."""
        return ()

    @property
    def name(self) -> str:
        """Of its folder: the kind, and a hash of settings and version, its own and those of all that it is built from."""
        return f"{self.kind}-{content_hash(self, self.version, [need.name for need in self.needs()])}"

    @abstractmethod
    def parts(self, codec: Codec, segments: Sequence[Segment]) -> tuple["Part", ...]:
        """What is built, kept and checked by itself, in the order in which `whole` wants the arrays."""

    @abstractmethod
    def whole(self, codec: Codec, segments: Sequence[Segment], arrays: Sequence[Arrays]) -> Any:
        """What strategies use, made of the arrays of the parts."""


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a structure. `build` takes the arrays of the structures it needs; `read` the folder with its files."""

    name: str
    build: Callable[[Mapping[DerivedStructure, Arrays]], Arrays]
    read: Callable[[Path], Arrays]


class SegmentStructure(DerivedStructure):
    """Built from each segment by itself, so that an index which gets another segment builds only that part."""

    @abstractmethod
    def build(self, codec: Codec, segment: Segment, needed: Mapping[DerivedStructure, Arrays]) -> Arrays:
        """The arrays of a segment. `needed`: for each structure in `needs`, its arrays of the same segment."""

    @abstractmethod
    def read(self, folder: Path, codec: Codec, segment: Segment) -> Arrays:
        """The arrays in a folder, memory-mapped, after a look at what `open` and compiled code take on trust.

        Raises IndexCorruptedError for shapes, dtypes, offsets or numbers that are not those of such a segment.
        """

    @abstractmethod
    def open(self, codec: Codec, segments: Sequence[Segment], arrays: Sequence[Arrays]) -> Any:
        """What strategies use, made of the arrays of all segments."""

    def parts(self, codec: Codec, segments: Sequence[Segment]) -> tuple[Part, ...]:
        return tuple(
            Part(each.path.name, partial(self.build, codec, each), partial(self.read, codec=codec, segment=each))
            for each in segments
        )

    def whole(self, codec: Codec, segments: Sequence[Segment], arrays: Sequence[Arrays]) -> Any:
        return self.open(codec, segments, arrays)


class CodecStructure(DerivedStructure):
    """Built once from the codec, which all segments of an index share."""

    @abstractmethod
    def build(self, codec: Codec) -> Arrays:
        """The arrays."""

    @abstractmethod
    def read(self, folder: Path, codec: Codec) -> Arrays:
        """The arrays in a folder, as of `SegmentStructure.read`."""

    @abstractmethod
    def open(self, codec: Codec, arrays: Arrays) -> Any:
        """What strategies use, made of the arrays."""

    def parts(self, codec: Codec, segments: Sequence[Segment]) -> tuple[Part, ...]:
        return (Part("codec", lambda _: self.build(codec), partial(self.read, codec=codec)),)

    def whole(self, codec: Codec, segments: Sequence[Segment], arrays: Sequence[Arrays]) -> Any:
        return self.open(codec, arrays[0])


def in_order(structures: Iterable[DerivedStructure]) -> tuple[DerivedStructure, ...]:
    """Some structures and all that they need, each once, none before what it needs."""
    found: dict[DerivedStructure, None] = {}
    for structure in structures:
        for each in (*in_order(structure.needs()), structure):
            found.setdefault(each)
    return tuple(found)


def loaded(name: str, entry: Mapping[str, Any]) -> DerivedStructure | None:
    """The structure that an index names, `{"kind", "settings", "version"}`, if its class is loaded and builds the same.

    No code is imported for it.
    """
    waiting, found = [DerivedStructure], None
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        kind = cls.model_fields.get("kind")
        if kind is not None and kind.default == entry["kind"] and not isabstract(cls):
            with suppress(ValueError, TypeError):
                structure = cls.model_validate({"kind": entry["kind"], **entry["settings"]})
                found = structure if structure.name == name else found
    return found
