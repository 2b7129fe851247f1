"""The definition of every kernel: NumPy in float64, one document at a time, written to be read."""

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.operands import CodedTokens, ProductTable, Selection, unpack_bits
from colbert_research.ragged import Ragged, rows_of


def maxsim(queries: Ragged, documents: Ragged, only: Selection = None) -> NDArray[np.float32]:
    """See `kernels.maxsim`."""
    documents = documents if only is None else documents.take(only)
    scores = np.zeros((len(queries), len(documents)))
    for i, query in enumerate(queries):
        for j, document in enumerate(documents):
            similarities = np.asarray(query, np.float64) @ np.asarray(document, np.float64).T
            scores[i, j] = similarities.max(axis=1, initial=-np.inf).sum()
    return scores.astype(np.float32)


def maxsim_codes(queries: Ragged, tokens: CodedTokens, only: Selection = None) -> NDArray[np.float32]:
    """See `kernels.maxsim_codes`."""
    return maxsim(queries, Ragged(_decoded(tokens), tokens.offsets), only)


def token_maxima(
    query: NDArray[np.float32],
    tokens: CodedTokens,
    rows: NDArray[np.int64],
    positions: NDArray[np.int64],
    n_documents: int,
    wanted: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """See `kernels.token_maxima`."""
    scores = _decoded(tokens) @ query.astype(np.float64).T
    maxima = np.full((n_documents, len(query)), -np.inf)
    for row, place in zip(rows, positions, strict=True):
        counted = np.where(wanted[np.asarray(tokens.centroid_ids)[row]], scores[row], -np.inf)
        maxima[place] = np.maximum(maxima[place], counted)
    return maxima.astype(np.float32)


def _decoded(tokens: CodedTokens) -> NDArray[np.float64]:
    vectors = _values(tokens)
    if tokens.table.centroids is not None:
        vectors = vectors + tokens.table.centroids.astype(np.float64)[np.asarray(tokens.centroid_ids, np.int64)]
    if tokens.inverse_norms is not None:
        vectors = vectors * np.asarray(tokens.inverse_norms, np.float64)[:, None]
    return vectors


def _values(tokens: CodedTokens) -> NDArray[np.float64]:
    table, codes = tokens.table, np.asarray(tokens.codes)
    if isinstance(table, ProductTable):
        parts = [words.astype(np.float64)[column] for words, column in zip(table.codewords, codes.T, strict=True)]
        return np.concatenate(parts, axis=1)
    return table.scales.astype(np.float64) * table.levels.astype(np.float64)[unpack_bits(codes, table.bits, table.dim)]


def centroid_interaction(
    scores: NDArray[np.float32], tokens: Ragged, kept: NDArray[np.bool_] | None, only: Selection = None
) -> NDArray[np.float32]:
    """See `kernels.centroid_interaction`."""
    tokens = tokens if only is None else tokens.take(only)
    totals = np.zeros(len(tokens))
    for j, ids in enumerate(tokens):
        ids = np.asarray(ids, np.int64)
        if kept is not None:
            ids = ids[kept[ids]]
        totals[j] = scores[:, ids].astype(np.float64).max(axis=1, initial=-np.inf).sum()
    return totals.astype(np.float32)


def coverage(masks: NDArray[np.uint64], tokens: Ragged, only: Selection = None) -> NDArray[np.int64]:
    """See `kernels.coverage`."""
    tokens = tokens if only is None else tokens.take(only)
    covered = [np.bitwise_or.reduce(masks[np.asarray(ids, np.int64)], axis=0) for ids in tokens]
    return np.array([sum(int(word).bit_count() for word in words) for words in covered], np.int64)


def centroid_maxima(scores: NDArray[np.float32], tokens: Ragged, only: Selection = None) -> NDArray[np.float32]:
    """See `kernels.centroid_maxima`; maxima are exact in any type."""
    tokens = tokens if only is None else tokens.take(only)
    maxima = [scores[:, np.asarray(ids, np.int64)].max(axis=1, initial=-np.inf) for ids in tokens]
    return np.array(maxima, np.float32).reshape(len(tokens), len(scores))


def assign(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int32]:
    """See `kernels.assign`."""
    similarities = np.asarray(vectors, np.float64) @ np.asarray(centroids, np.float64).T
    return similarities.argmax(axis=1).astype(np.int32)


def bucket_numbers(values: NDArray[np.float32], scales: NDArray[np.float32], cutoffs: NDArray[np.float32]) -> NDArray[np.uint8]:
    """See `kernels.bucket_numbers`; the division is in float32, as its result decides."""
    return np.searchsorted(cutoffs, values / scales, side="left").astype(np.uint8)


def dot_products(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """See `kernels.dot_products`."""
    return (query.astype(np.float64) @ rows.astype(np.float64).T).astype(np.float32)


def greatest(scores: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """See `kernels.greatest`."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :n]


def decode(tokens: CodedTokens) -> NDArray[np.float32]:
    """See `kernels.decode`."""
    return tokens.decode()


def union(lists: Ragged, chosen: NDArray[np.int64], n_documents: int) -> NDArray[np.int64]:
    """See `kernels.union`."""
    return np.unique(np.asarray(lists.values)[rows_of(lists.offsets, chosen)]).astype(np.int64)


def wanted_tokens(wanted: NDArray[np.bool_], tokens: Ragged, only: Selection) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """See `kernels.wanted_tokens`."""
    documents = np.arange(len(tokens)) if only is None else only
    rows, positions = rows_of(tokens.offsets, documents), np.repeat(np.arange(len(documents)), tokens.lengths[documents])
    kept = wanted[np.asarray(tokens.values)[rows]]
    return rows[kept], positions[kept]
