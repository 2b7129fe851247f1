"""Products with read-only rows are kept; with rows that may change they never are."""

import numpy as np

from colbert_research import kernels


def test_rows_that_change(rng):
    query, rows = rng.standard_normal((3, 8)).astype(np.float32), rng.standard_normal((5, 8)).astype(np.float32)
    for _ in range(3):
        assert np.allclose(kernels.dot_products(query, rows, backend="cpu"), query @ rows.T, atol=1e-5)
        rows *= -2
    rows.flags.writeable = False
    for asked in (query, query, query + 1, query):
        assert np.allclose(kernels.dot_products(asked, rows, backend="cpu"), asked @ rows.T, atol=1e-4)
    assert not kernels.dot_products(query, rows, backend="cpu").flags.writeable
