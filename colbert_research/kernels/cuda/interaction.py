"""Centroid interaction on a device, arrays to arrays: the scores of the backend cpu, bit for bit. See `cpu/interaction.py`.

Centroid ids and offsets stay on the device and are trusted for nothing, as in `codes`.
"""

import numpy as np

from colbert_research.kernels.cuda.arrays import Array, check, common_place, empty, type_name
from colbert_research.kernels.cuda.launch import Kernel, device_of, grid_of

WARPS = 8
THREADS = 256
PIECE = 16

CLEAR, ENDS = Kernel("interaction.cu", "clear_ends"), Kernel("interaction.cu", "find_ends")
BYTES = Kernel("interaction.cu", "scores_to_bytes")
IDS = {"uint16": "u16", "int32": "int"}
KERNELS = (
    CLEAR, ENDS, BYTES,
    *(Kernel("interaction.cu", f"sum_maxima<{kind}, {pieces}>") for kind in IDS.values() for pieces in (1, 2)),
)  # fmt: skip


def centroid_interaction(
    scores: Array, centroid_ids: Array, offsets: Array, *, kept: Array | None = None, only: Array | None = None
) -> Array:
    """Scores of documents from their tokens' centroids alone: `(n_documents,)` float32, of the arguments' framework.

    `scores` `(n_query_tokens, K)` float32, finite; `centroid_ids` `(n,)` uint16 or int32; `offsets` `(n_documents + 1,)` int64;
    `kept` `(K,)` bool; `only` `(n,)` int64: places of the documents to score. Raises TypeError and ValueError.
    """
    place = common_place(scores=scores, centroid_ids=centroid_ids, offsets=offsets, kept=kept, only=only)
    check(scores, "scores", types=("float32",), ndim=2)
    check(centroid_ids, "centroid_ids", types=tuple(IDS), ndim=1)
    check(offsets, "offsets", types=("int64",), ndim=1)
    if len(offsets) == 0:
        raise ValueError("offsets must have one number more than there are documents, at least one; given none")
    n_tokens, n_centroids = (int(n) for n in scores.shape)
    if kept is not None:
        check(kept, "kept", types=("bool",), ndim=1)
        if len(kept) != n_centroids:
            raise ValueError(f"kept must tell for each of the {n_centroids} centroids; given {len(kept)}")
    if only is not None:
        check(only, "only", types=("int64",), ndim=1)
    if n_centroids == 0 and len(centroid_ids):
        raise ValueError(f"{len(centroid_ids)} tokens name centroids and scores are of none")
    n = len(offsets) - 1 if only is None else len(only)
    found = empty((n,), "float32", place)
    if n_tokens == 0 or n == 0 or len(centroid_ids) == 0:
        found[...] = 0 if n_tokens == 0 else -np.inf
        return found
    device, block = device_of(place), (THREADS,)
    pieces = -(-n_tokens // PIECE)
    ends, table = empty((2,), "int32", place), empty((n_centroids, pieces * PIECE), "uint8", place)
    device.launch(CLEAR, (1,), (32,), 0, [ends])
    n_scores = n_tokens * n_centroids
    device.launch(ENDS, (grid_of(n_scores, 8 * THREADS, device, waves=8),), block, 0, [scores, np.int64(n_scores), ends])
    arguments = [scores, np.int32(n_tokens), np.int64(n_centroids), kept, ends, np.int32(pieces * PIECE), table]
    device.launch(BYTES, (grid_of(n_centroids * pieces * 4, THREADS, device, waves=16),), block, 0, arguments)
    kernel = Kernel("interaction.cu", f"sum_maxima<{IDS[type_name(centroid_ids)]}, {min(pieces, 2)}>")
    arguments = [centroid_ids, offsets, np.int64(len(offsets) - 1), np.int64(len(centroid_ids)), only, np.int64(n)]
    arguments += [table, np.int64(n_centroids), np.int32(pieces), np.int32(n_tokens), ends, found]
    device.launch(kernel, (grid_of(n, WARPS, device, waves=16),), block, 0, arguments)
    return found
