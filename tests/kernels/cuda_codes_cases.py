"""Coded tokens for the suites of CUDA kernels; integer MaxSim spelled out once more, with the C library's fused multiply."""

import ctypes
from itertools import pairwise

import numpy as np

from colbert_research.kernels.operands import CodedTokens, ProductTable, ResidualTable, unpack_bits
from colbert_research.ragged import offsets_of

_fmaf = ctypes.CDLL(None).fmaf
_fmaf.restype, _fmaf.argtypes = ctypes.c_float, [ctypes.c_float] * 3
fused = np.frompyfunc(_fmaf, 3, 1)

GUARD = 40  # tokens of other bytes before and after


def coded(
    kind: str, size: int, dim: int, n_centroids: int, lengths: list[int], seed: int, *, norms: bool = True
) -> CodedTokens:
    """Codes among others in memory; `kind`: residual or uniform of `size` bits, product of `size` dimensions a codeword."""
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    centroids = rng.standard_normal((n_centroids, dim)).astype(np.float32) if n_centroids else None
    table: ResidualTable | ProductTable
    if kind == "product":
        table = ProductTable(rng.standard_normal((dim // size, 256, size)).astype(np.float32), centroids)
        width = dim // size
    else:
        levels = np.sort(rng.standard_normal(2**size)) if kind == "residual" else 0.1 * np.arange(2**size) - 3
        table = ResidualTable(rng.uniform(0.5, 2, dim).astype(np.float32), levels.astype(np.float32), centroids)
        width = table.packed_width
    codes = rng.integers(0, 256, (n + 2 * GUARD, width)).astype(np.uint8)[GUARD : GUARD + n]
    ids = rng.integers(0, max(n_centroids, 1), n).astype(np.uint16 if seed % 2 else np.int32) if n_centroids else None
    lengths_of = rng.uniform(0.5, 1.5, n).astype(np.float16) if norms else None
    return CodedTokens(table, codes, offsets_of(lengths), ids, lengths_of)


def products(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`(n_tokens, n)` float32, summed in the order of the dimensions, each step rounded once."""
    sums = np.zeros((len(query), len(rows)), np.float32)
    for column, other in zip(query.T, rows.T, strict=True):
        sums = fused(column[:, None], other[None, :], sums).astype(np.float32)
    return sums


def scores_of_tokens(query: np.ndarray, tokens: CodedTokens) -> np.ndarray:
    """`(n_query_tokens, n)` float32: the formula of kernels/cpu/prepare.py, sums of whole numbers in int64."""
    table = tokens.table
    if isinstance(table, ProductTable):
        words = table.codewords.astype(np.float64)
        low, span = words.min(axis=1, keepdims=True), np.ptp(words, axis=1, keepdims=True)
        unit = np.where(span > 0, span, 255) / 255
        numbers = np.rint((words - low) / unit).astype(np.int64)
        u = np.concatenate([part[column] for part, column in zip(numbers, tokens.codes.T, strict=True)], axis=1)
        lowest, step = low.astype(np.float32).ravel(), unit.astype(np.float32).ravel()
    else:
        levels, scales = table.levels.astype(np.float64), table.scales.astype(np.float64)
        unit = np.ptp(levels) / 255
        u = np.rint((levels - levels.min()) / unit).astype(np.int64)[unpack_bits(tokens.codes, table.bits, table.dim)]
        lowest, step = (scales * levels.min()).astype(np.float32), (scales * unit).astype(np.float32)
    scaled = query * step
    factors = np.abs(scaled).max(axis=1) / np.float32(63)
    w = np.rint(scaled / np.where(factors > 0, factors, np.float32(1))[:, None]).astype(np.int64)
    base = np.add.accumulate(np.concatenate([np.zeros((len(query), 1), np.float32), query * lowest], axis=1), axis=1)[:, -1]
    centroid_scores = np.zeros((len(query), 1), np.float32) if table.centroids is None else products(query, table.centroids)
    ids = np.zeros(len(u), np.int64) if tokens.centroid_ids is None else tokens.centroid_ids.astype(np.int64)
    scores = (centroid_scores + base[:, None])[:, ids] + factors[:, None] * (w @ u.T).astype(np.float32)
    return scores if tokens.inverse_norms is None else scores * tokens.inverse_norms.astype(np.float32)


def scores_of_documents(query: np.ndarray, tokens: CodedTokens) -> np.ndarray:
    """`(n_documents,)` float32: maxima, added one after the other."""
    found = np.full(len(tokens.offsets) - 1, -np.inf, np.float32)
    if len(query) == 0:
        return np.zeros_like(found)
    scores = scores_of_tokens(query, tokens)
    for document, (low, high) in enumerate(pairwise(tokens.offsets)):
        if high > low:
            found[document] = np.add.accumulate(scores[:, low:high].max(axis=1), dtype=np.float32)[-1]
    return found
