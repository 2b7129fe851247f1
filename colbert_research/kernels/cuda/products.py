"""Dot products in float32 and the nearest centroid, each sum in the order of the dimensions: the bits of the backend `cpu`.

(Its lowest tier, for processors without fused multiply-adds, rounds twice and may differ.)
"""

import numpy as np

from colbert_research.kernels.cuda.arrays import Array, Place, check, common_place, empty
from colbert_research.kernels.cuda.launch import Kernel, device_of, grid_of

THREADS = 256
DEPTH = 8  # dimensions that lie in shared memory at a time, twice
FEW, MANY = (32, 128), (128, 128)  # rows of a block's tile of products, left and right
_DOTS, _ASSIGN = Kernel("products.cu", "dot_products"), Kernel("products.cu", "assign")
KERNELS = (_DOTS, _ASSIGN)


def dot_products(query: Array, rows: Array) -> Array:
    """Dot products of `query` `(n_tokens, dim)` with `rows` `(n, dim)`, all float32: `(n_tokens, n)` float32.

    Raises TypeError and ValueError, before anything is launched.
    """
    place, dim = _checked(query=query, rows=rows)
    n_tokens, n = len(query), len(rows)
    products = empty((n_tokens, n), "float32", place)
    if n_tokens and n:
        grid = (-(-n // FEW[1]), min(-(-n_tokens // FEW[0]), 65535))
        arguments = [query, np.int64(n_tokens), rows, np.int64(n), np.int32(dim), products]
        device_of(place).launch(_DOTS, grid, (THREADS,), _stages(FEW), arguments)
    return products


def assign(vectors: Array, centroids: Array) -> Array:
    """The centroid `(n,)` int32 with the largest dot product for each of `vectors` `(n, dim)`; ties go to the smaller id.

    `centroids` `(K, dim)`, at least one; both float32. A product that is not a number is never the largest; where all are, the
    id is 0. Raises TypeError and ValueError, before anything is launched.
    """
    place, dim = _checked(vectors=vectors, centroids=centroids)
    if len(centroids) == 0:
        raise ValueError("there are no centroids to assign to; give at least one")
    ids = empty((len(vectors),), "int32", place)
    if len(vectors):
        device = device_of(place)
        arguments = [vectors, np.int64(len(vectors)), centroids, np.int32(len(centroids)), np.int32(dim), ids]
        blocks = grid_of(len(vectors), MANY[0], device, waves=64)
        device.launch(_ASSIGN, (blocks,), (THREADS,), _stages(MANY) + MANY[0] // 16 * THREADS * 8, arguments)
    return ids


def _checked(**arrays: Array) -> tuple[Place, int]:
    """The place and the width of two arrays of rows."""
    place = common_place(**arrays)
    for name, array in arrays.items():
        check(array, name, types=("float32",), ndim=2)
    (one, left), (other, right) = arrays.items()
    dim = int(left.shape[1])
    if int(right.shape[1]) != dim:
        raise ValueError(f"{one} have {dim} dimensions and {other} {right.shape[1]}; they must be of one space")
    if dim >= 2**23 or len(right) >= 2**31 - 128:
        raise ValueError(f"{other} must be fewer than 2**31 - 128, of fewer than 2**23 dimensions; given {tuple(right.shape)}")
    return place, dim


def _stages(tile: tuple[int, int]) -> int:
    """Bytes of shared memory for two stages, with four floats after each dimension."""
    return 2 * DEPTH * (sum(tile) + 8) * 4
