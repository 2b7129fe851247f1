"""Folders of Stanford's ColBERT (0.2), of RAGatouille, which adds texts and identifiers, and of PyLate's copy of it.

Source: stanford-futuredata/ColBERT, `indexing/codecs/residual.py` and `indexing/index_saver.py`.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.index.damage import IndexCorruptedError
from colbert_research.index.importers import identifiers
from colbert_research.index.importers.chunks import live_passages, manifest_of, passage_lengths
from colbert_research.index.importers.foreign import Chunk, Floats, ForeignIndex, Passages

SIGN = "centroids.pt"


def open_stanford(folder: Path) -> ForeignIndex:
    """Read what such a folder says; codes are read chunk by chunk later. Raises IndexCorruptedError for damaged files."""
    metadata, n_chunks = manifest_of(folder)
    config: Mapping[str, Any] = metadata.get("config") or {}
    cutoffs, weights = _tensors(folder / "buckets.pt", 2)
    (centroids,) = _tensors(folder / SIGN, 1)
    floats = Floats(*(np.asarray(each, np.float32) for each in (centroids, cutoffs, weights)))
    chunks = tuple(partial(_chunk, folder, number) for number in range(n_chunks))
    encoder = config.get("checkpoint"), config.get("doc_maxlen")
    return ForeignIndex(
        folder, "Stanford's ColBERT", config.get("nbits"), floats, chunks, _passages(folder, n_chunks), *encoder
    )


def _passages(folder: Path, n_chunks: int) -> Passages:
    live = live_passages(folder, n_chunks)
    if any((folder / name).is_file() for name in identifiers.RAGATOUILLE):
        return identifiers.ragatouille(folder, live)
    if any(folder.glob("*.pkl")):
        return identifiers.pylate(folder)
    return {pid: (str(pid), "", {}) for pid in live}


def _chunk(folder: Path, number: int) -> Chunk:
    (codes,) = _tensors(folder / f"{number}.codes.pt", 1)
    (residuals,) = _tensors(folder / f"{number}.residuals.pt", 1)
    return Chunk(passage_lengths(folder, number), codes, residuals)


def _tensors(file: Path, n: int) -> list[NDArray[Any]]:
    """The tensors in a file of torch, read without running anything that it names."""
    import torch

    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
        tensors = list(loaded) if isinstance(loaded, tuple | list) else [loaded]
        arrays: list[NDArray[Any]] = [tensor.numpy() for tensor in tensors]
    except Exception as error:  # torch raises whatever the bytes of a damaged file lead to
        raise IndexCorruptedError(f"{file} is not read: {error!s:.300}") from error
    if len(arrays) != n:
        raise IndexCorruptedError(f"{file}: expected {n} tensors; given {len(arrays)}")
    return arrays
