"""The manifest of a generation of an index: what it names, and whether the files are what it says.

Version 1 knows no structures, version 2 no deleted documents and one generation. Both are read, and written as version 3.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from colbert_research.artifacts import json_text, sha256_file, write_json
from colbert_research.config import content_hash
from colbert_research.index.damage import REMEDY, IndexCorruptedError, IndexMissingError
from colbert_research.locks import locked

FORMAT, VERSION, MANIFEST = "colbert_research index", 3, "manifest.json"
CHECKED = 3  # from this version on a manifest without `check` is a damaged one
KEYS = {"version", "generation", "dim", "n_documents", "n_tokens", "codec", "segments"}

File = tuple[Path, Mapping[str, Any]]
"""A file and what is known of it: {"bytes": int, "sha256": hex}."""


def manifest_file(path: Path, generation: int) -> Path:
    """Where the manifest of a generation other than the newest lies."""
    return path / f"manifest-{generation:06d}.json"


def older_generations(path: Path) -> list[int]:
    """Ascending numbers of the generations whose manifests lie beside the newest one."""
    found = (re.fullmatch(r"manifest-(\d{6,})\.json", file.name) for file in path.glob("manifest-*.json"))
    return sorted(int(match[1]) for match in found if match)


def read_manifest(path: Path, generation: int | None = None) -> dict[str, Any]:
    """The manifest of a generation, by default the newest, of a version that this package reads.

    Raises IndexMissingError where there is none, IndexCorruptedError for one that does not describe an index.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise IndexMissingError(f"no finished index in {path}: it has no {MANIFEST}; build one with build_index")
    manifest = _parsed(file)
    if generation is None or manifest["generation"] == generation:
        return manifest
    file = manifest_file(path, generation)
    if generation > manifest["generation"] or not file.is_file():
        there = [*(each for each in older_generations(path) if each < manifest["generation"]), manifest["generation"]]
        raise IndexMissingError(f"the index in {path} has no generation {generation}, or has it no longer; it has {there}")
    return _parsed(file)


def _parsed(file: Path) -> dict[str, Any]:
    """The manifest in a file, less its check. It is not to be changed: who reads the same bytes again gets the same object."""
    try:
        return _manifest_of(file.read_bytes())
    except IndexCorruptedError as error:
        raise IndexCorruptedError(f"{file} {error}") from error


@lru_cache(maxsize=8)
def _manifest_of(data: bytes) -> dict[str, Any]:
    """Every change reads its manifests several times, and one of a hundred segments takes tens of milliseconds to check."""
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IndexCorruptedError(f"is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not isinstance(manifest.get("version"), int):
        raise IndexCorruptedError(f"does not describe a {FORMAT}")
    if isinstance(manifest["version"], bool) or manifest["version"] < 1:
        raise IndexCorruptedError(f"has format version {manifest['version']!r}, expected 1 to {VERSION}")
    if manifest["version"] > VERSION:
        raise IndexCorruptedError(
            f"has format version {manifest['version']}, this package reads up to {VERSION}; update colbert_research"
        )
    check = manifest.pop("check", None)
    if check != content_hash(manifest) and (check is not None or manifest["version"] >= CHECKED):
        raise IndexCorruptedError(f"was changed since it was written; {REMEDY}")
    try:
        complete = _complete(manifest)
    except (AttributeError, KeyError, TypeError, ValueError):
        complete = False
    if not complete:
        raise IndexCorruptedError(f"does not describe a {FORMAT}: it lacks entries, or they contradict each other")
    return manifest


def _complete(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest has all entries, they agree with each other, and no name leads out of the index's folder."""
    entries, structures = entries_of(manifest), manifest.get("structures", {})
    folders = [manifest["codec"], *manifest["segments"], *pipeline_of(manifest)]
    names = [entry["name"] for entry in folders]
    parts = [(name, part) for name, entry in structures.items() for part in entry["parts"]]
    counts = [[part[name] for part in manifest["segments"]] for name in ("n_documents", "n_tokens")]
    deleted = [part for part in manifest["segments"] if "deleted" in part]
    return (
        manifest.keys() >= KEYS
        and len(set(names)) == len(names)
        and _plain(structures_of(manifest))
        and structures_of(manifest) not in names
        and all(_plain(entry["name"]) and _describes_files(entry) for entry in entries)
        and all(_plain(name) and _plain(part) for name, part in parts)
        and all(_describes_files(part) for entry in structures.values() for part in entry["parts"].values())
        and all(_count(manifest[name]) for name in ("generation", "dim", "n_documents", "n_tokens"))
        and all(_count(number) for numbers in counts for number in numbers)
        and [sum(numbers) for numbers in counts] == [manifest["n_documents"], manifest["n_tokens"]]
        and all(
            _count(part["deleted"][name]) and part["deleted"][name] <= part[name]
            for part in deleted
            for name in ("n_documents", "n_tokens")
        )
    )


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Put a manifest in place as the newest by one rename; `check` is the hash of all the rest."""
    manifest = {**manifest, "version": VERSION}
    write_json(path / MANIFEST, {**manifest, "check": content_hash(manifest)})


def check_text(file: Path) -> None:
    """Raise IndexCorruptedError for a manifest with another byte than was written."""
    manifest = _parsed(file)
    if (
        manifest["version"] >= CHECKED
        and file.read_bytes() != json_text({**manifest, "check": content_hash(manifest)}).encode()
    ):
        raise IndexCorruptedError(f"{file} was changed since it was written; {REMEDY}")


def entries_of(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries that name files of an index, but for those of its structures."""
    deleted = [part["deleted"] for part in manifest["segments"] if "deleted" in part]
    return [manifest["codec"], *manifest["segments"], *pipeline_of(manifest), *deleted]


def pipeline_of(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entry of the text pipeline, where there is one."""
    return [manifest["pipeline"]] if "pipeline" in manifest else []


def structures_of(manifest: Mapping[str, Any]) -> str:
    """The folder, in that of the index, with the structures of this generation: another one since a `rebuild`."""
    return str(manifest.get("structures_folder", "structures"))


def _describes_files(entry: Mapping[str, Any]) -> bool:
    return all(
        _plain(name) and _count(known["bytes"]) and isinstance(known["sha256"], str) for name, known in entry["files"].items()
    )


def _plain(name: Any) -> bool:
    """Whether a name is one of something inside a folder."""
    return isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) is not None


def _count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def files_of(folder: Path, entry: Mapping[str, Any]) -> list[File]:
    """The files in a folder, as an entry of a manifest names them."""
    return [(folder / name, known) for name, known in entry["files"].items()]


def files_of_generation(path: Path, manifest: Mapping[str, Any]) -> list[File]:
    """The files of codec, segments, pipeline and deleted documents, and what the manifest says of each."""
    return [file for entry in entries_of(manifest) for file in files_of(path / entry["name"], entry)]


def check_sizes(files: Iterable[File], *, remedy: str = REMEDY) -> None:
    """Raise IndexCorruptedError, which ends in the `remedy`, for a file that is missing or has another size."""
    for file, known in files:
        size = file.stat().st_size if file.is_file() else None
        if size != known["bytes"]:
            given = "is missing" if size is None else f"has {size} bytes"
            raise IndexCorruptedError(f"{file} {given}, the manifest says {known['bytes']} bytes; {remedy}")


def check_sums(files: Iterable[File], *, remedy: str = REMEDY) -> None:
    """Read files whole, and raise IndexCorruptedError, which ends in the `remedy`, for one with another checksum."""
    for file, known in files:
        if not file.is_file() or sha256_file(file) != known["sha256"]:
            raise IndexCorruptedError(f"{file} is not what the manifest says (SHA-256 differs); {remedy}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the lock of the index in `path`, a file beside its folder, while the block runs; other writers wait."""
    path = path.resolve()
    with locked(path.parent / f".{path.name}.lock", f"write the index {path}"):
        yield
