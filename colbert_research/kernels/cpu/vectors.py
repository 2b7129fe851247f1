"""The float32 vectors that packed residual codes stand for: the operations of `CodedTokens.decode`, in the same order."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.parallel import in_parallel
from colbert_research.kernels.operands import CodedTokens, ResidualTable


@compiled
def _decode(
    codes: Any, bits: Any, scales: Any, levels: Any, centroids: Any, ids: Any, norms: Any, low: Any, high: Any, vectors: Any
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


def decode(tokens: CodedTokens) -> NDArray[np.float32]:
    """See `kernels.decode`."""
    table = tokens.table
    if not isinstance(table, ResidualTable):
        return tokens.decode()
    codes = np.ascontiguousarray(tokens.codes, np.uint8)
    none = np.empty((0, table.dim), np.float32), np.empty(0, np.uint16), np.empty(0, np.float32)
    centroids = none[0] if table.centroids is None else np.ascontiguousarray(table.centroids, np.float32)
    ids = none[1] if table.centroids is None else np.ascontiguousarray(tokens.centroid_ids)
    norms = none[2] if tokens.inverse_norms is None else np.asarray(tokens.inverse_norms).astype(np.float32)
    vectors = np.empty((len(codes), table.dim), np.float32)

    def part(low: int, high: int) -> None:
        _decode(codes, table.bits, table.scales, table.levels, centroids, ids, norms, low, high, vectors)

    in_parallel(part, np.arange(len(codes) + 1))
    return vectors
