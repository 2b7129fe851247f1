"""Folders of fast-plaid and next-plaid, and of PyLate, which puts one into a folder with its identifiers.

Source: lightonai/fast-plaid, `rust/` and `python/fast_plaid/`. `embeddings.npy` and `buffer.npy` are pickles, and are not read:
the same documents lie among the codes.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.index.damage import IndexCorruptedError
from colbert_research.index.importers import identifiers
from colbert_research.index.importers.chunks import live_passages, manifest_of, passage_lengths
from colbert_research.index.importers.foreign import Chunk, Floats, ForeignIndex
from colbert_research.ragged import load_npy

SIGN, INNER = "centroids.npy", "fast_plaid_index"


def open_fast_plaid(folder: Path) -> ForeignIndex:
    """Read what such a folder says; codes are read chunk by chunk later. Raises IndexCorruptedError for damaged files."""
    metadata, n_chunks = manifest_of(folder)
    names = ("centroids", "bucket_cutoffs", "bucket_weights")
    floats = Floats(*(np.array(_array(folder / f"{name}.npy"), np.float32) for name in names))
    chunks = tuple(partial(_chunk, folder, number) for number in range(n_chunks))
    if folder.name == INNER:
        passages = identifiers.pylate(folder.parent)
    else:
        passages = identifiers.fast_plaid(folder, live_passages(folder, n_chunks))
    return ForeignIndex(folder, "fast-plaid", metadata.get("nbits"), floats, chunks, passages)


def _chunk(folder: Path, number: int) -> Chunk:
    codes, residuals = (_array(folder / f"{number}.{name}.npy") for name in ("codes", "residuals"))
    return Chunk(passage_lengths(folder, number), codes, residuals)


def _array(file: Path) -> NDArray[Any]:
    try:
        return load_npy(file, mmap=True)
    except (OSError, ValueError) as error:
        raise IndexCorruptedError(f"{file} is not read: {error}") from error
