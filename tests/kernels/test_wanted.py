"""The tokens whose centroid is wanted: every backend against a loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research import kernels
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.threads import available, pinned_threads

every_backend = pytest.mark.parametrize("backend", kernels.HOST_BACKENDS)
K = 7
documents_of_ids = st.lists(st.lists(st.integers(0, K - 1), max_size=8), max_size=10)


def looped(wanted, documents, only) -> list[tuple[int, int]]:
    starts = np.cumsum([0, *map(len, documents)])
    return [(starts[d] + i, place) for place, d in enumerate(only) for i, c in enumerate(documents[d]) if wanted[c]]


@every_backend
@settings(max_examples=40, deadline=None)
@given(documents=documents_of_ids, wanted=st.lists(st.booleans(), min_size=K, max_size=K), data=st.data())
def test_the_loop(backend, documents, wanted, data):
    dtype = data.draw(st.sampled_from([np.uint16, np.int32, np.int64]))
    tokens = Ragged(np.array([c for d in documents for c in d], dtype), offsets_of([len(d) for d in documents]))
    only = data.draw(st.none() | st.lists(st.integers(0, len(documents) - 1), max_size=12)) if documents else None
    positions = None if only is None else np.array(only, np.int64)
    rows, of = kernels.wanted_tokens(np.array(wanted), tokens, only=positions, backend=backend)
    assert rows.dtype == of.dtype == np.int64
    assert list(zip(rows, of, strict=True)) == looped(wanted, documents, range(len(documents)) if only is None else only)


def test_parts_and_threads_change_nothing(rng):
    tokens = Ragged(rng.integers(0, 500, 60_000).astype(np.uint16), offsets_of(rng.multinomial(60_000, [1 / 700] * 700)))
    wanted, only = rng.random(500) < 0.3, rng.permutation(700)[:600]
    expected = kernels.wanted_tokens(wanted, tokens, only=only, backend="reference")
    for threads in {1, available()}:
        with pinned_threads(threads):
            got = kernels.wanted_tokens(wanted, tokens, only=only, backend="cpu")
        assert all(map(np.array_equal, got, expected))


@every_backend
def test_documents_outside_are_refused(backend):
    tokens = Ragged(np.zeros(3, np.uint16), offsets_of([1, 2]))
    with pytest.raises(IndexError, match="between 0 and 1"):
        kernels.wanted_tokens(np.ones(1, bool), tokens, only=np.array([2]), backend=backend)
