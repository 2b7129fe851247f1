"""The token vectors that an index's codes stand for, read as a stream or by row, for structures that are built from them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import Codec
from colbert_research.index import Index, Segment
from colbert_research.ragged import Ragged, offsets_of, rows_of

ROWS_PER_BLOCK = 32_768


def token_offsets(index: Index) -> NDArray[np.int64]:
    """`(n_positions + 1,)` int64: the first token of each document, counted through all segments; deleted ones too."""
    return offsets_of(np.concatenate([np.diff(segment.offsets) for segment in index.segments]))


def decoded_blocks(codec: Codec, segment: Segment, *, rows: int = ROWS_PER_BLOCK) -> Iterator[Ragged]:
    """The token vectors of a segment, float32, in pieces of whole documents with about `rows` tokens each."""
    tokens = Ragged(np.broadcast_to(np.int8(0), (int(segment.offsets[-1]),)), segment.offsets)
    for start, piece in tokens.chunks(rows):
        low, high = segment.offsets[start], segment.offsets[start + len(piece)]
        codes = {name: array[low:high] for name, array in segment.codes.items()}
        yield Ragged(codec.decode(codes), piece.offsets)


def decoded_rows(codec: Codec, segment: Segment, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The token vectors `(n, dim)` at some rows of a segment."""
    return codec.decode({name: array[rows] for name, array in segment.codes.items()})


def decoded_documents(codec: Codec, segment: Segment, positions: NDArray[np.int64]) -> Ragged:
    """The token vectors of the documents at some positions within a segment."""
    lengths = np.diff(segment.offsets)[positions]
    return Ragged(decoded_rows(codec, segment, rows_of(segment.offsets, positions)), offsets_of(lengths))
