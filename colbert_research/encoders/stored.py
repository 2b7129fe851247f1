"""Documents' token vectors on disk, as every stage between encoder and index hands them on.

A folder with `vectors.npy`, `token_ids.npy` and `offsets.npy`; where they were reduced, `projection.npy`, with `mean.npy` if
they were centred, and where they were pooled, what the pooler learnt, `pooler.safetensors`. So an index is built from one
such folder, whatever came before.
"""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from colbert_research.artifacts import save_arrays
from colbert_research.encoders.base import TokenVectors
from colbert_research.encoders.pooling.base import State
from colbert_research.encoders.projection import ARRAYS, Projection
from colbert_research.ragged import Ragged, load_npy, save_npy

POOLER = "pooler.safetensors"
PROJECTION = tuple(f"{name}.npy" for name in ARRAYS)


class StoredVectors(NamedTuple):
    """`tokens`: memory-mapped. `projection`: None without a reducer. `pooler_state`: empty without a pooler."""

    tokens: TokenVectors
    projection: Projection | None
    pooler_state: State


def open_stored(folder: str | Path) -> StoredVectors:
    """Read a folder of token vectors; large arrays are memory-mapped."""
    folder = Path(folder)
    offsets = load_npy(folder / "offsets.npy", mmap=False)
    vectors, token_ids = (load_npy(folder / f"{name}.npy", mmap=True) for name in ("vectors", "token_ids"))
    there = [name for name in ARRAYS if (folder / f"{name}.npy").is_file()]
    projection = Projection.from_arrays({name: load_npy(folder / f"{name}.npy", mmap=False) for name in there})
    state: State = {}
    if (folder / POOLER).is_file():
        from safetensors.numpy import load_file

        state = load_file(folder / POOLER)
    return StoredVectors(TokenVectors(Ragged(vectors, offsets), Ragged(token_ids, offsets)), projection, state)


def save_projection(folder: Path, projection: Projection) -> None:
    for name, array in projection.arrays().items():
        save_npy(folder / f"{name}.npy", array)


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
