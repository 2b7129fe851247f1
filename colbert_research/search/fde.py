"""Fixed dimensional encodings: one vector per query and one per document, whose inner product estimates MaxSim.

Source: MUVERA (Dhulipala et al. 2024), section 2. A repetition cuts the space by `k_sim` random hyperplanes into `2**k_sim`
buckets. In each bucket a query has the sum of its tokens there, a document their mean, so that the product of the two in one
bucket is what the query's tokens there have with a near token of the document. All choices are drawn from `seed`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.config import Config, Seed
from colbert_research.ragged import Ragged, item_of_row

Array = NDArray[np.float32]


class FixedDimensional(Config):
    """The settings of an encoding; a query's and a document's must agree in all of them.

    `repetitions` (R_reps), `k_sim` hyperplanes each (B = 2**k_sim buckets). `d_proj`: inner projection by random signs, None
    keeps all dimensions. `d_final`: final projection, by a count sketch (Charikar et al. 2002): every dimension is added, with
    a random sign, to a random one of the `d_final`; None keeps all. `fill_empty`: a document's empty bucket gets its token
    that is nearest in Hamming distance of the bucket numbers, the first one of several.
    """

    repetitions: int = Field(20, ge=1)
    k_sim: int = Field(5, ge=0, le=16)
    d_proj: int | None = Field(16, ge=1)
    d_final: int | None = Field(None, ge=1)
    fill_empty: bool = True
    seed: Seed = 42

    def full_width(self, dim: int) -> int:
        """Dimensions before the final projection: repetitions times buckets times inner dimensions."""
        return self.repetitions * 2**self.k_sim * (self.d_proj or dim)

    def width(self, dim: int) -> int:
        """Dimensions of an encoding of token vectors `(n, dim)`. Raises ValueError for a final projection that widens."""
        full = self.full_width(dim)
        if self.d_final is not None and self.d_final >= full:
            raise ValueError(f"d_final={self.d_final} does not make the {full} dimensions fewer; lower it or leave it out")
        return self.d_final or full


def fde_of_queries(queries: Ragged, settings: FixedDimensional) -> Array:
    """Encodings of queries, `(n_queries, width)` float32: sums in every bucket, divided by the number of repetitions.

    The division is beyond the paper: with it, inner products are on the scale of MaxSim, whatever the number of repetitions.
    """
    sums = _encode(queries, settings, documents=False)
    sums /= settings.repetitions
    return sums


def fde_of_documents(documents: Ragged, settings: FixedDimensional) -> Array:
    """Encodings of documents, `(n_documents, width)` float32: means in every bucket; zeros for a document without tokens."""
    return _encode(documents, settings, documents=True)


def _encode(texts: Ragged, settings: FixedDimensional, *, documents: bool) -> Array:
    values = np.asarray(texts.values, np.float32)
    dim = values.shape[1]
    encoded = np.zeros((len(texts), settings.width(dim)), np.float32)
    if not len(values):
        return encoded
    inner = settings.full_width(dim) // settings.repetitions
    for repetition in range(settings.repetitions):
        rng = np.random.default_rng([settings.seed, repetition])
        buckets = simhash(values, rng.standard_normal((dim, settings.k_sim), np.float32))
        projected = values if settings.d_proj is None else values @ random_signs(rng, dim, settings.d_proj)
        part = _bucket_sums(projected, buckets, texts, 2**settings.k_sim)
        if documents:
            part = _means(part, projected, buckets, texts, settings)
        if settings.d_final is None:
            encoded[:, repetition * inner : (repetition + 1) * inner] = part.reshape(len(texts), inner)
        else:
            encoded += count_sketch(rng, inner, settings.d_final).dot(part.reshape(len(texts), inner).T).T
    return encoded


def simhash(values: Array, hyperplanes: Array) -> NDArray[np.int64]:
    """The bucket of each vector, `(n,)`: bit `i` says whether it lies on the positive side of hyperplane `i` `(dim, k_sim)`."""
    bits = values @ hyperplanes > 0
    return bits @ (1 << np.arange(hyperplanes.shape[1], dtype=np.int64))


def random_signs(rng: np.random.Generator, dim: int, reduced: int) -> Array:
    """A projection `(dim, reduced)` of random signs that keeps inner products on average: entries +-1 / sqrt(reduced)."""
    signs = 2 * rng.integers(0, 2, (dim, reduced)) - 1
    return np.asarray(signs / np.sqrt(reduced), np.float32)


def count_sketch(rng: np.random.Generator, width: int, reduced: int) -> Any:
    """A sparse matrix `(reduced, width)` with one random sign in a random row of each column."""
    from scipy.sparse import csc_array

    signs = (2 * rng.integers(0, 2, width) - 1).astype(np.float32)
    return csc_array((signs, rng.integers(0, reduced, width), np.arange(width + 1)), shape=(reduced, width)).tocsr()


def _bucket_sums(projected: Array, buckets: NDArray[np.int64], texts: Ragged, n_buckets: int) -> Array:
    """`(n_texts, n_buckets, d)`: the sum of each text's tokens in each bucket."""
    from scipy.sparse import csr_array

    cells = item_of_row(texts.offsets) * n_buckets + buckets
    n = len(texts) * n_buckets
    members = csr_array((np.ones(len(cells), np.float32), (cells, np.arange(len(cells)))), shape=(n, len(cells)))
    sums: Array = members @ projected
    return sums.reshape(len(texts), n_buckets, projected.shape[1])


def _means(sums: Array, projected: Array, buckets: NDArray[np.int64], texts: Ragged, settings: FixedDimensional) -> Array:
    n, n_buckets, _ = sums.shape
    cells = item_of_row(texts.offsets) * n_buckets + buckets
    counts = np.bincount(cells, minlength=n * n_buckets).reshape(n, n_buckets)
    means = np.asarray(sums / np.maximum(counts, 1)[:, :, None], np.float32)
    if settings.fill_empty:
        nearest = _nearest_tokens(cells, len(projected), (n, n_buckets), settings.k_sim)
        fill = (counts == 0) & (nearest < len(projected))  # a document without tokens keeps its zeros
        means[fill] = projected[nearest[fill]]
    return means


def _nearest_tokens(cells: NDArray[np.int64], n_tokens: int, shape: tuple[int, int], k_sim: int) -> NDArray[np.int64]:
    """For each text and bucket, the first token that lies nearest in Hamming distance; `n_tokens` for a text without any.

    Buckets learn it from their neighbours, one flipped bit away, and in `k_sim` rounds it has reached the farthest.
    """
    nearest = np.full(shape[0] * shape[1], n_tokens, np.int64)
    np.minimum.at(nearest, cells, np.arange(n_tokens, dtype=np.int64))
    nearest = nearest.reshape(shape)
    flipped = np.arange(shape[1])[:, None] ^ (1 << np.arange(k_sim))
    for _ in range(k_sim):
        reached = nearest[:, flipped].min(axis=2)
        nearest = np.where(nearest == n_tokens, reached, nearest)
    return nearest
