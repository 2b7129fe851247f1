"""The definition of every kernel: NumPy in float64, one document at a time, written to be read."""

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.operands import ProductTokens, ResidualTokens, decode_product, unpack_bits
from colbert_research.ragged import Ragged


def maxsim(queries: Ragged, documents: Ragged) -> NDArray[np.float32]:
    """See `kernels.maxsim`."""
    scores = np.zeros((len(queries), len(documents)))
    for i, query in enumerate(queries):
        for j, document in enumerate(documents):
            similarities = np.asarray(query, np.float64) @ np.asarray(document, np.float64).T
            scores[i, j] = similarities.max(axis=1, initial=-np.inf).sum()
    return scores.astype(np.float32)


def maxsim_residual(queries: Ragged, tokens: ResidualTokens) -> NDArray[np.float32]:
    """See `kernels.maxsim_residual`."""
    table = tokens.table
    codes = unpack_bits(np.asarray(tokens.residuals), table.bits, table.dim)
    residuals = table.weights.astype(np.float64)[np.arange(table.dim)[None, :], codes]
    vectors = table.centroids.astype(np.float64)[np.asarray(tokens.centroid_ids, np.int64)] + residuals
    vectors *= np.asarray(tokens.inverse_norms, np.float64)[:, None]
    return maxsim(queries, Ragged(vectors, tokens.offsets))


def maxsim_product(queries: Ragged, tokens: ProductTokens) -> NDArray[np.float32]:
    """See `kernels.maxsim_product`."""
    return maxsim(queries, Ragged(decode_product(tokens).astype(np.float64), tokens.offsets))


def centroid_interaction(scores: NDArray[np.float32], tokens: Ragged, kept: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """See `kernels.centroid_interaction`."""
    totals = np.zeros(len(tokens))
    for j, ids in enumerate(tokens):
        ids = np.asarray(ids, np.int64)
        if kept is not None:
            ids = ids[kept[ids]]
        totals[j] = scores[:, ids].astype(np.float64).max(axis=1, initial=-np.inf).sum()
    return totals.astype(np.float32)


def assign(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int32]:
    """See `kernels.assign`."""
    similarities = np.asarray(vectors, np.float64) @ np.asarray(centroids, np.float64).T
    return similarities.argmax(axis=1).astype(np.int32)
