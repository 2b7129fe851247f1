"""The documents in any of some inverted lists: a bit for each document, then the positions of the bits, ascending."""

import numpy as np

from colbert_research.kernels.cuda.arrays import Array, check, common_place, empty, to_numpy
from colbert_research.kernels.cuda.launch import Kernel, device_of, grid_of

THREADS = 256
SCRATCH = 4 * (THREADS // 32 + 2)
_MARK, _COUNT, _GATHER = (Kernel("candidates.cu", name) for name in ("mark", "count_marks", "gather_marks"))
KERNELS = (_MARK, _COUNT, _GATHER)


def union(values: Array, offsets: Array, chosen: Array, n_documents: int, *, most: int | None = None) -> Array:
    """The documents in any of the `chosen` lists, ascending, each once: `(n,)` int64. Waits for the device.

    Arguments as of `union_padded`. Source: PLAID (Santhanam et al. 2022), section 4.1.
    """
    positions, found = union_padded(values, offsets, chosen, n_documents, most=most)
    n = int(to_numpy(found)[0])
    if n > len(positions):
        raise ValueError(f"{n} documents are in the chosen lists and most={most}; give no `most`, or a true one")
    return positions[:n]


def union_padded(
    values: Array, offsets: Array, chosen: Array, n_documents: int, *, most: int | None = None
) -> tuple[Array, Array]:
    """As `union` without a wait: positions, of which the first so many are meant, and `(1,)` int32: how many there are.

    `values` `(n,)` int32: documents, packed by list; those outside 0 to `n_documents` are left out. `offsets` `(n_lists + 1,)`
    and `chosen` `(n_chosen,)` int64; a chosen list that there is not is empty. `most`: how many documents there can be at most,
    such as the sum of the lists' lengths; so much room is taken, or `n_documents`.
    """
    place = common_place(values=values, offsets=offsets, chosen=chosen)
    check(values, "values", types=("int32",), ndim=1)
    check(offsets, "offsets", types=("int64",), ndim=1)
    check(chosen, "chosen", types=("int64",), ndim=1)
    if len(offsets) == 0:
        raise ValueError("offsets must have one number more than there are lists, at least one; given none")
    if not 0 <= n_documents < 2**31:
        raise ValueError(f"n_documents must lie between 0 and 2**31 - 1; given {n_documents}")
    if most is not None and most < 0:
        raise ValueError(f"most must not be negative; given {most}")
    room = n_documents if most is None else min(most, n_documents)
    positions, found = empty((room,), "int64", place), empty((1,), "int32", place)
    found[...] = 0
    n_chosen, words = len(chosen), -(-n_documents // 32)
    if n_chosen == 0 or words == 0:
        return positions, found
    device = device_of(place)
    bits = empty((words,), "int32", place)
    bits[...] = 0
    columns = min(n_chosen, 2**31 - 1)
    shares = max(1, min(8 * device.multiprocessors // columns, 65535))  # few lists are shared by several blocks each
    lists = [values, offsets, np.int64(len(offsets) - 1), np.int64(len(values)), chosen, np.int64(n_chosen)]
    device.launch(_MARK, (columns, shares), (THREADS,), 0, [*lists, np.int64(n_documents), bits])
    blocks = grid_of(words, 4 * THREADS, device, waves=4)
    counts = empty((blocks,), "int32", place)
    row = [bits, np.int64(words), np.int64(-(-words // blocks)), counts]
    device.launch(_COUNT, (blocks,), (THREADS,), SCRATCH, row)
    device.launch(_GATHER, (blocks,), (THREADS,), SCRATCH, [*row, positions, np.int64(room), found])
    return positions, found
