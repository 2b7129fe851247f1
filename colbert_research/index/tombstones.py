"""Deleted documents of segments, which never change themselves: positions in small files of a generation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.artifacts import checksums, sync_tree
from colbert_research.index.damage import REMEDY, IndexCorruptedError, open_rows
from colbert_research.index.manifest import check_sums, files_of
from colbert_research.index.segment import Segment
from colbert_research.ragged import save_npy

Positions = NDArray[np.int64]


def write_deleted(path: Path, folder: str, deleted: Mapping[str, tuple[Segment, Positions]]) -> dict[str, dict[str, Any]]:
    """Write, into a new folder of the index in `path`, the positions of all deleted documents of some segments, by name.

    Returns the entry of each segment in the manifest; the files are on the disk then.
    """
    (path / folder).mkdir()
    for name, (_, positions) in deleted.items():
        save_npy(path / folder / f"{name}.npy", positions.astype(np.int32))
    files = checksums(path / folder)
    sync_tree(path / folder)
    return {
        name: {
            "name": folder,
            "n_documents": len(positions),
            "n_tokens": _tokens(segment, positions),
            "files": {f"{name}.npy": files[f"{name}.npy"]},
        }
        for name, (segment, positions) in deleted.items()
    }


def read_deleted(path: Path, part: Mapping[str, Any], segment: Segment) -> Positions:
    """Ascending positions, within it, of a segment's deleted documents; `part`: its entry in the manifest.

    They decide what is found, so their checksum is compared, and they must be those of so many documents and tokens. Raises
    IndexCorruptedError for any other.
    """
    if "deleted" not in part:
        return np.empty(0, np.int64)
    entry = part["deleted"]
    ((file, known),) = files_of(path / entry["name"], entry)
    check_sums([(file, known)])
    positions = open_rows(file, np.dtype(np.int32)).astype(np.int64)
    inside = len(positions) == 0 or (positions[0] >= 0 and positions[-1] < len(segment) and np.all(np.diff(positions) > 0))
    if not inside or len(positions) != entry["n_documents"] or _tokens(segment, positions) != entry["n_tokens"]:
        raise IndexCorruptedError(f"{file} does not hold deleted documents of {segment.path}; {REMEDY}")
    return positions


def _tokens(segment: Segment, positions: Positions) -> int:
    return int((segment.offsets[positions + 1] - segment.offsets[positions]).sum())
