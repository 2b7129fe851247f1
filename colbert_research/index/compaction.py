"""All segments as few, without deleted documents; and everything once more, with a codec that is fitted anew."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.artifacts import checksums, sync_tree
from colbert_research.codecs import Codec, save_codec
from colbert_research.config import Config
from colbert_research.index.contents import Contents
from colbert_research.index.drift import of_build, total
from colbert_research.index.segment import write_segment
from colbert_research.index.updates import Manifest, following
from colbert_research.index.writing import (
    BuildConfig,
    Entry,
    Source,
    entry_of,
    fitted_codec,
    next_number,
    segment_name,
    write_segments,
)
from colbert_research.ragged import NpyWriter, Ragged, load_npy, offsets_of


class CompactionPolicy(Config):
    """When a change of an index is followed by a compaction: with more segments, or a larger share of deleted documents."""

    max_segments: int | None = Field(None, ge=1)
    max_deleted_share: float | None = Field(None, ge=0, lt=1)

    def asks(self, *, segments: int, deleted: int, documents: int) -> bool:
        """Whether an index with so many segments, and so many of its documents deleted, is to be compacted."""
        many = self.max_segments is not None and segments > self.max_segments
        return many or (self.max_deleted_share is not None and deleted > self.max_deleted_share * documents)


def compacted(path: Path, manifest: Manifest, codec: Codec, contents: Contents, build: BuildConfig) -> dict[str, Any] | None:
    """The next manifest with the same codes of live documents in few new segments; None where they are so already.

    Memory: as of a build.
    """
    positions, offsets = _live(contents)
    pieces = list(_pieces(offsets, build.segment_tokens))
    if not len(contents.dead) and len(pieces) == len(contents.segments):
        return None
    entries: list[Entry] = []
    for number, (low, high) in enumerate(pieces, start=next_number(path)):
        name, inside, own = segment_name(number), positions[low:high], offsets[low : high + 1] - offsets[low]
        codes = (contents.codes_of(codec, inside[first:last])[0] for first, last in _pieces(own, build.chunk_tokens))
        files = write_segment(path / name, contents.each_document_at(inside), own, codes, codec)
        entries.append(entry_of(name, len(inside), int(own[-1]), files))
    errors = [part["errors"] for part in manifest["segments"] if "errors" in part]
    before = {"added_before": total(errors, manifest.get("added_before"))}
    return following(path, {**manifest, **before}, codec, entries, entries)


def rebuilt(
    path: Path,
    manifest: Manifest,
    contents: Contents,
    before: Codec,
    codec: Any,
    vectors: Ragged | None,
    token_ids: NDArray[np.int32] | None,
    seed: int,
    build: BuildConfig,
) -> dict[str, Any]:
    """The next manifest with the live documents encoded by a codec that is fitted on their `vectors`, or on decoded ones."""
    generation = manifest["generation"] + 1
    positions, offsets = _live(contents)
    scratch = path / f".vectors.{generation:08x}.tmp"
    if vectors is None:
        vectors = Ragged(_decoded(scratch, before, contents, positions, offsets, build), offsets)
    ids = contents.document_ids
    fitted = fitted_codec(vectors, codec, ids, seed=seed, token_ids=token_ids)
    name = f"codec-{generation:06d}"
    save_codec(fitted, path / name)
    sync_tree(path / name)
    source = Source(ids, lambda low, high: contents.each_document_at(positions[low:high]))
    written = write_segments(path, source, vectors, fitted, build, first=next_number(path))
    entries = [entry for entry, _ in written]
    renewed = {
        **{key: value for key, value in manifest.items() if key != "added_before"},
        "dim": fitted.dim,
        "codec": {"name": name, "files": checksums(path / name)},
        "errors": of_build(errors for _, errors in written),
        "structures_folder": f"structures-{generation:06d}",
        "structures": {structure: {**entry, "parts": {}} for structure, entry in manifest.get("structures", {}).items()},
    }
    scratch.unlink(missing_ok=True)
    return following(path, renewed, fitted, entries, entries)


def _live(contents: Contents) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of live documents, and the offsets that their tokens have one after another."""
    positions = contents.scope.positions
    return positions, offsets_of(contents.lengths_at(positions))


def _pieces(offsets: NDArray[np.int64], tokens: int) -> list[tuple[int, int]]:
    """`(first, last)` documents of pieces of at most so many tokens, as `Ragged.chunks` cuts them."""
    rows = Ragged(np.broadcast_to(np.int8(0), (int(offsets[-1]),)), offsets)
    return [(start, start + len(piece)) for start, piece in rows.chunks(tokens)]


def _decoded(
    file: Path, codec: Codec, contents: Contents, positions: NDArray[np.int64], offsets: NDArray[np.int64], build: BuildConfig
) -> NDArray[np.float32]:
    """The vectors that the codes of documents stand for, written to a file and memory-mapped."""
    with NpyWriter(file, np.float32, (codec.dim,)) as writer:
        for low, high in _pieces(offsets, build.chunk_tokens):
            writer.append(codec.decode(contents.codes_of(codec, positions[low:high])[0]))
    return load_npy(file, mmap=True)
