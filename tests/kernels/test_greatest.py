"""The greatest of each row: order, ties, and every way in which the scores may lie in memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research import kernels
from colbert_research.ragged import Ragged

BACKENDS = [name for name in kernels.HOST_BACKENDS if name != "reference"]


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40), width=st.integers(1, 200), grain=st.sampled_from([0.0, 0.5, 4.0]))
def test_order_and_ties(backend, seed, rows, width, grain):
    """`grain` rounds the scores so far that many are equal."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((rows, width)).astype(np.float32)
    scores = np.round(scores / grain) * grain if grain else scores
    n = int(rng.integers(1, width + 1))
    expected = kernels.greatest(scores, n, backend="reference")
    assert np.array_equal(kernels.greatest(scores, n, backend=backend), expected)
    assert np.array_equal(kernels.greatest(np.asfortranarray(scores), n, backend=backend), expected)


@pytest.mark.parametrize("n_tokens", [1, 4, 5, 16, 17, 33])
@pytest.mark.parametrize("n_rows", [1, 15, 16, 33, 300])
def test_of_products(rng, n_tokens, n_rows):
    """Products come in a layout of their own, from which nothing is copied; parts of them too."""
    query, rows = rng.standard_normal((n_tokens, 24)).astype(np.float32), rng.standard_normal((n_rows, 24)).astype(np.float32)
    scores = kernels.dot_products(query, rows, backend="cpu")
    for part in (scores, scores[: n_tokens // 2 + 1], scores[n_tokens // 2 :], scores[:, : n_rows // 2 + 1]):
        for n in {1, min(3, part.shape[1]), part.shape[1]}:
            expected = kernels.greatest(part.copy(), n, backend="reference")
            assert np.array_equal(kernels.greatest(part, n, backend="cpu"), expected)


@pytest.mark.parametrize("n", [0, 6])
def test_more_than_there_are(n):
    with pytest.raises(ValueError, match=f"between 1 and the 5 scores of a row; given {n}"):
        kernels.greatest(np.zeros((2, 5), np.float32), n)


@pytest.mark.parametrize("backend", BACKENDS)
def test_few_above_minus_infinity(backend):
    scores = np.full((3, 5), -np.inf, np.float32)
    scores[0, 3], scores[1, [1, 4]], scores[2, 2] = 1, (2, 3), np.nan
    for n in (1, 2, 4, 5):
        expected = kernels.greatest(scores, n, backend="reference")
        assert np.array_equal(kernels.greatest(scores, n, backend=backend), expected)
    assert kernels.greatest(scores, 3, backend=backend).tolist() == [[3, 0, 1], [4, 1, 0], [0, 1, 3]]


def test_a_list_that_is_not_there():
    lists = Ragged(np.array([0, 1], np.int32), np.array([0, 1, 2]))
    for chosen in ([2], [-1]):
        with pytest.raises(IndexError, match="positions must lie between 0 and 1"):
            kernels.union(lists, np.array(chosen), 2)
