"""`token_maxima` against maxima of single tokens' scores: bit for bit, whatever is chosen, on any number of threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research import kernels, threads
from colbert_research.kernels.operands import CodedTokens
from colbert_research.ragged import Ragged, offsets_of
from tests.kernels.test_integer import scores_of_tokens, tokens_of

NEGATIVE = np.float32(-np.inf)
KINDS = [*(("residual", bits) for bits in (1, 2, 4, 8)), *(("product", sub) for sub in (1, 4, 12))]


def in_float64(query: np.ndarray, tokens: CodedTokens) -> np.ndarray:
    """Each query token with each document token `(n_query_tokens, n)`, all of them texts of their own."""
    alone = CodedTokens(tokens.table, tokens.codes, np.arange(len(tokens.codes) + 1), tokens.centroid_ids, tokens.inverse_norms)
    return kernels.maxsim_codes(Ragged(query, np.arange(len(query) + 1)), alone, backend="reference")


def oracle(scores: np.ndarray, ids: np.ndarray, rows, positions, n_documents: int, wanted: np.ndarray) -> np.ndarray:
    found = np.full((n_documents, len(scores)), NEGATIVE)
    np.maximum.at(found, np.asarray(positions, np.int64), np.where(wanted[ids[rows]], scores.T[rows], NEGATIVE))
    return found


@pytest.mark.parametrize("backend", kernels.HOST_BACKENDS)
@pytest.mark.parametrize("n_tokens", [1, 17, 40])
@pytest.mark.parametrize("dim", [12, 96, 384])
@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_maxima_of_single_tokens(kind, size, dim, n_tokens, backend):
    rng = np.random.default_rng(n_tokens)
    tokens = tokens_of(kind, size, 11, dim, seed=n_tokens)
    tokens.inverse_norms[::7] = 0  # as of vectors that are all zeros
    query = rng.standard_normal((n_tokens, dim)).astype(np.float32)
    rows, positions = rng.integers(0, len(tokens.codes), 150), rng.integers(0, 20, 150)
    wanted = rng.random((11, n_tokens)) < 0.3
    got = kernels.token_maxima(query, tokens, rows, positions, 21, wanted, backend=backend)
    scores = scores_of_tokens(query, tokens) if backend == "cpu" else in_float64(query, tokens)
    assert got.dtype == np.float32
    assert np.array_equal(got, oracle(scores, tokens.centroid_ids, rows, positions, 21, wanted))
    assert np.isneginf(got[20]).all()


@settings(max_examples=30, deadline=None)
@given(chosen=st.lists(st.tuples(st.integers(0, 341), st.integers(0, 5)), max_size=60), n_tokens=st.integers(1, 35))
def test_any_choice_in_any_order(chosen, n_tokens):
    tokens = tokens_of("residual", 4, 11, 16)
    query = np.random.default_rng(n_tokens).standard_normal((n_tokens, 16)).astype(np.float32)
    wanted = np.random.default_rng(0).random((11, n_tokens)) < 0.4
    rows, positions = np.array([r for r, _ in chosen], np.int64), np.array([p for _, p in chosen], np.int64)
    got = kernels.token_maxima(query, tokens, rows, positions, 6, wanted)
    expected = oracle(scores_of_tokens(query, tokens), tokens.centroid_ids, rows, positions, 6, wanted)
    assert np.array_equal(got, expected)
    assert np.array_equal(kernels.token_maxima(query, tokens, rows[::-1], positions[::-1], 6, wanted), expected)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads_change_nothing(n_threads, monkeypatch):
    rng = np.random.default_rng(3)
    tokens, query = tokens_of("residual", 2, 11, 32), rng.standard_normal((5, 32)).astype(np.float32)
    rows, positions = rng.integers(0, len(tokens.codes), 60_000), rng.integers(0, 300, 60_000)
    wanted = rng.random((11, 5)) < 0.5
    monkeypatch.setattr(threads, "count", lambda: n_threads)
    got = kernels.token_maxima(query, tokens, rows, positions, 300, wanted)
    scores = scores_of_tokens(query, tokens)
    assert np.array_equal(got, oracle(scores, tokens.centroid_ids, rows, positions, 300, wanted))


def test_everything_wanted_sums_to_maxsim():
    tokens = tokens_of("residual", 4, 11, 64)
    query = np.random.default_rng(1).standard_normal((9, 64)).astype(np.float32)
    lengths = np.diff(tokens.offsets)
    positions, rows = np.repeat(np.arange(len(lengths)), lengths), np.arange(len(tokens.codes))
    maxima = kernels.token_maxima(query, tokens, rows, positions, len(lengths), np.ones((11, 9), np.bool_))
    sums = np.add.accumulate(maxima, axis=1, dtype=np.float32)[:, -1]
    assert np.array_equal(sums, kernels.maxsim_codes(Ragged(query, offsets_of([9])), tokens)[0])


def test_bad_input():
    tokens, query = tokens_of("residual", 4, 11, 16), np.ones((3, 16), np.float32)
    none, wanted = np.empty(0, np.int64), np.ones((11, 3), np.bool_)
    assert kernels.token_maxima(query, tokens, none, none, 0, wanted).shape == (0, 3)
    with pytest.raises(ValueError, match=r"11 centroids and 3 query tokens; given \(3, 11\)"):
        kernels.token_maxima(query, tokens, none, none, 1, wanted.T)
    with pytest.raises(ValueError, match="given 2 rows and 1 positions"):
        kernels.token_maxima(query, tokens, np.array([0, 1]), np.array([0]), 1, wanted)
    with pytest.raises(IndexError, match="between 0 and 341"):
        kernels.token_maxima(query, tokens, np.array([342]), np.array([0]), 1, wanted)
    with pytest.raises(IndexError, match="between 0 and 1"):
        kernels.token_maxima(query, tokens, np.array([0]), np.array([2]), 2, wanted)
    with pytest.raises(ValueError, match="have none, give codes that do"):
        kernels.token_maxima(query, tokens_of("residual", 4, 0, 16), none, none, 1, wanted)
    with pytest.raises(ValueError, match="queries have 15 dimensions"):
        kernels.token_maxima(query[:, :15], tokens, none, none, 1, wanted)
    query[1, 2] = np.nan
    assert np.isnan(kernels.token_maxima(query, tokens, none, none, 2, wanted)).all()
