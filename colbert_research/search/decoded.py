"""The token vectors that an index's codes stand for, read as a stream or by row, for structures that are built from them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from colbert_research.index import Index
from colbert_research.ragged import Ragged, offsets_of

ROWS_A_BLOCK = 32_768


def token_offsets(index: Index) -> NDArray[np.int64]:
    """`(n_documents + 1,)` int64: the first token of each document, counted through all segments."""
    return offsets_of(np.concatenate([np.diff(segment.offsets) for segment in index.segments]))


def decoded_blocks(index: Index, *, rows: int = ROWS_A_BLOCK) -> Iterator[Ragged]:
    """The token vectors of all documents, float32, in pieces of whole documents with about `rows` tokens each."""
    for segment in index.segments:
        tokens = Ragged(np.broadcast_to(np.int8(0), (int(segment.offsets[-1]),)), segment.offsets)
        for start, piece in tokens.chunks(rows):
            low, high = segment.offsets[start], segment.offsets[start + len(piece)]
            codes = {name: array[low:high] for name, array in segment.codes.items()}
            yield Ragged(index.codec.decode(codes), piece.offsets)


def decoded_rows(index: Index, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The token vectors `(n, dim)` at rising `rows`, counted through all segments."""
    parts, start = [], 0
    for segment in index.segments:
        stop = start + int(segment.offsets[-1])
        low, high = np.searchsorted(rows, [start, stop])
        local = rows[low:high] - start
        parts.append(index.codec.decode({name: array[local] for name, array in segment.codes.items()}))
        start = stop
    return np.concatenate(parts)


def decoded_documents(index: Index, positions: NDArray[np.int64]) -> Ragged:
    """The token vectors of the documents at rising `positions`."""
    codes, offsets = index.codes_of(positions)
    return Ragged(index.codec.decode(codes), offsets)
