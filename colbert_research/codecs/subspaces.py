"""Product quantisation: codewords of each sub-space by k-means, and the rotation that makes them fit better.

Sources: PQ (Jegou, Douze and Schmid 2011); OPQ (Ge, He, Ke and Sun 2013), sections 3.1 and 3.2. Nearest codewords are found by
`kernels.assign`, so the same sample and seed give the same bytes on the same machine, on any number of threads.
"""

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels

N_CODEWORDS = 256  # a byte a sub-space


def train_codewords(sample: NDArray[np.float32], m: int, *, iterations: int, seed: int) -> NDArray[np.float32]:
    """Codewords `(m, 256, dim / m)` float32 of a sample `(n, dim)`, n >= 1: k-means in each of `m` sub-spaces."""
    codewords = _starts(sample, m, seed)
    for _ in range(iterations):
        codewords, _ = _refined(sample, codewords)
    return codewords


def train_rotated(
    sample: NDArray[np.float32], m: int, *, iterations: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Codewords as of `train_codewords`, and the rotation `(dim, dim)` float32, `x -> rotation @ x`, that they are for.

    In turns: k-means of the rotated sample, then the rotation that brings the sample closest to its own codes (orthogonal
    Procrustes). It starts as `balanced_rotation`.
    """
    wide, rotation = sample.astype(np.float64), balanced_rotation(sample, m)
    codewords = _starts(rotate(sample, rotation), m, seed)
    for _ in range(iterations):
        codewords, codes = _refined(rotate(sample, rotation), codewords)
        decoded = codewords[np.arange(m), codes].reshape(sample.shape).astype(np.float64)
        left, _, right = np.linalg.svd(decoded.T @ wide)
        rotation = (left @ right).astype(np.float32)
    return _refined(rotate(sample, rotation), codewords)[0], rotation


def _starts(sample: NDArray[np.float32], m: int, seed: int) -> NDArray[np.float32]:
    """Sampled vectors as the first codewords, repeated when there are fewer than 256."""
    chosen = sample[np.resize(np.random.default_rng(seed).permutation(len(sample)), N_CODEWORDS)]
    return np.ascontiguousarray(chosen.reshape(N_CODEWORDS, m, -1).transpose(1, 0, 2))


def _refined(sample: NDArray[np.float32], codewords: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Each codeword moved to the mean of the vectors that it is the nearest to, and these codes; an unused one stays."""
    from scipy.sparse import csr_array

    n, codes, moved = len(sample), nearest_codewords(sample, codewords), codewords.copy()
    for column, part, words in zip(codes.T, _parts(sample, len(codewords)), moved, strict=True):
        members = csr_array((np.ones(n, np.float32), (column, np.arange(n))), shape=(N_CODEWORDS, n))
        counts = np.bincount(column, minlength=N_CODEWORDS)
        used = counts > 0
        words[used] = (members @ part)[used] / counts[used, None]
    return moved, codes


def nearest_codewords(vectors: NDArray[np.float32], codewords: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The codeword at the least Euclidean distance in each sub-space: `(n, m)` uint8; ties go to the smaller number."""
    codes = np.empty((len(vectors), len(codewords)), np.uint8)
    for column, part, words in zip(codes.T, _parts(vectors, len(codewords)), codewords, strict=True):
        # the nearest to x has the greatest x . w - |w|^2 / 2: a dot product of vectors one longer
        longer = np.concatenate([part, np.ones((len(part), 1), np.float32)], axis=1)
        halves = np.square(words).sum(axis=1, keepdims=True) / 2
        column[:] = kernels.assign(longer, np.concatenate([words, -halves], axis=1))
    return codes


def balanced_rotation(sample: NDArray[np.float32], m: int) -> NDArray[np.float32]:
    """Principal directions dealt to `m` sub-spaces so that the products of their variances are about equal: `(dim, dim)`.

    Source: OPQ, section 3.2 (eigenvalue allocation).
    """
    dim = sample.shape[1]
    variances, directions = np.linalg.eigh(np.cov(sample.astype(np.float64), rowvar=False, bias=True).reshape(dim, dim))
    # relative to the least one, so that no logarithm is negative and every direction dealt counts as more
    least = max(float(variances.max() * np.finfo(np.float32).eps), float(np.finfo(np.float64).tiny))
    logs = np.log(np.maximum(variances, least) / least)
    dealt: list[list[int]] = [[] for _ in range(m)]
    for direction in np.argsort(-variances, kind="stable"):
        open_ones = [part for part in range(m) if len(dealt[part]) < dim // m]
        dealt[min(open_ones, key=lambda part: (logs[dealt[part]].sum(), part))].append(int(direction))
    return np.ascontiguousarray(directions.T[np.concatenate(dealt)], np.float32)


def rotate(vectors: NDArray[np.float32], rotation: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """`rotation @ x` for each x of `(n, dim)`, each independent of the others; without a rotation, the vectors."""
    if rotation is None:
        return vectors
    return np.ascontiguousarray(kernels.dot_products(rotation, vectors).T)


def _parts(vectors: NDArray[np.float32], m: int) -> list[NDArray[np.float32]]:
    """The sub-spaces of vectors `(n, dim)`: `m` of `(n, dim / m)`."""
    return list(np.split(np.asarray(vectors, np.float32), m, axis=1))
