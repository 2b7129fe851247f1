"""Kernels for a CPU: SIMD code compiled by Numba, threads over documents, no matrix library.

Float vectors are scored in float32; codes in integers, within the bound that `cpu.prepare` states; centroid interaction in
bytes, within the bound of `cpu.interaction`. A score never depends on the other documents, the other queries or the threads.
"""

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.cpu import floats, integer
from colbert_research.kernels.cpu.chosen import token_maxima
from colbert_research.kernels.cpu.coverage import centroid_maxima, coverage
from colbert_research.kernels.cpu.interaction import centroid_interaction, union
from colbert_research.kernels.cpu.nearest import assign, bucket_numbers
from colbert_research.kernels.cpu.prepare import decoder_of, integer_query
from colbert_research.kernels.cpu.products import greatest, products
from colbert_research.kernels.cpu.vectors import decode
from colbert_research.kernels.cpu.wanted import wanted_tokens
from colbert_research.kernels.operands import CodedTokens, Selection
from colbert_research.ragged import Ragged

__all__ = [
    "assign",
    "bucket_numbers",
    "centroid_interaction",
    "centroid_maxima",
    "coverage",
    "decode",
    "dot_products",
    "greatest",
    "maxsim",
    "maxsim_codes",
    "token_maxima",
    "union",
    "wanted_tokens",
]


def maxsim(queries: Ragged, documents: Ragged, only: Selection = None) -> NDArray[np.float32]:
    """See `kernels.maxsim`."""
    values = np.asarray(documents.values)
    if values.dtype not in (np.float32, np.float16):
        values = values.astype(np.float32)
    documents = Ragged(values, documents.offsets)
    scores = _scores(queries, documents.offsets, only)
    for query, row in zip(queries, scores, strict=True):
        if len(query):
            floats.maxsim(np.asarray(query, np.float32), documents, only, row)
    return scores


def maxsim_codes(queries: Ragged, tokens: CodedTokens, only: Selection = None) -> NDArray[np.float32]:
    """See `kernels.maxsim_codes`."""
    decoder = decoder_of(tokens.table)
    scores = _scores(queries, tokens.offsets, only)
    for query, row in zip(queries, scores, strict=True):
        if not len(query):
            continue
        query = np.asarray(query, np.float32)
        if np.isfinite(query).all():
            integer.maxsim(integer_query(query, decoder, tokens.table.centroids), decoder, tokens, only, row)
        else:
            row[:] = np.nan
    return scores


def dot_products(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """See `kernels.dot_products`."""
    return products(query, rows)[:, : len(query)].T


def _scores(queries: Ragged, offsets: NDArray[np.int64], only: Selection) -> NDArray[np.float32]:
    return np.zeros((len(queries), len(offsets) - 1 if only is None else len(only)), np.float32)


def prepare_to_load() -> None:
    """Make once what Numba loads compiled code into, for the processes that are forked from this one; nothing is compiled."""
    from numba.core.registry import cpu_target

    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
