"""LEMUR: one vector per query and one per document, whose inner product estimates MaxSim, by least squares.

Source: LEMUR (Jääsaari, Hyvönen and Roos 2026, arXiv 2601.21853). MaxSim is a sum over a query's tokens x of `max_c <x, c>`
over a document's tokens c. That maximum, a function of x, is written as a linear function of features of x: `w . psi(x)`. So
the features are summed over the query's tokens, and `w` is the document: the weights of least squared error for a sample of
tokens, whose maxima are computed.

Beyond the paper, one dimension is a constant, so that nothing has to be centred, and estimates of different segments compare;
each segment has a sample, and trained features, of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research import kernels
from colbert_research.codecs import Codec
from colbert_research.config import Config, Seed
from colbert_research.index import Arrays, DerivedStructure, Segment, SegmentStructure
from colbert_research.index.damage import open_array
from colbert_research.ragged import Ragged
from colbert_research.search.decoded import decoded_blocks, decoded_documents, decoded_rows
from colbert_research.search.found import joined
from colbert_research.search.token_features import TokenFeatures

TRAINING_DOCUMENTS = 2048
ROWS_AT_ONCE, TOKENS_AT_ONCE = 4096, 512
RIDGE = 0.03  # of the mean square of a feature; on NFCorpus .03 to .1 do about as well, and .0001 finds fewer of the best ten


class LemurSettings(Config):
    """`width` dimensions: features of a hidden layer and a constant; `sample`: tokens of a segment that weights are fitted to.

    `epochs` of training of the hidden layer on that sample, with the maxima of at most 2048 documents; 0: random weights.
    """

    width: int = Field(1024, ge=2)
    epochs: int = Field(10, ge=0)
    sample: int = Field(16_384, ge=1)
    storage: Literal["float32", "float16"] = "float32"
    seed: Seed = 42


class LemurVectors(LemurSettings, SegmentStructure):
    """For each segment the hidden layer and the weights of its documents, `(n_documents, width)`; zeros for empty documents.

    Memory while building: the features of the sample, `sample * width` float32, and their Gram matrix; for training, twice
    `sample * 2048` float32 beside.
    """

    kind: Literal["lemur_vectors"] = "lemur_vectors"
    opaque: ClassVar[frozenset[str]] = frozenset({"projection", "affine", "documents"})

    def build(self, codec: Codec, segment: Segment, needed: Mapping[DerivedStructure, Arrays]) -> Arrays:
        features = TokenFeatures.random(codec.dim, self.width - 1, seed=self.seed)
        documents = np.zeros((len(segment), self.width), self.storage)
        n_tokens, rng = int(segment.offsets[-1]), np.random.default_rng([self.seed, 1])
        if n_tokens:
            rows = np.sort(rng.choice(n_tokens, min(self.sample, n_tokens), replace=False))
            sample = decoded_rows(codec, segment, rows)
            if self.epochs:
                filled = np.flatnonzero(np.diff(segment.offsets))
                some = np.sort(rng.choice(filled, min(TRAINING_DOCUMENTS, len(filled)), replace=False))
                maxima = token_maxima(sample, decoded_documents(codec, segment, some)).T
                spread = max(float(maxima.std()), float(np.finfo(np.float32).eps))
                targets = np.ascontiguousarray((maxima - maxima.mean()) / spread)
                features = features.trained(sample, targets, epochs=self.epochs, seed=self.seed)
            fitted, first = LeastSquares.of(with_constant(features.of(sample))), 0
            for block in decoded_blocks(codec, segment, rows=ROWS_AT_ONCE):
                filled = first + np.flatnonzero(block.lengths)
                documents[filled] = fitted.weights(token_maxima(sample, block))
                first += len(block)
        return {"projection": features.projection, "affine": features.affine, "documents": documents}

    def read(self, folder: Path, codec: Codec, segment: Segment) -> Arrays:
        shapes = {"projection": (codec.dim, self.width - 1), "affine": (3, self.width - 1)}
        layer = {name: open_array(folder / f"{name}.npy", np.dtype(np.float32), shape) for name, shape in shapes.items()}
        shape = (len(segment), self.width)
        return {**layer, "documents": open_array(folder / "documents.npy", np.dtype(self.storage), shape)}

    def open(self, codec: Codec, segments: Sequence[Segment], arrays: Sequence[Arrays]) -> "Estimates":
        layers = tuple(TokenFeatures(each["projection"], each["affine"]) for each in arrays)
        return Estimates(layers, tuple(each["documents"] for each in arrays))


@dataclass(frozen=True, eq=False)
class Estimates:
    """The hidden layer and the documents' weights of each segment."""

    layers: tuple[TokenFeatures, ...]
    documents: tuple[NDArray[np.floating], ...]

    def of(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Estimates of MaxSim of a query `(n_tokens, dim)` with every document: `(n_positions,)`."""
        return joined([self._of(query, *part) for part in zip(self.layers, self.documents, strict=True)])

    @staticmethod
    def _of(query: NDArray[np.float32], layer: TokenFeatures, documents: NDArray[np.floating]) -> NDArray[np.float32]:
        summed = with_constant(layer.of(query)).sum(axis=0, keepdims=True)
        vectors = Ragged(documents, np.arange(len(documents) + 1))
        scores: NDArray[np.float32] = kernels.maxsim(Ragged(summed, np.array([0, 1])), vectors)[0]
        return scores


def with_constant(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features `(n, width - 1)` and a last one that is 1 for every token."""
    return np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)


def token_maxima(tokens: NDArray[np.float32], documents: Ragged) -> NDArray[np.float32]:
    """The greatest inner product of each token `(n, dim)` in each document that has tokens: `(n_such_documents, n)`."""
    filled = np.flatnonzero(documents.lengths)
    maxima = np.empty((len(filled), len(tokens)), np.float32)
    values = np.ascontiguousarray(documents.values, np.float32)
    for first in range(0, len(tokens) if len(filled) else 0, TOKENS_AT_ONCE):
        part = slice(first, first + TOKENS_AT_ONCE)
        products = kernels.dot_products(tokens[part], values).T
        for row, document in zip(maxima, filled, strict=True):
            start, stop = documents.offsets[document : document + 2]
            products[start:stop].max(axis=0, out=row[part])
    return maxima


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """Ridge regression on features `(n, width)` that are the same for many targets; `factor`: of their Gram matrix."""

    features: NDArray[np.float32]
    factor: tuple[NDArray[np.float64], bool]

    @classmethod
    def of(cls, features: NDArray[np.float32]) -> "LeastSquares":
        from scipy.linalg import cho_factor

        n, width = features.shape
        gram = np.zeros((width, width))
        for start in range(0, n, ROWS_AT_ONCE):
            part = features[start : start + ROWS_AT_ONCE].astype(np.float64)
            gram += part.T @ part
        gram[np.diag_indices(width)] += RIDGE * np.trace(gram) / width
        return cls(features, cho_factor(gram, overwrite_a=True))

    def weights(self, targets: NDArray[np.float32]) -> NDArray[np.float64]:
        """Weights `(m, width)` of least squared error for targets `(m, n)`."""
        from scipy.linalg import cho_solve

        return np.asarray(cho_solve(self.factor, (targets @ self.features).T.astype(np.float64)).T)
