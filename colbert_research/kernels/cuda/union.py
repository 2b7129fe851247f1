"""The documents in any of some inverted lists, on a device: each once, rising. Nothing waits for the device."""

import numpy as np

from colbert_research.kernels.cuda.arrays import Array, check, common_place, empty
from colbert_research.kernels.cuda.launch import Kernel, device_of, grid_of
from colbert_research.kernels.cuda.select import MOST_BLOCKS, clear

THREADS = 256

MARK, COUNT = Kernel("union.cu", "mark_listed"), Kernel("union.cu", "count_marks")
COLLECT = Kernel("union.cu", "collect_marks")
KERNELS = (MARK, COUNT, COLLECT)


def union(documents: Array, offsets: Array, chosen: Array, n_documents: int) -> tuple[Array, Array]:
    """The documents in any of the `chosen` lists: places `(n_documents,)` int64, rising, and how many there are `(1,)` int64.

    `documents` `(n,)` int32, packed by list; `offsets` `(n_lists + 1,)` int64; `chosen` `(n_chosen,)` int64, in any order and
    as often as they come. What stands in `places` after their number is of no use. Raises TypeError and ValueError.
    """
    place = common_place(documents=documents, offsets=offsets, chosen=chosen)
    check(documents, "documents", types=("int32",), ndim=1)
    for name, array in (("offsets", offsets), ("chosen", chosen)):
        check(array, name, types=("int64",), ndim=1)
    if len(offsets) == 0:
        raise ValueError("offsets must have one number more than there are lists, at least one; given none")
    if not 0 <= n_documents < 2**31:
        raise ValueError(f"n_documents must lie between 0 and 2^31 - 1; given {n_documents}")
    places, found = empty((n_documents,), "int64", place), empty((1,), "int64", place)
    device, words, block = device_of(place), max(1, -(-n_documents // 32)), (THREADS,)
    blocks = min(grid_of(words, 4 * THREADS, device, waves=4), MOST_BLOCKS)
    bits, counts = empty((words,), "int32", place), empty((blocks,), "int64", place)
    clear(bits, words, device)
    if len(chosen):
        arguments = [documents, np.int64(len(documents)), offsets, np.int64(len(offsets) - 1), chosen]
        arguments += [np.int64(len(chosen)), np.int64(n_documents), bits]
        device.launch(MARK, (grid_of(len(chosen), 1, device, waves=64),), block, 0, arguments)
    device.launch(COUNT, (blocks,), block, THREADS // 32 * 4, [bits, np.int64(words), counts])
    device.launch(COLLECT, (blocks,), block, THREADS // 32 * 4, [bits, np.int64(words), counts, places, found])
    return places, found
