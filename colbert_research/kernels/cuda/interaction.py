"""Centroid interaction in bytes, with the bits of the backend `cpu`: its formula and bound are in `cpu/interaction.py`.

The table of bytes is made on the device from the query's scores, without a wait: their range is found there too. Where scores
are infinite or not numbers, results are of no meaning but do no harm.
"""

import numpy as np

from colbert_research.kernels.cuda.arrays import Array, check, common_place, empty, full, type_name
from colbert_research.kernels.cuda.launch import Kernel, device_of, grid_of
from colbert_research.kernels.cuda.tally import Tally
from colbert_research.kernels.cuda.tally import arguments as tallied

IDS = {"uint16": "u16", "int32": "int"}
WARPS = 8
PIECE = 16
_RANGE, _TO_BYTES = Kernel("interaction.cu", "range"), Kernel("interaction.cu", "to_bytes")
KERNELS = (_RANGE, _TO_BYTES, *(Kernel("interaction.cu", f"interact<{kind}>") for kind in IDS.values()))


def centroid_interaction(
    scores: Array,
    ids: Array,
    offsets: Array,
    *,
    kept: Array | None = None,
    only: Array | None = None,
    tally: Tally | None = None,
) -> Array:
    """Approximate scores of documents from their tokens' centroids alone: `(n_documents,)` float32, for one query.

    `scores` `(n_query_tokens, n_centroids)` float32. `ids` `(n_tokens,)` uint16 or int32: each document token's centroid; an id
    that there is not is left out. `offsets` `(n_documents + 1,)` int64; `kept` `(n_centroids,)` bool, whose other centroids are
    left out; `only` `(n,)` int64, positions of the documents to score. A document with no token left scores minus infinity.
    Results are counted in `tally`, of one query, for `tally.best`. Raises TypeError and ValueError, before anything is
    launched. Source: PLAID (Santhanam et al. 2022), sections 4.2 and 4.3.
    """
    place = common_place(scores=scores, ids=ids, offsets=offsets, kept=kept, only=only)
    check(scores, "scores", types=("float32",), ndim=2)
    check(ids, "ids", types=tuple(IDS), ndim=1)
    check(offsets, "offsets", types=("int64",), ndim=1)
    n_tokens, n_centroids = (int(size) for size in scores.shape)
    if len(offsets) == 0:
        raise ValueError("offsets must have one number more than there are documents, at least one; given none")
    if kept is not None:
        check(kept, "kept", types=("bool", "uint8"), ndim=1)
        if len(kept) != n_centroids:
            raise ValueError(f"kept must tell for each of {n_centroids} centroids; given {len(kept)}")
    if only is not None:
        check(only, "only", types=("int64",), ndim=1)
    if n_centroids >= 2**31 or n_tokens >= 2**23:  # so that a sum of bytes fits 31 bits
        raise ValueError(f"too many centroids or query tokens; given scores of shape {tuple(scores.shape)}")
    n = len(offsets) - 1 if only is None else len(only)
    totals = empty((n,), "float32", place)
    if n_tokens == 0:
        totals[...] = 0
        if tally is not None:
            tally.all_are(0.0, n)
    if n_tokens == 0 or n == 0:
        return totals
    device = device_of(place)
    pieces = -(-n_tokens // PIECE)
    table, ends = empty((n_centroids + 1, PIECE * pieces), "uint8", place), full((2,), "int32", place, -(2**31))
    threads, cells = (WARPS * 32,), n_tokens * n_centroids
    device.launch(_RANGE, (grid_of(cells, 1024, device, waves=4),), threads, 0, [scores, np.int64(cells), ends])
    arguments = [scores, np.int64(n_centroids), np.int32(n_tokens), np.int32(pieces), kept, ends, table]
    device.launch(_TO_BYTES, (grid_of((n_centroids + 1) * pieces, 256, device, waves=8),), threads, 0, arguments)
    wide = min(32, 1 << (pieces - 1).bit_length())
    documents = [ids, offsets, np.int64(len(offsets) - 1), np.int64(len(ids)), only, np.int64(n)]
    query = [table, np.int64(n_centroids), np.int32(n_tokens), np.int32(pieces), np.int32(wide), ends]
    kernel = Kernel("interaction.cu", f"interact<{IDS[type_name(ids)]}>")
    device.launch(kernel, (grid_of(n, WARPS, device, waves=32),), threads, 0, [*documents, *query, totals, *tallied(tally)])
    return totals
