"""Documents by their centroids: bits counted by Python's sets, best scores by its `max`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research import kernels
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search.emvb import masks_of


@pytest.mark.parametrize("backend", kernels.HOST_BACKENDS)
@settings(max_examples=25, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(0, 8), max_size=6), max_size=8),
    n_tokens=st.sampled_from([1, 8, 63, 64, 65, 130]),
    dtype=st.sampled_from([np.uint16, np.int32, np.int64]),
    seed=st.integers(0, 50),
)
def test_covered_query_tokens(backend, documents, n_tokens, dtype, seed):
    covers = np.random.default_rng(seed).random((n_tokens, 9)) < 0.3
    covers[-1, 0] = True  # the highest bit too
    masks = masks_of(covers)
    assert masks.shape == (9, -(-n_tokens // 64))
    ids = Ragged(np.array([c for d in documents for c in d], dtype), offsets_of([len(d) for d in documents]))
    expected = [len({q for c in d for q in np.flatnonzero(covers[:, c]).tolist()}) for d in documents]
    assert kernels.coverage(masks, ids, backend=backend).tolist() == expected
    order = np.arange(len(documents))[::-1]
    assert kernels.coverage(masks, ids, only=order, backend=backend).tolist() == expected[::-1]


@pytest.mark.parametrize("backend", kernels.HOST_BACKENDS)
@settings(max_examples=25, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(0, 8), max_size=6), max_size=8),
    n_tokens=st.sampled_from([1, 15, 16, 17, 40]),
    dtype=st.sampled_from([np.uint16, np.int32]),
)
def test_best_centroids(backend, documents, n_tokens, dtype):
    scores = np.random.default_rng(n_tokens).standard_normal((n_tokens, 9)).astype(np.float32)
    ids = Ragged(np.array([c for d in documents for c in d], dtype), offsets_of([len(d) for d in documents]))
    expected = [[max((row[c] for c in d), default=-np.inf) for row in scores.tolist()] for d in documents]
    assert kernels.centroid_maxima(scores, ids, backend=backend).tolist() == expected
    order = np.arange(len(documents))[::-1]
    assert kernels.centroid_maxima(scores, ids, only=order, backend=backend).tolist() == expected[::-1]


def test_positions_outside_are_refused():
    with pytest.raises(IndexError, match="between 0 and 0"):
        kernels.coverage(np.zeros((3, 1), np.uint64), Ragged(np.zeros(2, np.uint16), offsets_of([2])), only=np.array([1]))
