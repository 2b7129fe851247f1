"""The nearest centroid of each vector on a device: the ids of `kernels.assign`, products summed as the backend cpu does."""

import numpy as np

from colbert_research.kernels.cuda.arrays import Array, check, common_place, empty
from colbert_research.kernels.cuda.launch import Kernel, device_of, grid_of

THREADS = 256
SIDE = 128  # vectors of a block
PART = 8  # dimensions in shared memory at a time

KERNELS = (Kernel("assign.cu", "assign"),)


def assign(vectors: Array, centroids: Array) -> Array:
    """The centroid with the largest dot product, for each vector: `(n,)` int32; ties go to the smaller id.

    `vectors` `(n, dim)`, `centroids` `(K, dim)`, float32. A vector whose products are no numbers gets 0. Raises TypeError and
    ValueError, also for vectors and no centroids.
    """
    place = common_place(vectors=vectors, centroids=centroids)
    for name, array in (("vectors", vectors), ("centroids", centroids)):
        check(array, name, types=("float32",), ndim=2)
    if vectors.shape[1] != centroids.shape[1]:
        raise ValueError(f"vectors have {vectors.shape[1]} dimensions and centroids {centroids.shape[1]}; give one width")
    if len(centroids) >= 2**31:
        raise ValueError(f"there may be 2^31 - 1 centroids; given {len(centroids)}")
    if len(vectors) and not len(centroids):
        raise ValueError(f"{len(vectors)} vectors and no centroid to assign them to")
    ids = empty((len(vectors),), "int32", place)
    if len(vectors):
        device = device_of(place)
        arguments = [vectors, np.int64(len(vectors)), centroids, np.int64(len(centroids)), np.int32(vectors.shape[1]), ids]
        grid = (grid_of(len(vectors), SIDE, device, waves=64),)
        device.launch(KERNELS[0], grid, (THREADS,), 2 * PART * SIDE * 4, arguments)
    return ids
