"""The float32 vectors that packed residual codes stand for: the operations of `CodedTokens.decode`, in the same order."""

from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.memory import bytes_at, floats_at, ids_at
from colbert_research.kernels.cpu.team import Job, arguments_of, in_team
from colbert_research.kernels.operands import CodedTokens, ResidualTable


@compiled
def _decode(
    low: Any, high: Any, codes: Any, bits: Any, scales: Any, levels: Any, centroids: Any, ids: Any, norms: Any, vectors: Any
) -> None:
    per_byte, mask, dim = 8 // bits, (1 << bits) - 1, len(scales)
    for row in range(low, high):
        d = 0
        for at in range(codes.shape[1]):
            byte = int(codes[row, at])
            for place in range(per_byte):
                if d < dim:
                    vectors[row, d] = scales[d] * levels[(byte >> (8 - bits * (place + 1))) & mask]
                d += 1
        if len(ids):
            centroid = ids[row]
            for d in range(dim):
                vectors[row, d] += centroids[centroid, d]
        if len(norms):
            norm = norms[row]
            for d in range(dim):
                vectors[row, d] *= norm


_arguments = arguments_of(13)


@Job
def _decode_job(low: Any, high: Any, scratch: Any, arguments: Any) -> None:
    codes, n, width, bits, scales, dim, levels, centroids, n_centroids, ids, norms, n_norms, vectors = _arguments(arguments)
    _decode(
        low, high, carray(bytes_at(codes), (n, width)), bits, carray(floats_at(scales), dim),
        carray(floats_at(levels), 1 << bits), carray(floats_at(centroids), (n_centroids, dim)),
        carray(ids_at(ids), n if n_centroids else 0), carray(floats_at(norms), n_norms), carray(floats_at(vectors), (n, dim)),
    )  # fmt: skip


def decode(tokens: CodedTokens) -> NDArray[np.float32]:
    """See `kernels.decode`."""
    table = tokens.table
    if not isinstance(table, ResidualTable):
        return tokens.decode()
    codes, dim = np.ascontiguousarray(tokens.codes, np.uint8), table.dim
    scales, levels = np.ascontiguousarray(table.scales, np.float32), np.ascontiguousarray(table.levels, np.float32)
    centroids = np.ascontiguousarray(np.empty((0, dim)) if table.centroids is None else table.centroids, np.float32)
    ids = np.ascontiguousarray(np.empty(0) if table.centroids is None else tokens.centroid_ids, np.int32)
    norms = np.ascontiguousarray(np.empty(0) if tokens.inverse_norms is None else tokens.inverse_norms, np.float32)
    vectors = np.empty((len(codes), dim), np.float32)
    arguments = (
        codes.ctypes.data, *codes.shape, table.bits, scales.ctypes.data, dim, levels.ctypes.data, centroids.ctypes.data,
        len(centroids), ids.ctypes.data, norms.ctypes.data, len(norms), vectors.ctypes.data,
    )  # fmt: skip
    in_team(_decode_job, np.arange(len(codes) + 1), None, arguments)
    return vectors
