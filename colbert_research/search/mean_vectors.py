"""One vector per document: the mean of its decoded token vectors, L2-normalised."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import Codec
from colbert_research.index import Arrays, DerivedStructure, Segment, SegmentStructure
from colbert_research.index.damage import open_array
from colbert_research.ragged import Ragged
from colbert_research.search.decoded import decoded_blocks


class MeanVectors(SegmentStructure):
    """For each segment, `(n_documents, dim)` float32: L2-normalised rows; zeros for a document without tokens."""

    kind: Literal["mean_vectors"] = "mean_vectors"

    def build(self, codec: Codec, segment: Segment, needed: Mapping[DerivedStructure, Arrays]) -> Arrays:
        return {"means": np.concatenate([mean_vectors(block) for block in decoded_blocks(codec, segment)])}

    def read(self, folder: Path, codec: Codec, segment: Segment) -> Arrays:
        return {"means": open_array(folder / "means.npy", np.dtype(np.float32), (len(segment), codec.dim))}

    def open(self, codec: Codec, segments: Sequence[Segment], arrays: Sequence[Arrays]) -> tuple[NDArray[np.float32], ...]:
        return tuple(each["means"] for each in arrays)


def mean_vectors(texts: Ragged) -> NDArray[np.float32]:
    """The mean direction of each text's token vectors: `(n_texts, dim)` float32, L2-normalised rows or zeros."""
    from scipy.sparse import csr_array

    n = texts.n_rows
    members = csr_array((np.ones(n), np.arange(n), texts.offsets), shape=(len(texts), n))
    sums = members @ np.asarray(texts.values, np.float64)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.where(norms > 0, norms, 1), np.float32)
