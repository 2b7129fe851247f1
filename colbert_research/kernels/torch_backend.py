"""Kernels in torch, on the CPU or wherever the tensors lie: blocked matrix products in float32, then a segmented maximum.

Documents are taken in blocks of about `BLOCK_ROWS` tokens, so that the similarities of a block stay in the processor's cache
and memory does not grow with the collection.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from colbert_research.kernels.operands import CodedTokens, Selection
from colbert_research.kernels.reference import bucket_numbers as bucket_numbers
from colbert_research.kernels.reference import centroid_maxima as centroid_maxima
from colbert_research.kernels.reference import coverage as coverage
from colbert_research.kernels.reference import decode as decode
from colbert_research.kernels.reference import greatest as greatest
from colbert_research.kernels.reference import token_maxima as token_maxima
from colbert_research.kernels.reference import union as union
from colbert_research.kernels.reference import wanted_tokens as wanted_tokens
from colbert_research.ragged import Ragged, offsets_of

BLOCK_ROWS = 2048
BLOCK_COLUMNS = 1024
BLOCK_PRODUCTS = 2**26  # of vectors with centroids: 256 MiB, however many centroids there are


def maxsim(queries: Ragged, documents: Ragged, only: Selection = None) -> NDArray[np.float32]:
    """See `kernels.maxsim`."""
    documents = documents if only is None else documents.take(only)
    return _blocked(queries, documents.offsets, lambda low, high: documents.values[low:high])


def maxsim_codes(queries: Ragged, tokens: CodedTokens, only: Selection = None) -> NDArray[np.float32]:
    """See `kernels.maxsim_codes`."""
    tokens = tokens if only is None else tokens.take(only)
    return _blocked(queries, tokens.offsets, lambda low, high: tokens.slice(low, high, offsets_of([high - low])).decode())


def centroid_interaction(
    scores: NDArray[np.float32], tokens: Ragged, kept: NDArray[np.bool_] | None, only: Selection = None
) -> NDArray[np.float32]:
    """See `kernels.centroid_interaction`."""
    tokens = tokens if only is None else tokens.take(only)
    table = _tensor(scores).T.contiguous()
    if kept is not None:
        table = table.masked_fill(~torch.from_numpy(kept)[:, None], -torch.inf)
    totals = np.empty(len(tokens), np.float32)
    for start, part in tokens.chunks(16 * BLOCK_ROWS):
        rows = table.index_select(0, torch.from_numpy(np.asarray(part.values, dtype=np.int64)))
        totals[start : start + len(part)] = _segment_max(rows, part.offsets).sum(dim=1).numpy()
    return totals


def dot_products(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """See `kernels.dot_products`."""
    return (_tensor(query) @ _tensor(rows).T).numpy()


def assign(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int32]:
    """See `kernels.assign`."""
    table = _tensor(centroids).T
    ids = np.empty(len(vectors), np.int32)
    rows = max(1, min(BLOCK_ROWS, BLOCK_PRODUCTS // max(1, len(centroids))))
    for start in range(0, len(vectors), rows):
        block = _tensor(vectors[start : start + rows])
        ids[start : start + rows] = (block @ table).argmax(dim=1).numpy()
    return ids


def _blocked(queries: Ragged, offsets: NDArray[np.int64], rows: Any) -> NDArray[np.float32]:
    """Scores `(n_queries, n_documents)`; `rows(low, high)` gives the token vectors of a block of rows."""
    scores = np.empty((len(queries), len(offsets) - 1), np.float32)
    columns = [(start, part, _tensor(part.values).T.contiguous()) for start, part in queries.chunks(BLOCK_COLUMNS)]
    for first, last in _blocks(offsets):
        block = _tensor(rows(offsets[first], offsets[last]))
        local = offsets[first : last + 1] - offsets[first]
        for start, part, transposed in columns:
            best = _segment_max(block @ transposed, local)
            scores[start : start + len(part), first:last] = _segment_sum(best.T, part.offsets).numpy()
    return scores


def _blocks(offsets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    index = Ragged(np.broadcast_to(np.int8(0), (int(offsets[-1]),)), offsets)
    for start, part in index.chunks(BLOCK_ROWS):
        yield start, start + len(part)


def _tensor(values: Any) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        return values.float()
    return torch.from_numpy(np.array(values, dtype=np.float32))


def _segment_max(values: torch.Tensor, offsets: NDArray[np.int64]) -> torch.Tensor:
    """Column maxima of each segment of rows: `(n_segments, columns)`; minus infinity for an empty segment."""
    return torch.segment_reduce(values, "max", offsets=torch.from_numpy(offsets), axis=0, initial=-torch.inf)


def _segment_sum(values: torch.Tensor, offsets: NDArray[np.int64]) -> torch.Tensor:
    return torch.segment_reduce(values.contiguous(), "sum", offsets=torch.from_numpy(offsets), axis=0, initial=0.0)
