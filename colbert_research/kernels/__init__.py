"""Kernels: one signature per operation, several backends with one meaning.

`reference` (float64 NumPy) is the definition; every other backend is held to it by parity and invariance tests. A backend is
imported when it is first used, so this package needs NumPy alone. `backend="auto"` looks where the data are: `cuda` for torch
tensors and CuPy arrays on a CUDA device, and the result stays there; else the fastest that is installed: `cpu` (Numba; codes
are scored by integer arithmetic, within a bound that its module states), else `torch`, else `reference`.

Where an operation takes `only`, those are the positions `(n,)` of the documents to score, in that order; None means all.

| operation | what it computes |
|---|---|
| `maxsim` | for each query and document, the sum over query tokens of the best dot product with a document token |
| `maxsim_codes` | the same over codes: centroid plus quantised residual or codewords, times the stored inverse norm |
| `token_maxima` | for each document and query token, the best score among chosen tokens that this query token wants |
| `centroid_interaction` | the same with each document token replaced by its centroid, from a table of scores |
| `coverage` | how many query tokens each document covers, from one bit per query token for each centroid |
| `centroid_maxima` | centroid interaction before its sum over the query's tokens, in float32 |
| `topk`, `among_best` | the best documents by score descending, then position ascending; the same by position |
| `assign` | the nearest centroid of each vector by dot product |
| `bucket_numbers` | the bucket of each value, for scalar quantisation |
| `decode` | the vectors that codes stand for |
| `dot_products` | every query token with every one of some vectors, such as centroids |
| `greatest` | the best columns of each row, such as the nearest centroids of each query token |
| `union` | the documents in any of some inverted lists |
| `wanted_tokens` | the tokens of documents whose centroids are wanted |
"""

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.kernels.operands import CodedTokens, Selection
from colbert_research.ragged import Ragged

HOST_BACKENDS = ("reference", "torch", "cpu")
"""Backends that compute on the processor."""
BACKENDS = (*HOST_BACKENDS, "cuda")


def maxsim(queries: Ragged, documents: Ragged, *, only: Selection = None, backend: str = "auto") -> NDArray[np.float32]:
    """MaxSim of every query with every document: `(n_queries, n_documents)` float32.

    `queries`, `documents`: token vectors `(n_tokens, dim)`. A query without tokens scores 0 with every document; a document
    without tokens scores minus infinity with every query that has some. Scores are a NumPy array, or of the framework of the
    documents' values where these lie on a CUDA device. Raises ValueError if the widths differ.
    Source: ColBERT (Khattab and Zaharia 2020), section 3.3, equation 3.
    """
    _same_width(queries, documents.dim)
    return _backend(_by_place(backend, documents.values)).maxsim(queries, documents, _checked(only, len(documents)))


def maxsim_codes(queries: Ragged, tokens: CodedTokens, *, only: Selection = None, backend: str = "auto") -> NDArray[np.float32]:
    """MaxSim over residual or product codes: `(n_queries, n_documents)` float32.

    The vector of a token is `(centroid + values of its code) * inverse norm`, as `CodedTokens.decode` has it. Sources:
    ColBERTv2 (Santhanam et al. 2022), section 3.3; EMVB (Nardini et al. 2024), section 3.3.
    """
    _same_width(queries, tokens.table.dim)
    return _backend(_by_place(backend, tokens.codes)).maxsim_codes(queries, tokens, _checked(only, len(tokens.offsets) - 1))


def token_maxima(
    query: NDArray[np.float32],
    tokens: CodedTokens,
    rows: NDArray[np.int64],
    positions: NDArray[np.int64],
    n_documents: int,
    wanted: NDArray[np.bool_],
    *,
    backend: str = "auto",
) -> NDArray[np.float32]:
    """The best scores among some tokens, document by document, before any sum: `(n_documents, n_query_tokens)` float32.

    `query` `(n_query_tokens, dim)`, at least one token. `rows` `(n,)`: which of the `tokens`; `positions` `(n,)`: the
    document of each, below `n_documents`. `wanted` `(K, n_query_tokens)` bool: a token counts only for the query tokens that
    want its centroid; minus infinity where none does. Scores are those of `maxsim_codes`. Raises ValueError for tables
    without centroids or a `wanted` of another shape, IndexError for rows or positions outside.
    Sources: WARP (Scheerer et al. 2025), decompression and reduction; EMVB (Nardini et al. 2024), the terms scored late.
    """
    query = np.asarray(query, np.float32)
    _same_width(Ragged(query, np.array([0, len(query)])), tokens.table.dim)
    if tokens.table.centroids is None or tokens.centroid_ids is None:
        raise ValueError("token_maxima chooses tokens by their centroids; these codes have none, give codes that do")
    expected = (len(tokens.table.centroids), len(query))
    if wanted.shape != expected:
        raise ValueError(f"wanted must tell for {expected[0]} centroids and {expected[1]} query tokens; given {wanted.shape}")
    rows, positions = _inside(rows, len(tokens.codes)), _inside(positions, n_documents)
    if len(rows) != len(positions):
        raise ValueError(f"each row belongs to one document; given {len(rows)} rows and {len(positions)} positions")
    return _backend(backend).token_maxima(query, tokens, rows, positions, n_documents, wanted)


def centroid_interaction(
    scores: NDArray[np.float32],
    tokens: Ragged,
    *,
    kept: NDArray[np.bool_] | None = None,
    only: Selection = None,
    backend: str = "auto",
) -> NDArray[np.float32]:
    """Approximate scores of documents from their tokens' centroids alone: `(n_documents,)` float32, for one query.

    `scores`: `(n_query_tokens, n_centroids)`, each query token with each centroid. `tokens`: centroid ids of each document's
    tokens. `kept`: `(n_centroids,)` bool, tokens of other centroids are left out; a document with none left scores minus
    infinity. Source: PLAID (Santhanam et al. 2022), sections 4.2 and 4.3, equations 3 to 5.
    """
    return _backend(_by_place(backend, tokens.values)).centroid_interaction(scores, tokens, kept, _checked(only, len(tokens)))


def coverage(masks: NDArray[np.uint64], tokens: Ragged, *, only: Selection = None, backend: str = "auto") -> NDArray[np.int64]:
    """The number of bits that are set in the mask of any of a document's tokens: `(n_documents,)` int64.

    `masks` `(K, words)` uint64: of each centroid, one bit per query token. `tokens`: centroid ids of each document's tokens.
    Source: EMVB (Nardini et al. 2024), the pre-filter of bit vectors.
    """
    return _backend(backend).coverage(masks, tokens, _checked(only, len(tokens)))


def centroid_maxima(
    scores: NDArray[np.float32], tokens: Ragged, *, only: Selection = None, backend: str = "auto"
) -> NDArray[np.float32]:
    """The best centroid of each document for each query token: `(n_documents, n_query_tokens)` float32, from a table of scores.

    `scores` and `tokens` as for `centroid_interaction`. A document without tokens has minus infinity.
    """
    return _backend(backend).centroid_maxima(scores, tokens, _checked(only, len(tokens)))


def topk(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Positions of the `k` best of `scores` `(n,)`: score descending, then place ascending; fewer when there are fewer.

    Documents that score minus infinity (without tokens) are never among them. Raises ValueError for k < 1 or a NaN.
    """
    if _on_device(scores):
        return _backend("cuda").topk(scores, k)
    scores = np.asarray(scores)
    best = among_best(scores, k)
    return best[np.lexsort((best, -scores[best]))]


def among_best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The positions that `topk` gives, ascending."""
    scores = np.asarray(scores)
    if k < 1:
        raise ValueError(f"k must be at least 1; given {k}")
    if np.isnan(scores).any():
        raise ValueError("a score is not a number (NaN); look for NaN or infinite token vectors")
    if k >= len(scores):
        return np.flatnonzero(scores > -np.inf)
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    if threshold == -np.inf:
        return np.flatnonzero(scores > -np.inf)
    best = np.flatnonzero(scores >= threshold)
    if len(best) > k:  # of those that score the threshold, the first
        tied = np.flatnonzero(scores[best] == threshold)
        best = np.delete(best, tied[len(tied) - (len(best) - k) :])
    return best


def assign(vectors: NDArray[np.float32], centroids: NDArray[np.float32], *, backend: str = "auto") -> NDArray[np.int32]:
    """The centroid with the largest dot product, for each vector: `(n,)` int32; ties go to the smaller id.

    `vectors`: `(n, dim)`, `centroids`: `(K, dim)`.
    """
    return _backend(_by_place(backend, vectors)).assign(vectors, centroids)


def bucket_numbers(
    values: NDArray[np.float32], scales: NDArray[np.float32], cutoffs: NDArray[np.float32], *, backend: str = "auto"
) -> NDArray[np.uint8]:
    """How many of the ascending `cutoffs` `(at most 255,)` lie below `values / scales`: `(n, dim)` uint8, values `(n, dim)`."""
    return _backend(backend).bucket_numbers(values, scales, cutoffs)


def decode(tokens: CodedTokens, *, backend: str = "auto") -> NDArray[np.float32]:
    """The vectors that coded tokens stand for: `(n, dim)` float32, the same bits as `CodedTokens.decode`."""
    return _backend(backend).decode(tokens)


def dot_products(query: NDArray[np.float32], rows: NDArray[np.float32], *, backend: str = "auto") -> NDArray[np.float32]:
    """Dot products of a query's tokens `(n_tokens, dim)` with other vectors `(n, dim)`: `(n_tokens, n)` float32."""
    name = _by_place(backend, rows)
    if name != "cuda":
        query, rows = np.asarray(query, np.float32), np.asarray(rows, np.float32)
    return _backend(name).dot_products(query, rows)


def greatest(scores: NDArray[np.float32], n: int, *, backend: str = "auto") -> NDArray[np.int64]:
    """Positions of the `n` greatest of each row of `scores` `(n_rows, width)`: `(n_rows, n)` int64, greatest first.

    Ties go to the smaller position; scores that are not numbers come last. Raises ValueError unless 1 <= n <= width.
    """
    if not 1 <= n <= scores.shape[1]:
        raise ValueError(f"n must lie between 1 and the {scores.shape[1]} scores of a row; given {n}")
    name = _by_place(backend, scores)
    return _backend(name).greatest(scores if name == "cuda" else np.asarray(scores, np.float32), n)


def union(lists: Ragged, chosen: NDArray[np.int64], n_documents: int, *, backend: str = "auto") -> NDArray[np.int64]:
    """The documents in any of the `chosen` lists, ascending, each once: `(n,)` int64.

    `lists`: documents below `n_documents`, int32, packed by list (an index checks that when it is opened). Raises IndexError
    for a list that is not there. Source: PLAID, section 4.1.
    """
    name = _by_place(backend, lists.values)
    return _backend(name).union(lists, chosen if _on_device(chosen) else _inside(chosen, len(lists)), n_documents)


def wanted_tokens(
    wanted: NDArray[np.bool_], tokens: Ragged, *, only: Selection = None, backend: str = "auto"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The tokens whose centroid is `wanted` `(K,)`: their rows and their documents' positions, as `token_maxima` takes them.

    `tokens`: centroid ids of each document's tokens. Both `(n,)` int64, document after document. Source: EMVB (Nardini et al.
    2024), the terms scored late.
    """
    return _backend(backend).wanted_tokens(wanted, tokens, _checked(only, len(tokens)))


def _same_width(queries: Ragged, dim: int) -> None:
    if queries.dim != dim:
        raise ValueError(f"queries have {queries.dim} dimensions and documents {dim}; encode both with one encoder and reducer")


def _checked(only: Selection, n: int) -> Selection:
    """Positions known to lie inside; what is on a device is not read here, and its kernels skip what lies outside."""
    return only if only is None or _on_device(only) else _inside(only, n)


def _inside(positions: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Positions as contiguous int64; raises IndexError for one outside (a compiled kernel would read foreign memory)."""
    positions = np.ascontiguousarray(positions, np.int64)
    if positions.size and not 0 <= positions.min() <= positions.max() < n:
        raise IndexError(f"positions must lie between 0 and {n - 1}; given {positions.min()} to {positions.max()}")
    return positions


def _by_place(backend: str, values: Any) -> str:
    """`cuda` for `auto`, where `values` lie on a CUDA device."""
    return "cuda" if backend == "auto" and _on_device(values) else backend


def _on_device(values: Any) -> bool:
    """Whether an array lies on a CUDA device; torch and CuPy are not imported for that."""
    return "cuda" in str(getattr(values, "device", "")).lower()


@lru_cache
def _backend(name: str) -> ModuleType | Any:
    if name == "auto":
        name = next((backend for backend, package in (("cpu", "numba"), ("torch", "torch")) if find_spec(package)), "reference")
    if name not in BACKENDS:
        raise ValueError(f"unknown kernel backend {name!r}; valid: auto, {', '.join(BACKENDS)}")
    return import_module(
        f"colbert_research.kernels.{name}_backend" if name != "reference" else "colbert_research.kernels.reference"
    )
