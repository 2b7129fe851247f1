"""`Ragged`: arrays of many texts packed end to end, with offsets. The only layout of token vectors, codes and token ids."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from colbert_research import threads

PIECE = 8192  # rows that a thread gathers before it widens them


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of many items, packed.

    `values`: `(n_rows, ...)`, any array type that slices (NumPy, torch, CuPy). `offsets`: `(n_items + 1,)` int64 NumPy, from 0
    to `n_rows`, never descending. Item `i` is `values[offsets[i]:offsets[i + 1]]`. There is no padding.
    """

    values: Any
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        offsets = np.asarray(self.offsets, dtype=np.int64)
        object.__setattr__(self, "offsets", offsets)
        rows = len(self.values)
        if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != rows:
            given = f"shape {offsets.shape}" + (f", from {offsets.flat[0]} to {offsets.flat[-1]}" if offsets.size else "")
            raise ValueError(f"offsets must be one row of numbers from 0 to the number of rows, {rows}; given {given}")
        if len(offsets) > 2 and np.any(np.diff(offsets) < 0):  # two that were compared with 0 and the rows cannot fall
            where = int(np.flatnonzero(np.diff(offsets) < 0)[0])
            raise ValueError(f"offsets must not fall; item {where} runs from {offsets[where]} to {offsets[where + 1]}")

    @classmethod
    def from_list(cls, items: Sequence[Any], *, trailing: tuple[int, ...] = (), dtype: DTypeLike | None = None) -> Self:
        """Pack a list of arrays. `trailing` and `dtype` give the shape of an empty list: `(0, *trailing)`."""
        arrays = [np.asarray(item) for item in items]
        values = np.concatenate(arrays) if arrays else np.empty((0, *trailing), dtype or np.float32)
        return cls(values if dtype is None else values.astype(dtype, copy=False), offsets_of([len(a) for a in arrays]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, item: int) -> Any:
        item = range(len(self))[item]
        return self.values[self.offsets[item] : self.offsets[item + 1]]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Ragged({len(self)} items, values {tuple(self.values.shape)} {self.values.dtype})"

    @property
    def lengths(self) -> NDArray[np.int64]:
        """`(n_items,)` int64: rows of each item."""
        return np.diff(self.offsets)

    @property
    def n_rows(self) -> int:
        return int(self.offsets[-1])

    @property
    def dim(self) -> int:
        """Width of a row; 1 for scalars."""
        return int(self.values.shape[1]) if self.values.ndim > 1 else 1

    def slice(self, start: int, stop: int) -> "Ragged":
        """Items `start` to `stop` (exclusive), without a copy."""
        start, stop, _ = slice(start, stop).indices(len(self))
        stop = max(start, stop)
        low, high = self.offsets[start], self.offsets[stop]
        return Ragged(self.values[low:high], self.offsets[start : stop + 1] - low)

    def take(self, items: Any) -> "Ragged":
        """The items at `items` `(n,)`, in that order, copied."""
        items = np.asarray(items, dtype=np.int64)
        if items.size and (items.min() < 0 or items.max() >= len(self)):
            raise IndexError(f"items must lie between 0 and {len(self) - 1}; given {items.min()} to {items.max()}")
        offsets = offsets_of(self.lengths[items])
        return Ragged(self.values[rows_of(self.offsets, items)], offsets)

    def map(self, function: Any) -> "Ragged":
        """The same items with `function` applied to all rows at once; it must keep their number."""
        return Ragged(function(self.values), self.offsets)

    @staticmethod
    def concat(parts: Sequence["Ragged"]) -> "Ragged":
        """All items of `parts` (at least one), in order, copied."""
        if not parts:
            raise ValueError("nothing to concatenate; an empty Ragged needs a known row shape (Ragged.from_list)")
        values = np.concatenate([np.asarray(part.values) for part in parts])
        return Ragged(values, offsets_of(np.concatenate([part.lengths for part in parts])))

    def chunks(self, max_rows: int) -> Iterator[tuple[int, "Ragged"]]:
        """`(first item, slice)` pieces of at most `max_rows` rows; an item longer than that is a piece of its own."""
        start = 0
        while start < len(self):
            stop = int(np.searchsorted(self.offsets, self.offsets[start] + max_rows, side="right")) - 1
            stop = min(max(stop, start + 1), len(self))
            yield start, self.slice(start, stop)
            start = stop

    def save(self, folder: str | Path, name: str = "values") -> None:
        """Write `<name>.npy` and `offsets.npy` into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_npy(folder / f"{name}.npy", np.asarray(self.values))
        save_npy(folder / "offsets.npy", self.offsets)

    @classmethod
    def open(cls, folder: str | Path, name: str = "values", *, mmap: bool = True) -> Self:
        """Read what `save` wrote; memory-mapped unless `mmap=False`."""
        folder = Path(folder)
        return cls(load_npy(folder / f"{name}.npy", mmap=mmap), load_npy(folder / "offsets.npy", mmap=False))


def check_vectors(vectors: Any, what: str) -> None:
    """Raise TypeError or ValueError, naming `what`, unless `vectors` are a `Ragged` of rows `(dim,)` of numbers, dim >= 1."""
    if not isinstance(vectors, Ragged):
        how = "Ragged.from_list makes one of a list of arrays (n_tokens, dim), one for each text"
        raise TypeError(f"{what} must be a Ragged of token vectors; given {type(vectors).__name__}. {how}")
    shape, dtype = tuple(vectors.values.shape), vectors.values.dtype
    if len(vectors) and (len(shape) != 2 or shape[1] == 0):
        raise ValueError(f"{what} must be a Ragged of token vectors (n_tokens, dim), dim at least 1; given shape {shape}")
    if isinstance(dtype, np.dtype) and dtype.kind not in "fiu":
        raise TypeError(f"{what} must hold numbers, such as float32; given {dtype}")


def unfit_row(values: Any, dtype: DTypeLike = np.float32) -> int | None:
    """The first row of `(n, dim)` that is not finite in `dtype`, or too long to be squared in float32; None without any."""
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.asarray(values, dtype).astype(np.float32, copy=False)
        fit = np.isfinite(np.einsum("ij,ij->i", rows, rows))
    return None if fit.all() else int(np.argmin(fit))


def float_rows(values: Any, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
    """Some rows of `(n, dim)` as float32: read, gathered and widened by all threads where they are many."""
    if isinstance(rows, slice):
        values = values[rows]  # without a copy
        return np.asarray(values) if values.dtype == np.float32 else _in_threads(values, slice, len(values))
    chosen = rows
    return _in_threads(values, lambda low, high: chosen[low:high], len(chosen))


def _in_threads(values: Any, rows: Callable[[int, int], Any], n: int) -> NDArray[np.float32]:
    """The rows `rows(0, n)` of `values` as float32."""
    found = np.empty((n, *values.shape[1:]), np.float32)

    def take(low: int) -> None:
        high = min(low + PIECE, n)
        with np.errstate(over="ignore"):  # infinity is what comes of it, and is looked for
            found[low:high] = values[rows(low, high)]

    if n <= PIECE:
        take(0)
    else:
        with ThreadPoolExecutor(threads.count()) as pool:
            list(pool.map(take, range(0, n, PIECE)))
    return found


def sample_rows(vectors: Ragged, size: int, *, seed: int) -> NDArray[np.float32]:
    """A seeded sample of token vectors without replacement, `(size, dim)` float32, in the order of the collection."""
    return float_rows(vectors.values, sampled(vectors.n_rows, size, seed=seed))


def sampled(n: int, size: int, *, seed: int) -> NDArray[np.int64] | slice:
    """Which of `n` rows are the sample: ascending positions, or all of them."""
    if size >= n:
        return slice(None)
    return np.sort(np.random.default_rng(seed).choice(n, size=size, replace=False))


def item_at(offsets: NDArray[np.int64], row: int) -> int:
    """The item that a row belongs to."""
    return int(np.searchsorted(offsets, row, side="right")) - 1


def offsets_of(lengths: Any) -> NDArray[np.int64]:
    """Offsets `(n + 1,)` of items of the given lengths `(n,)`."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(lengths, np.int64), dtype=np.int64)])


def rows_of(offsets: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row numbers of `items`, item after item: `(sum of their lengths,)`."""
    lengths = offsets[items + 1] - offsets[items]
    starts = np.repeat(offsets[items] - offsets_of(lengths)[:-1], lengths)
    return starts + np.arange(len(starts), dtype=np.int64)


def interleaved(parts: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """For lists of the same items in several parts, given as offsets: the offsets when each item's rows of all parts follow one
    another, and for each part where its rows lie then."""
    counts = np.array([np.diff(offsets) for offsets in parts])
    together = offsets_of(counts.sum(axis=0))
    cursor, places = together[:-1].copy(), []
    for offsets, count in zip(parts, counts, strict=True):
        places.append(np.repeat(cursor - offsets[:-1], count) + np.arange(offsets[-1]))
        cursor += count
    return together, places


def item_of_row(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row, the item it belongs to: `(n_rows,)`."""
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))


MAPPED_BYTES = 2**18
"""Files of fewer bytes are read instead of memory-mapped: a map keeps a descriptor of its file, of which a process has few."""


def load_npy(path: str | Path, *, mmap: bool) -> NDArray[Any]:
    """An `.npy` array; memory-mapped when asked and when its file has at least `MAPPED_BYTES`. It is read-only then.

    Raises OSError for a file that cannot be read, ValueError that names one that is no `.npy` file, or a damaged one.
    """
    try:
        mapped = mmap and os.stat(path).st_size >= MAPPED_BYTES
        array = np.load(path, mmap_mode="r" if mapped else None)
        if not isinstance(array, np.ndarray):
            raise ValueError(f"it holds {type(array).__name__}")
    except OSError:
        raise
    except Exception as error:  # of a damaged header, NumPy's parser raises whatever its tokenizer does
        raise ValueError(f"{path} is no .npy file, or a damaged one: {error}") from error
    if mmap and not mapped:
        array.flags.writeable = False
    return array if array.size or not mapped else np.array(array)


def save_npy(path: str | Path, array: NDArray[Any]) -> None:
    """Write an `.npy` file, in C order. Raises OSError where not all of it is written, which `np.save` does not notice."""
    array = np.ascontiguousarray(array)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        if array.size:
            file.write(array.data)


class NpyWriter:
    """Appends rows to an `.npy` file without knowing their number beforehand.

    The header has a fixed room of 128 bytes and is written again by `close`; a file whose writing was cut short can be taken up
    at a known number of rows.
    """

    HEADER = 128

    def __init__(self, path: str | Path, dtype: DTypeLike, trailing: tuple[int, ...] = (), *, rows: int = 0) -> None:
        self.path, self.dtype, self.trailing, self.rows = Path(path), np.dtype(dtype), tuple(trailing), rows
        self.row_bytes = self.dtype.itemsize * int(np.prod(trailing, dtype=np.int64))
        size = self.HEADER + rows * self.row_bytes
        if rows and self.path.stat().st_size < size:
            raise ValueError(f"{self.path} holds fewer than the {rows} rows to resume at; delete its folder and start again")
        self._file: BinaryIO = open(self.path, "r+b" if rows else "w+b")  # noqa: SIM115 (closed by close)
        self._file.truncate(size)
        self._file.seek(size)

    def append(self, rows: NDArray[Any]) -> None:
        """Write rows `(n, *trailing)`; converted to the file's dtype."""
        if rows.shape[1:] != self.trailing:
            raise ValueError(f"{self.path.name} takes rows of shape {self.trailing}; given {rows.shape[1:]}")
        data = np.ascontiguousarray(rows, dtype=self.dtype)
        if data.size:
            self._file.write(data.data)  # `tofile` would lose the end of a file on a full disk without a word
        self.rows += len(rows)

    def sync(self) -> None:
        """Make everything appended so far survive a crash."""
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        try:
            self.sync()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close() if error[0] is None else self._file.close()

    def _write_header(self) -> None:
        end = self._file.seek(0, 2)
        shape: Mapping[str, Any] = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.rows, *self.trailing),
        }
        text = repr(dict(shape)).encode()
        self._file.seek(0)
        room = self.HEADER - 10
        self._file.write(b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.ljust(room - 1) + b"\n")
        self._file.seek(end)


def hash_of_rows(path: str | Path, nbytes: int) -> Any:
    """SHA-256 of the first `nbytes` that an `NpyWriter` wrote behind its header. Raises OSError for a file that is shorter."""
    digest, left = hashlib.sha256(), nbytes
    with open(path, "rb") as file:
        file.seek(NpyWriter.HEADER)
        while left:
            block = file.read(min(left, 1 << 22))
            if not block:
                raise OSError(f"it ends {left} bytes early")
            digest.update(block)
            left -= len(block)
    return digest
