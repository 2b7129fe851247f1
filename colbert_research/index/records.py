"""Records of bytes in compressed blocks, so that a few of millions are read in microseconds each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from colbert_research.index.damage import REMEDY, IndexCorruptedError, open_rows
from colbert_research.ragged import MAPPED_BYTES, save_npy

BLOCK_BYTES = 2**13  # of records, before they are compressed: smaller ones compress worse, larger ones read slower


class RecordWriter:
    """Appends records, none of which may hold a line feed, to `<name>.bin`; `close` writes where they lie, `<name>_blocks.npy`.

    A block, of lines compressed with Zstandard, is closed when it holds 8 KiB; only the open one is held in memory, and 24
    bytes for each of the others.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._index, self._codec = folder / f"{name}_blocks.npy", _zstandard()
        self._file: BinaryIO = open(folder / f"{name}.bin", "wb")  # noqa: SIM115 (closed by close)
        self._blocks, self._lines, self._held, self._n = [(0, 0, 0)], list[bytes](), 0, 0

    def append(self, record: bytes) -> None:
        self._lines.append(record)
        self._n, self._held = self._n + 1, self._held + len(record) + 1
        if self._held >= BLOCK_BYTES:
            self._close_block()

    def close(self) -> None:
        try:
            if self._lines:
                self._close_block()
        finally:
            self._file.close()
        save_npy(self._index, np.array(self._blocks, np.int64))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close() if error[0] is None else self._file.close()

    def _close_block(self) -> None:
        lines = b"\n".join(self._lines)
        written = self._file.write(self._codec.compress(lines, asbytes=True))
        _, size, uncompressed = self._blocks[-1]
        self._blocks.append((self._n, size + written, uncompressed + len(lines)))
        self._lines, self._held = [], 0


@dataclass(frozen=True, eq=False)
class Records:
    """Open records. `blocks` `(n_blocks + 1, 3)` int64: a block's first record, its first byte in the file, and the number of
    bytes before it as they are when they are not compressed. `data`: the file's bytes, memory-mapped."""

    path: Path
    blocks: NDArray[np.int64]
    data: NDArray[np.uint8]

    @classmethod
    def open(cls, folder: Path, name: str, n: int) -> "Records":
        """The `n` records that a `RecordWriter` wrote. Raises IndexCorruptedError for blocks that are not those of so many."""
        path, file = folder / f"{name}.bin", folder / f"{name}_blocks.npy"
        blocks = open_rows(file, np.dtype(np.int64), (3,))
        size = path.stat().st_size
        if not len(blocks) or blocks[0].any() or np.any(np.diff(blocks, axis=0) < 0) or (*blocks[-1, :2],) != (n, size):
            raise IndexCorruptedError(f"the blocks in {file} do not rise from 0 to {n} records and {size} bytes; {REMEDY}")
        if size < MAPPED_BYTES:
            return cls(path, blocks, np.fromfile(path, np.uint8))
        return cls(path, blocks, np.asarray(np.memmap(path, np.uint8, "r")))

    def read(self, positions: Sequence[int] | NDArray[np.int64]) -> list[bytes]:
        """The records at some positions, in that order; a block is read once."""
        chosen = np.asarray(positions, np.int64)
        block_of = np.searchsorted(self.blocks[:, 0], chosen, side="right") - 1
        opened = {block: self._lines(block) for block in set(block_of.tolist())}
        within = chosen - self.blocks[block_of, 0]
        return [opened[block][place] for block, place in zip(block_of.tolist(), within.tolist(), strict=True)]

    def read_all(self) -> list[bytes]:
        """All records, in order."""
        return [line for block in range(len(self.blocks) - 1) for line in self._lines(block)]

    def _lines(self, block: int) -> list[bytes]:
        (first, low, start), (end, high, stop) = self.blocks[block : block + 2].tolist()
        try:
            lines: list[bytes] = _zstandard().decompress(self.data[low:high].tobytes(), stop - start, asbytes=True).split(b"\n")
        except (OSError, MemoryError, ValueError) as error:
            raise IndexCorruptedError(f"block {block} of {self.path} cannot be decompressed: {error}; {REMEDY}") from error
        if len(lines) != end - first:
            raise IndexCorruptedError(f"block {block} of {self.path} holds {len(lines)} records, not {end - first}; {REMEDY}")
        return lines


def _zstandard() -> Any:
    import pyarrow as pa

    return pa.Codec("zstd")
