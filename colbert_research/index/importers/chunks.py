"""What the formats have in common: `metadata.json`, and the lengths of each chunk's passages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.artifacts import read_json
from colbert_research.index.damage import IndexCorruptedError
from colbert_research.ragged import offsets_of


def manifest_of(folder: Path) -> tuple[Mapping[str, Any], int]:
    """`metadata.json` and the number of chunks. Numbers of tokens in it are not believed: updates count some twice."""
    file = folder / "metadata.json"
    metadata = parsed(file)
    n = metadata.get("num_chunks") if isinstance(metadata, dict) else None
    if not isinstance(n, int) or isinstance(n, bool) or n < 1 or not (folder / f"doclens.{n - 1}.json").is_file():
        raise IndexCorruptedError(
            f"{file} says num_chunks={n!r}, and the last of so many lacks its doclens.json; is it finished?"
        )
    return metadata, n


def passage_lengths(folder: Path, chunk: int) -> NDArray[np.int64]:
    """Tokens of each passage of a chunk, 0 for one that was deleted: `(n_passages,)` int64."""
    file = folder / f"doclens.{chunk}.json"
    lengths = parsed(file)
    if not isinstance(lengths, list) or not all(type(each) is int and 0 <= each < 2**31 for each in lengths):
        raise IndexCorruptedError(f"{file}: expected a list of numbers of tokens; given {lengths!r:.60}")
    return np.array(lengths, np.int64)


def live_passages(folder: Path, n_chunks: int) -> list[int]:
    """The numbers, counted through all chunks, of passages that have tokens, ascending."""
    lengths = [passage_lengths(folder, chunk) for chunk in range(n_chunks)]
    starts = offsets_of([len(each) for each in lengths])
    return [int(start + i) for start, each in zip(starts, lengths, strict=False) for i in np.flatnonzero(each)]


def parsed(file: Path) -> Any:
    """The JSON in a file. Raises IndexCorruptedError that names it."""
    try:
        return read_json(file)
    except (OSError, ValueError, RecursionError) as error:
        raise IndexCorruptedError(f"{file} cannot be read: {error}") from error
