"""Documents' token vectors on disk, as every stage between encoder and index hands them on.

A folder with `vectors.npy`, `token_ids.npy` and `offsets.npy`; where they were reduced, `projection.npy`, and where they were
pooled, what the pooler learnt, `pooler.safetensors`. So an index is built from one such folder, whatever came before.
"""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from colbert_research.artifacts import save_arrays
from colbert_research.encoders.base import TokenVectors
from colbert_research.encoders.pooling.base import State
from colbert_research.ragged import Ragged, load_npy

PROJECTION, POOLER = "projection.npy", "pooler.safetensors"


class StoredVectors(NamedTuple):
    """`tokens`: memory-mapped. `projection` `(dim of the encoder, dim)`, or None. `pooler_state`: empty without a pooler."""

    tokens: TokenVectors
    projection: NDArray[np.float32] | None
    pooler_state: State


def open_stored(folder: str | Path) -> StoredVectors:
    """Read a folder of token vectors; large arrays are memory-mapped."""
    folder = Path(folder)
    offsets = load_npy(folder / "offsets.npy", mmap=False)
    vectors, token_ids = (load_npy(folder / f"{name}.npy", mmap=True) for name in ("vectors", "token_ids"))
    projection = load_npy(folder / PROJECTION, mmap=False) if (folder / PROJECTION).is_file() else None
    state: State = {}
    if (folder / POOLER).is_file():
        from safetensors.numpy import load_file

        state = load_file(folder / POOLER)
    return StoredVectors(TokenVectors(Ragged(vectors, offsets), Ragged(token_ids, offsets)), projection, state)


def save_pooler_state(folder: Path, state: State) -> None:
    save_arrays(folder / POOLER, state)


def hand_on(source: Path, folder: Path, *names: str) -> None:
    """Files of one folder in another one, without a copy where the disk can do that; absent ones are left out."""
    for name in names:
        if (source / name).is_file():
            try:
                os.link(source / name, folder / name)
            except OSError:
                shutil.copyfile(source / name, folder / name)
