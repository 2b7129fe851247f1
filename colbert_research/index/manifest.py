"""The manifest of an index: what it names, and whether the files are what it says."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from colbert_research.artifacts import read_json, sha256_file, write_json
from colbert_research.config import content_hash
from colbert_research.index.damage import REMEDY, IndexCorruptedError, IndexMissingError
from colbert_research.locks import locked

FORMAT, VERSION, MANIFEST = "colbert_research index", 2, "manifest.json"
KEYS = {"version", "generation", "dim", "n_documents", "n_tokens", "codec", "segments"}

File = tuple[Path, Mapping[str, Any]]
"""A file and what is known of it: {"bytes": int, "sha256": hex}."""


def read_manifest(path: Path) -> Mapping[str, Any]:
    """The manifest in an index's folder, of a version that this package reads (version 1 knows no structures)."""
    file = path / MANIFEST
    if not file.is_file():
        raise IndexMissingError(f"no finished index in {path}: it has no {MANIFEST}; build one with build_index")
    try:
        manifest = read_json(file)
    except ValueError as error:
        raise IndexCorruptedError(f"{file} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not isinstance(manifest.get("version"), int):
        raise IndexCorruptedError(f"{file} does not describe a {FORMAT}")
    if manifest["version"] > VERSION:
        raise IndexCorruptedError(
            f"{path} has format version {manifest['version']}, this package reads up to {VERSION}; update colbert_research"
        )
    if (check := manifest.pop("check", None)) is not None and check != content_hash(manifest):
        raise IndexCorruptedError(f"{file} was changed since it was written; {REMEDY}")
    try:
        counted = [sum(part[name] for part in manifest["segments"]) for name in ("n_documents", "n_tokens")]
        entries = [manifest["codec"], *manifest["segments"]]
        entries += [manifest["pipeline"]] if "pipeline" in manifest else []
        names = [entry["name"] for entry in entries]
        named = len(set(names)) == len(names) and all(map(_plain, names))
        for structure in manifest.get("structures", {}).values():
            entries += structure["parts"].values()
        complete = named and manifest.keys() >= KEYS and all(_describes_files(entry) for entry in entries)
    except (AttributeError, KeyError, TypeError, ValueError):
        complete, counted = False, []
    if not complete or counted != [manifest["n_documents"], manifest["n_tokens"]]:
        raise IndexCorruptedError(f"{file} does not describe a {FORMAT}: it lacks entries, or they contradict each other")
    return manifest


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Put a manifest in place by one rename; `check` is the hash of all the rest."""
    write_json(path / MANIFEST, {**manifest, "check": content_hash(dict(manifest))})


def _describes_files(entry: Mapping[str, Any]) -> bool:
    return all(_plain(name) and known.keys() >= {"bytes", "sha256"} for name, known in entry["files"].items())


def _plain(name: Any) -> bool:
    """Whether a name is one of something inside a folder."""
    return isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) is not None


def files_of(folder: Path, entry: Mapping[str, Any]) -> list[File]:
    """The files in a folder, as an entry of a manifest names them."""
    return [(folder / name, known) for name, known in entry["files"].items()]


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
