"""Structures that a strategy needs beside the codes: built from an index once, kept in its folder, opened when asked for."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.artifacts import atomic_folder, locked
from colbert_research.config import Config, config_id
from colbert_research.index.damage import IndexCorruptedError
from colbert_research.ragged import load_npy

if TYPE_CHECKING:
    from colbert_research.index.index import Index

FOLDER = "auxiliary"


class Auxiliary(Config, ABC):
    """The settings of one such structure, such as a graph over centroids. The same settings and index give the same bytes.

    A subclass has a `kind` and its settings as fields; `index.auxiliary(it)` builds or opens the structure.
    """

    kind: str

    @abstractmethod
    def build(self, index: "Index") -> Mapping[str, NDArray[Any]]:
        """The structure as named arrays."""

    @abstractmethod
    def open(self, index: "Index", arrays: Mapping[str, NDArray[Any]]) -> Any:
        """What strategies use, made of the arrays; they are memory-mapped."""


def open_auxiliary(index: "Index", config: Auxiliary) -> Any:
    """The structure of these settings: read from the index's folder, where it is put by one rename when it is built."""
    folder = auxiliary_folder(index, config)
    if not folder.is_dir():
        with locked(folder.parent / f".{folder.name}.lock"):
            if not folder.is_dir():
                built = config.build(index)
                with atomic_folder(folder) as unfinished:
                    for name, array in built.items():
                        np.save(unfinished / f"{name}.npy", array)
    try:
        arrays = {file.stem: load_npy(file, mmap=True) for file in sorted(folder.glob("*.npy"))}
    except (EOFError, OSError, ValueError) as error:
        raise IndexCorruptedError(f"a file in {folder} is no array: {error}; delete the folder to build it again") from error
    return config.open(index, arrays)


def auxiliary_folder(index: "Index", config: Auxiliary) -> Path:
    """Where the structure lies: it belongs to one generation of the index, and to these settings."""
    return index.path / FOLDER / f"{config.kind}-{index.generation}-{config_id(config)}"
