"""Structures on disk: their parts, what is written of them beside, and what a build that died left.

A part is a folder `<root>/<structure.name>/<part>` with one `.npy` file an array. In an index's own folder the root is
`structures/` (or `structures-NNNNNN/`, since its codec was fitted anew), and the index's manifest names the files; a folder
outside is filled once, and its `structure.json` does.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from colbert_research.artifacts import atomic_folder, checksums, read_json, write_json
from colbert_research.codecs import Codec
from colbert_research.config import content_hash
from colbert_research.index.damage import IndexCorruptedError, IndexMissingError
from colbert_research.index.derived import Arrays, DerivedStructure, Part, in_order, loaded
from colbert_research.index.generations import lock_file, tidy
from colbert_research.index.manifest import check_sizes, files_of, read_manifest, structures_of, write_manifest, writing
from colbert_research.index.segment import FileSums, Segment
from colbert_research.ragged import save_npy

logger = logging.getLogger("colbert_research")
FILE, FORMAT = "structure.json", "colbert_research structure"

Entry = dict[str, Any]
"""{"kind", "settings", "version", "parts": {name: {"source", "files"}}}; `source`: a hash of what the part was built from."""
Needed = Callable[[str], Mapping[DerivedStructure, Arrays]]
"""For a part's name, the arrays of the structures that it is built from."""


def sources_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """For the codec and each segment, by name: a hash of the checksums of what a part is built from."""
    codec = manifest["codec"]["files"]
    segments = {part["name"]: _source(_sums(codec), _sums(part["files"])) for part in manifest["segments"]}
    return {"codec": content_hash(codec)} | segments


Sums = tuple[tuple[str, int, str], ...]


def _sums(files: Mapping[str, Any]) -> Sums:
    return tuple((name, known["bytes"], known["sha256"]) for name, known in files.items())


@lru_cache(maxsize=2**14)
def _source(codec: Sums, segment: Sums) -> str:
    """`content_hash` of the files of a codec and of a segment, which every generation asks for again."""
    return content_hash(*({name: {"bytes": n, "sha256": sha} for name, n, sha in sums} for sums in (codec, segment)))


def present(path: Path, manifest: Mapping[str, Any]) -> dict[str, Entry]:
    """The structures, by name, that the manifest of the index in `path` names.

    Without parts that belong to none of its segments, and without those whose folder somebody deleted, to have it built again.
    """
    sources, root, found = sources_of(manifest), path / structures_of(manifest), {}
    for name, entry in manifest.get("structures", {}).items():
        parts = {
            part: known
            for part, known in entry["parts"].items()
            if sources.get(part) == known["source"] and (root / name / part).is_dir()
        }
        if parts:
            found[name] = {**entry, "parts": parts}
    return found


class SupersededError(RuntimeError):
    """The newest generation of an index lacks what a structure is to be built from."""


def add_parts(
    path: Path,
    structure: DerivedStructure,
    parts: Sequence[Part],
    sources: Mapping[str, str],
    needed: Needed,
    *,
    generation: int,
) -> Entry:
    """Build the parts that the index in `path` lacks, under its lock; the manifest names each as soon as it is in place.

    What a build that died left is deleted, and structures of the same settings by older code. `sources`, `generation`: of the
    index as it was opened. Raises SupersededError where the newest generation lacks some of these, RuntimeError if it is
    another index now.
    """
    with writing(path):
        manifest = read_manifest(path)
        if not sources.items() <= sources_of(manifest).items():
            if _has(path, generation, sources):
                raise SupersededError(f"generation {generation} of {path} was superseded")
            raise RuntimeError(f"the index in {path} was changed after it was opened; open it again")
        known = {name: entry for name, entry in present(path, manifest).items() if not _superseded(name, entry, structure)}
        if known != manifest.get("structures", {}):
            _commit(path, manifest, known)
        _remove_leftovers(path)
        entry = known.setdefault(structure.name, _new_entry(structure))
        folder = path / structures_of(manifest) / structure.name
        for name, part in _lacking(entry, parts, sources, folder, needed):
            entry["parts"][name] = part
            _commit(path, manifest, known)
    return entry


def extended(path: Path, manifest: Mapping[str, Any], codec: Codec, segments: Sequence[Segment]) -> dict[str, Entry]:
    """The structures that `manifest` names, with their parts of some new `segments`, which are built and put in place.

    Those whose class is not loaded, or that cannot be built, keep the parts they have; what they lack is built when it is asked
    for.
    """
    sources, root = sources_of(manifest), path / structures_of(manifest)
    entries = {
        name: {
            **entry,
            "parts": {part: known for part, known in entry["parts"].items() if sources.get(part) == known["source"]},
        }
        for name, entry in manifest.get("structures", {}).items()
    }
    for structure in in_order(each for name, entry in entries.items() if (each := loaded(name, entry)) is not None):
        parts = structure.parts(codec, segments)

        def needed(name: str, structure: DerivedStructure = structure) -> Mapping[DerivedStructure, Arrays]:
            found = {}
            for need in structure.needs():
                (part,) = (part for part in need.parts(codec, segments) if part.name == name)
                found[need] = part.read(root / need.name / name)
            return found

        entry = entries.setdefault(structure.name, _new_entry(structure))
        try:
            entry["parts"].update([*_lacking(entry, parts, sources, root / structure.name, needed)])
        except (ValueError, ImportError, FileNotFoundError) as error:
            logger.info("%r is not built for the new documents now, but when it is asked for: %s", structure, error)
    return entries


def _has(path: Path, generation: int, sources: Mapping[str, str]) -> bool:
    """Whether the index in `path` still has this generation, with these sources."""
    try:
        return sources.items() <= sources_of(read_manifest(path, generation)).items()
    except IndexMissingError:
        return False


def fill(folder: Path, structure: DerivedStructure, parts: Sequence[Part], sources: Mapping[str, str], needed: Needed) -> None:
    """Build all parts in a folder outside the index; nothing is done where they lie there already."""
    if (folder / FILE).exists():
        read_outside(folder, structure, parts, sources)
        return
    shutil.rmtree(folder / structure.name, ignore_errors=True)  # of a build that died
    _remove_unfinished(folder, FILE)
    entry = _new_entry(structure)
    entry["parts"] = dict(_lacking(entry, parts, sources, folder / structure.name, needed))
    write_json(folder / FILE, {"format": FORMAT, "name": structure.name, **entry})


def read_outside(folder: Path, structure: DerivedStructure, parts: Sequence[Part], sources: Mapping[str, str]) -> Entry:
    """What a folder that `fill` filled says of its parts. Raises IndexMissingError for a folder without any.

    Raises IndexCorruptedError for files of another size, and for another structure or one of another index.
    """
    file = folder / FILE
    if not file.is_file():
        raise IndexMissingError(f"no finished structure in {folder}: it has no {FILE}; fill it with build_structure")
    try:
        entry: Entry = read_json(file)
        name, found = entry["name"], {part: known["source"] for part, known in entry["parts"].items()}
        files = [each for part, known in entry["parts"].items() for each in files_of(folder / name / part, known)]
        if entry["format"] != FORMAT:
            raise ValueError(f"its format is {entry['format']!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise IndexCorruptedError(f"{file} does not describe a {FORMAT}: {error}") from error
    if name != structure.name:
        given = f"{entry['kind']} {entry['settings']} of version {entry['version']}"
        raise IndexCorruptedError(f"{folder} holds {given}, and {structure!r} of version {structure.version} is asked for")
    strange = [part.name for part in parts if found.get(part.name) != sources[part.name]]
    if strange:
        raise IndexCorruptedError(f"{folder} was built from another index: its parts {strange} are not of this one's segments")
    check_sizes(files, remedy=remedy_of(folder))
    return entry


def remedy_of(folder: Path) -> str:
    """What to do about damage in a structure's folder."""
    return f"delete the folder {folder}, and have it built again"


def _new_entry(structure: DerivedStructure) -> Entry:
    settings = structure.model_dump(mode="json")
    return {"kind": settings.pop("kind"), "settings": settings, "version": structure.version, "parts": {}}


def _lacking(
    entry: Entry, parts: Sequence[Part], sources: Mapping[str, str], folder: Path, needed: Needed
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and entry of each part that is not known yet, when it is built and in place."""
    for part in parts:
        if part.name not in entry["parts"]:
            files = _write(folder / part.name, part.build(needed(part.name)))
            yield part.name, {"source": sources[part.name], "files": files}


def _write(folder: Path, arrays: Arrays) -> FileSums:
    with atomic_folder(folder) as unfinished:
        for name, array in arrays.items():
            save_npy(unfinished / f"{name}.npy", array)
        return checksums(unfinished)


def _superseded(name: str, entry: Entry, structure: DerivedStructure) -> bool:
    """Whether an entry is of the same kind and settings, but by older code of it or of what it needs."""
    wanted = _new_entry(structure)
    same = (entry["kind"], entry["settings"]) == (wanted["kind"], wanted["settings"])
    return bool(same and name != structure.name and entry["version"] <= structure.version)


def _commit(path: Path, manifest: Mapping[str, Any], structures: Mapping[str, Entry]) -> None:
    lock_file(path, manifest["generation"]).touch()  # which an index of an earlier version lacks
    write_manifest(path, {**manifest, "structures": structures})


def _remove_leftovers(path: Path) -> None:
    """Delete what no manifest names: unfinished folders, those of former structures, and unfinished manifests."""
    tidy(path)


def _remove_unfinished(folder: Path, name: str) -> None:
    """Delete what `write_json` leaves of the file `name` when it dies."""
    for file in sorted(folder.glob(f".{name}.*.tmp")):
        file.unlink()
