"""What a manifest names, opened: the codec, the segments, and which of their documents are deleted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colbert_research.codecs import Codec, open_codec
from colbert_research.index.contents import Contents
from colbert_research.index.damage import IndexCorruptedError
from colbert_research.index.manifest import check_sizes, check_sums, entries_of, files_of, pipeline_of
from colbert_research.index.segment import opened_segment
from colbert_research.index.tombstones import read_deleted
from colbert_research.settings import ConfigError

Opened = tuple[Mapping[str, Any], Codec, Contents]


def opened(path: Path, manifest: Mapping[str, Any], reuse: Opened | None = None) -> tuple[Codec, Contents]:
    """The codec and the contents of a generation; what an opened one has too is not opened again.

    Raises IndexCorruptedError for files that are not what the manifest says, ConfigError for a codec that this package lacks.
    """
    before, codec, contents = reuse or ({}, None, None)
    known = {_identity(entry) for entry in entries_of(before)} if before else set()
    new = [entry for entry in entries_of(manifest) if _identity(entry) not in known]
    check_sizes(file for entry in new for file in files_of(path / entry["name"], entry))
    for entry in (manifest["codec"], *pipeline_of(manifest)):
        if entry in new:
            check_sums(files_of(path / entry["name"], entry))
    there = {}
    if codec is None or contents is None or manifest["codec"] != before["codec"]:
        codec = _codec(path, manifest)
    else:
        there = {_identity(part): segment for part, segment in zip(before["segments"], contents.segments, strict=True)}
    parts = manifest["segments"]
    try:
        segments = tuple(there.get(_identity(part)) or opened_segment(path, codec, part) for part in parts)
        deleted = tuple(read_deleted(path, part, segment) for part, segment in zip(parts, segments, strict=True))
    except IndexCorruptedError as error:  # of two files that do not fit each other, the damaged one is named
        files = (file for entry in new for file in files_of(path / entry["name"], entry))
        check_sums(file for file in files if str(file[0]) not in str(error))
        raise
    return codec, Contents(segments, deleted, {} if contents is None else contents.made())


def _identity(entry: Mapping[str, Any]) -> tuple[str, str]:
    """What tells the folder of an entry from any other, and from one of the same name with other files."""
    return entry["name"], repr(sorted((name, known["sha256"]) for name, known in entry["files"].items()))


def _codec(path: Path, manifest: Mapping[str, Any]) -> Codec:
    folder = path / manifest["codec"]["name"]
    try:
        codec = open_codec(folder)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"the codec in {folder} cannot be opened: {error}") from error
    if codec.dim != manifest["dim"]:
        raise IndexCorruptedError(f"the codec in {folder} has {codec.dim} dimensions, the manifest says {manifest['dim']}")
    return codec
