"""The derived structures of an open index: found, checked when they are first opened, and built where they are lacking."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from errno import EACCES, EPERM, EROFS
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any

from colbert_research.cache import StageCache
from colbert_research.codecs import Codec
from colbert_research.config import content_hash
from colbert_research.index.damage import REMEDY, IndexCorruptedError
from colbert_research.index.derived import Arrays, DerivedStructure, Part
from colbert_research.index.manifest import File, check_sizes, check_sums, files_of, read_manifest, structures_of
from colbert_research.index.segment import Segment
from colbert_research.index.structure_files import (
    Entry,
    SupersededError,
    add_parts,
    fill,
    present,
    read_outside,
    remedy_of,
    sources_of,
)

logger = logging.getLogger(__name__)
FINISHED = "done.json"
"""Beside an index, in the folder of a finished artifact of the stage cache: its files are vouched for."""


OUTSIDE = "structures"
"""The kind of the artifacts in the cache that are structures of indexes which cannot be written to."""


@dataclass(frozen=True, eq=False)
class _Home:
    """Where the parts of one structure lie, and what is known of them."""

    folder: Path
    entry: Entry
    remedy: str

    def files(self, part: str) -> list[File]:
        return files_of(self.folder / part, self.entry["parts"][part])

    def all_files(self) -> list[File]:
        """Of all parts, less those that were deleted since, to be built again."""
        return [file for part in self.entry["parts"] if (self.folder / part).is_dir() for file in self.files(part)]


class Structures:
    """The structures of the index in `path`, as its `manifest` said when it was opened.

    `outside`: structures that lie in folders of their own, which `fill` filled; they are used instead of those in the index's
    folder, and never built there. What compiled code takes on trust is checked when a structure is opened.
    """

    def __init__(
        self,
        path: Path,
        manifest: Mapping[str, Any],
        codec: Codec,
        segments: Sequence[Segment],
        outside: Mapping[DerivedStructure, Path],
    ) -> None:
        self._path, self._codec, self._segments, self._outside = path, codec, tuple(segments), frozenset(outside)
        self._sources, self._generation, self._root = sources_of(manifest), manifest["generation"], structures_of(manifest)
        self._opened: dict[DerivedStructure, Any] = {}
        self._arrays: dict[tuple[str, str, str], Arrays] = {}
        self._lock = RLock()
        self._homes = {name: self._inside(name, entry) for name, entry in present(path, manifest).items()}
        for structure, folder in outside.items():
            entry = read_outside(folder, structure, self._parts(structure), self._sources)
            self._homes[structure.name] = _Home(folder / structure.name, entry, remedy_of(folder))

    def check_sizes(self) -> None:
        """Raise IndexCorruptedError for a file that is missing or of another size."""
        for home in self._homes.values():
            check_sizes(home.all_files(), remedy=home.remedy)

    def open(self, structure: DerivedStructure) -> Any:
        """What strategies use of a structure; its parts that are lacking are built in the index's folder, or in the cache.

        Raises IndexCorruptedError for damage, OSError where neither can be written to, RuntimeError where the index there is
        another one now, and what building raises.
        """
        if structure not in self._opened:
            with self._lock:
                if structure not in self._opened:
                    parts = self._parts(structure)
                    home = self._home(structure, parts)
                    arrays = [self._read(structure, part, home) for part in parts]
                    self._opened[structure] = structure.whole(self._codec, self._segments, arrays)
        return self._opened[structure]

    def take_over(self, earlier: "Structures") -> None:
        """Read nothing again that an open generation of the same index has read."""
        sources = set(self._sources.values())
        self._arrays |= {key: arrays for key, arrays in earlier._arrays.items() if key[2] in sources}

    def _read(self, structure: DerivedStructure, part: Part, home: _Home) -> Arrays:
        key = structure.name, part.name, self._sources[part.name]
        if key not in self._arrays:
            self._arrays[key] = _read(structure, part, home)
        return self._arrays[key]

    def nbytes(self, structure: DerivedStructure) -> int:
        """Bytes on disk, without those of what it needs. Raises KeyError for a structure that is not built."""
        parts, home = self._parts(structure), self._homes.get(structure.name)
        if home is None or not self._complete(home, parts):
            raise KeyError(f"{structure!r} is not built for {self._path}; index.structure(it) builds it")
        return sum(known["bytes"] for part in parts for _, known in home.files(part.name))

    def verify(self) -> None:
        """Read every file and compare its checksum. Raises IndexCorruptedError."""
        for home in self._homes.values():
            check_sums(home.all_files(), remedy=home.remedy)

    def fill(self, structure: DerivedStructure, folder: Path) -> None:
        """Build a structure in a folder outside the index. Raises ValueError where one that it needs is not there."""
        for need in structure.needs():
            home = self._homes.get(need.name)
            if home is None or not self._complete(home, self._parts(need)):
                raise ValueError(
                    f"{structure!r} is built from {need!r}, which {self._path} lacks; build that first, and open the index "
                    "with structures={it: its folder}"
                )
        fill(folder, structure, self._parts(structure), self._sources, lambda part: self._needed(structure, part))

    def _parts(self, structure: DerivedStructure) -> tuple[Part, ...]:
        return structure.parts(self._codec, self._segments)

    def _inside(self, name: str, entry: Entry) -> _Home:
        folder = self._path / self._root / name
        return _Home(folder, entry, remedy_of(folder))

    def _complete(self, home: _Home, parts: Sequence[Part]) -> bool:
        """Whether all parts are there, and were built from what this index holds."""
        known = home.entry["parts"]
        return all(
            part.name in known and known[part.name]["source"] == self._sources[part.name] and (home.folder / part.name).is_dir()
            for part in parts
        )

    def _home(self, structure: DerivedStructure, parts: Sequence[Part]) -> _Home:
        """Where all parts of a structure lie: known, or built by another process since, or built now."""
        home = self._homes.get(structure.name)
        if structure in self._outside or (home is not None and self._complete(home, parts)):
            return self._homes[structure.name]
        newest = read_manifest(self._path)
        entry = present(self._path, newest).get(structure.name) if structures_of(newest) == self._root else None
        home = None if entry is None else self._inside(structure.name, entry)
        if home is None or not self._complete(home, parts):
            for need in structure.needs():
                self._home(need, self._parts(need))
            home = self._add(structure, parts)
        self._homes[structure.name] = home
        return home

    def _add(self, structure: DerivedStructure, parts: Sequence[Part]) -> _Home:
        """Build a structure in the index's folder; in the cache where that cannot be written to, or is a finished artifact."""
        needed = partial(self._needed, structure)
        if not is_finished(self._path):
            try:
                entry = add_parts(self._path, structure, parts, self._sources, needed, generation=self._generation)
                return self._inside(structure.name, entry)
            except SupersededError as error:
                logger.info("%s; its structure %s is kept in the cache", error, structure.name)
            except OSError as error:
                if error.errno not in (EACCES, EPERM, EROFS):
                    raise
        sources = {part.name: self._sources[part.name] for part in parts}

        def compute(folder: Path) -> Mapping[str, Any]:
            fill(folder, structure, parts, self._sources, needed)
            return {}

        artifact, found = StageCache.default().run(OUTSIDE, content_hash(structure.name, sources), compute)
        if not found:
            logger.info("%s is not written to; its structure %s lies in %s", self._path, structure.name, artifact.path)
        entry = read_outside(artifact.path, structure, parts, self._sources)
        return _Home(artifact.path / structure.name, entry, remedy_of(artifact.path))

    def _needed(self, structure: DerivedStructure, name: str) -> dict[DerivedStructure, Arrays]:
        """The arrays, of the part `name`, of the structures that one is built from."""
        found = {}
        for need in structure.needs():
            (part,) = (part for part in self._parts(need) if part.name == name)
            found[need] = _read(need, part, self._homes[need.name])
        return found


def is_finished(path: Path) -> bool:
    """Whether the index in `path` is in a finished artifact of the stage cache, which nobody changes."""
    return (path.resolve().parent / FINISHED).is_file()


def _read(structure: DerivedStructure, part: Part, home: _Home) -> Arrays:
    """The arrays of a part, after the checks."""
    check_sums([file for file in home.files(part.name) if file[0].stem in structure.opaque], remedy=home.remedy)
    try:
        return part.read(home.folder / part.name)
    except IndexCorruptedError as error:
        raise IndexCorruptedError(f"{str(error).removesuffix(REMEDY)}{home.remedy}") from error
