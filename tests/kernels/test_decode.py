"""Decoding in compiled code: the bits of `CodedTokens.decode`, for every kind of code."""

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.kernels.operands import CodedTokens, ProductTable, ResidualTable
from colbert_research.ragged import offsets_of


@pytest.mark.parametrize("dim", [1, 5, 13, 64, 128])
@pytest.mark.parametrize("with_norms", [False, True])
@pytest.mark.parametrize("n_centroids", [0, 9])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_residual(rng, bits, n_centroids, with_norms, dim):
    centroids = rng.standard_normal((n_centroids, dim)).astype(np.float32) if n_centroids else None
    levels, scales = rng.standard_normal(2**bits).astype(np.float32), rng.uniform(0.1, 2, dim).astype(np.float32)
    table = ResidualTable(scales, levels, centroids)
    for n in (0, 1, 3000):
        codes = rng.integers(0, 256, (n, table.packed_width)).astype(np.uint8)
        ids = rng.integers(0, n_centroids, n).astype(rng.choice([np.uint16, np.int32])) if n_centroids else None
        norms = rng.uniform(0.5, 2, n).astype(np.float16) if with_norms else None
        tokens = CodedTokens(table, codes, offsets_of([n]), ids, norms)
        decoded = kernels.decode(tokens, backend="cpu")
        assert decoded.dtype == np.float32
        assert np.array_equal(decoded, tokens.decode())


def test_product(rng):
    table = ProductTable(rng.standard_normal((4, 256, 3)).astype(np.float32))
    tokens = CodedTokens(table, rng.integers(0, 256, (7, 4)).astype(np.uint8), offsets_of([7]))
    assert np.array_equal(kernels.decode(tokens, backend="cpu"), tokens.decode())
