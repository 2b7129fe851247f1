"""What can be wrong with an index on disk, and how it is noticed before compiled code reads past an array."""

from errno import EMFILE, ENFILE
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.ragged import load_npy

PIECE = 2**20  # numbers that are looked at together
REMEDY = "restore it or build again"  # how messages about damage end


class IndexMissingError(FileNotFoundError):
    """There is no finished index in the folder."""


class IndexCorruptedError(ValueError):
    """A file of the index is not what its manifest says."""


def open_array(file: Path, dtype: np.dtype[Any], shape: tuple[int, ...], *, mmap: bool = True) -> NDArray[Any]:
    """The array in a file; raises IndexCorruptedError for one of another dtype or shape."""
    return _checked(file, _mapped(file), dtype, shape, mmap)


def _checked(file: Path, array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...], mmap: bool) -> NDArray[Any]:
    if (array.dtype, array.shape) != (dtype, shape) or not array.flags.c_contiguous:
        order = "" if array.flags.c_contiguous else ", column after column"
        raise IndexCorruptedError(
            f"{file} holds {array.dtype} of shape {array.shape}{order}, and the index and its codec say {dtype} of "
            f"{shape}; {REMEDY}"
        )
    return array if mmap else np.array(array)


def open_rows(file: Path, dtype: np.dtype[Any], trailing: tuple[int, ...] = (), *, mmap: bool = False) -> NDArray[Any]:
    """The array `(n, *trailing)` in a file, whatever n is; raises IndexCorruptedError for any other."""
    array = _mapped(file)
    return _checked(file, array, dtype, (*array.shape[:1], *trailing), mmap)


def _mapped(file: Path) -> NDArray[Any]:
    try:
        return load_npy(file, mmap=True)
    except (FileNotFoundError, IsADirectoryError, ValueError) as error:
        raise IndexCorruptedError(f"{error}; {REMEDY}") from error
    except OSError as error:
        check_descriptors(error, file)
        raise


def open_offsets(file: Path, n_items: int, n_rows: int | None = None) -> NDArray[np.int64]:
    """Offsets of `n_items` in a file, which rise from 0 to `n_rows`, when that is known."""
    offsets = open_array(file, np.dtype(np.int64), (n_items + 1,), mmap=False)
    if offsets[0] != 0 or np.any(np.diff(offsets) < 0) or n_rows not in (None, offsets[-1]):
        to = "" if n_rows is None else f" to {n_rows}"
        raise IndexCorruptedError(f"the offsets in {file} do not rise from 0{to}; {REMEDY}")
    return offsets


def check_range(file: Path, limit: int, *, lowest: int = 0) -> None:
    """Raise IndexCorruptedError for an `.npy` file with a number below `lowest` or not below `limit`; it is read piecewise."""
    with open(file, "rb") as handle:
        np.lib.format.read_magic(handle)
        _, _, dtype = np.lib.format.read_array_header_1_0(handle)
        if np.iinfo(dtype).min >= lowest and np.iinfo(dtype).max < limit:
            return
        while len(piece := np.fromfile(handle, dtype, PIECE)):
            if piece.min() < lowest or piece.max() >= limit:
                given = f"numbers from {piece.min()} to {piece.max()}"
                raise IndexCorruptedError(f"{file} holds {given}, expected from {lowest} to {limit - 1}; {REMEDY}")


def check_descriptors(error: Exception, file: Path) -> None:
    """Raise OSError that says what to do where too many files are open, of which the file in question is no part."""
    if isinstance(error, OSError) and error.errno in (EMFILE, ENFILE):
        reason = f"{error.strerror}: an index of many segments keeps many open; compact it, or raise the limit (ulimit -n)"
        raise OSError(error.errno, reason, str(file)) from error
