"""Centroid interaction and assignment on a device, bit for bit: against NumPy, against the backend cpu, and bad input.

Emulated, first thread first and last thread first; the same tests run on a GPU where there is one.
"""

from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.kernels.cuda import assign, interaction, launch
from colbert_research.kernels.cuda.arrays import to_numpy
from colbert_research.ragged import Ragged, offsets_of
from tests.kernels.cuda_arenas import ORDERS, arena_of, poison
from tests.kernels.cuda_codes_cases import products

LENGTHS = [7, 0, 1, 128, 33, 250, 3, 64, 127, 0]
needs_cpu = pytest.mark.skipif(find_spec("numba") is None, reason="the backend cpu needs Numba")


@pytest.fixture(scope="module", params=ORDERS)
def arena(request):
    return arena_of(request, [*interaction.KERNELS, *assign.KERNELS])


@pytest.fixture(autouse=True)
def _poison(monkeypatch):
    poison(monkeypatch, interaction, assign)


def case(n_tokens: int, n_centroids: int, kind: type = np.uint16) -> tuple[np.ndarray, Ragged]:
    rng = np.random.default_rng(n_tokens)
    scores = rng.uniform(-1, 1, (n_tokens, n_centroids)).astype(np.float32)
    return scores, Ragged(rng.integers(0, n_centroids, sum(LENGTHS)).astype(kind), offsets_of(LENGTHS))


def scores_of(arena, scores, tokens, kept=None, only=None) -> np.ndarray:
    with arena:
        kept, only = (None if given is None else arena.tensor(np.asarray(given)) for given in (kept, only))
        given = [arena.tensor(np.asarray(a)) for a in (scores, tokens.values, tokens.offsets)]
        return to_numpy(interaction.centroid_interaction(*given, kept=kept, only=only))


def oracle(scores: np.ndarray, tokens: Ragged, kept: np.ndarray) -> np.ndarray:
    """The formula of kernels/cpu/interaction.py: float32 up to the bytes, float64 from the sum of bytes on."""
    low, high = float(scores.min()), float(scores.max())
    unit = (high - low) / 254 if high > low else 1.0
    table = ((scores - np.float32(low)) * np.float32(1 / unit) + np.float32(0.5)).astype(np.int64) + 1
    table[:, ~kept] = 0
    found = np.full(len(tokens), -np.inf)
    for i, (first, last) in enumerate(pairwise(tokens.offsets)):
        best = table[:, tokens.values[first:last]].max(axis=1, initial=0)
        if best.any():
            found[i] = (best.sum() - len(scores)) * unit + len(scores) * low
    return found.astype(np.float32)


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
@pytest.mark.parametrize("n_tokens", [1, 15, 16, 17, 32, 33, 70])
def test_interaction_is_that_of_numpy(arena, n_tokens, kind):
    scores, tokens = case(n_tokens, 300, kind)
    everything = np.ones(300, np.bool_)
    assert np.array_equal(scores_of(arena, scores, tokens), oracle(scores, tokens, everything))
    kept = scores.max(axis=0) > np.quantile(scores.max(axis=0), 0.97)
    expected = oracle(scores, tokens, kept)
    assert np.isinf(expected).sum() > 2
    assert np.array_equal(scores_of(arena, scores, tokens, kept), expected)
    places = [9, 3, 3, 0]
    assert np.array_equal(scores_of(arena, scores, tokens, kept, places), expected[places])


def test_interaction_of_equal_scores_and_of_nothing(arena):
    scores, tokens = case(5, 40)
    scores[:] = -0.25
    expected = np.where(np.array(LENGTHS) > 0, np.float32(-1.25), -np.inf)
    assert np.array_equal(scores_of(arena, scores, tokens), expected)
    assert scores_of(arena, scores[:0], tokens).tolist() == [0] * len(LENGTHS)
    assert scores_of(arena, scores, tokens, only=np.zeros(0, np.int64)).shape == (0,)
    assert scores_of(arena, scores, Ragged(np.zeros(0, np.uint16), offsets_of([0, 0]))).tolist() == [-np.inf] * 2
    assert scores_of(arena, scores, tokens, only=np.array([99, -1])).tolist() == [-np.inf] * 2


@needs_cpu
@pytest.mark.parametrize("n_tokens", [1, 16, 32, 70])
def test_interaction_is_that_of_the_backend_cpu(arena, n_tokens):
    scores, tokens = case(n_tokens, 300)
    kept = np.random.default_rng(0).random(300) < 0.5
    for chosen in (None, kept):
        expected = kernels.centroid_interaction(scores, tokens, kept=chosen, backend="cpu")
        assert np.array_equal(scores_of(arena, scores, tokens, chosen), expected)


def ids_of(arena, vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    with arena:
        return to_numpy(assign.assign(arena.tensor(vectors), arena.tensor(centroids)))


@pytest.mark.parametrize(("n", "n_centroids", "dim"), [(1, 1, 1), (130, 300, 20), (5, 129, 48), (300, 2, 8)])
def test_assignment_sums_in_order(arena, n, n_centroids, dim):
    rng = np.random.default_rng(n)
    vectors, centroids = rng.standard_normal((n, dim)), rng.standard_normal((n_centroids, dim))
    vectors, centroids = vectors.astype(np.float32), centroids.astype(np.float32)
    assert np.array_equal(ids_of(arena, vectors, centroids), products(vectors, centroids).argmax(axis=1))


def test_ties_go_to_the_smaller_centroid(arena):
    rng = np.random.default_rng(0)
    vectors = rng.integers(-1, 2, (200, 4)).astype(np.float32)
    centroids = rng.integers(-1, 2, (500, 4)).astype(np.float32)
    exact = vectors.astype(np.int64) @ centroids.astype(np.int64).T
    assert np.array_equal(ids_of(arena, vectors, centroids), exact.argmax(axis=1))
    vectors[3] = np.nan
    assert ids_of(arena, vectors, centroids)[3] == 0
    assert ids_of(arena, vectors[:0], centroids).shape == (0,)


@needs_cpu
def test_assignment_is_that_of_the_backend_cpu(arena):
    """Centroids so close together that the last bit of a product decides."""
    rng = np.random.default_rng(1)
    centroids = (rng.standard_normal(64) + 1e-7 * rng.standard_normal((200, 64))).astype(np.float32)
    vectors = rng.standard_normal((150, 64)).astype(np.float32)
    found = ids_of(arena, vectors, centroids)
    assert len(set(found.tolist())) > 50
    assert np.array_equal(found, kernels.assign(vectors, centroids, backend="cpu"))


def test_bad_input(emulate):
    scores, tokens = case(4, 10)
    offsets = np.asarray(tokens.offsets)
    rows = np.zeros((3, 4), np.float32)
    with launch.emulated(emulate([*interaction.KERNELS, *assign.KERNELS])):
        with pytest.raises(TypeError, match="centroid_ids must be uint16 or int32; given int64"):
            interaction.centroid_interaction(scores, tokens.values.astype(np.int64), offsets)
        with pytest.raises(ValueError, match="kept must tell for each of the 10 centroids; given 9"):
            interaction.centroid_interaction(scores, tokens.values, offsets, kept=np.ones(9, np.bool_))
        with pytest.raises(ValueError, match="at least one; given none"):
            interaction.centroid_interaction(scores, tokens.values, offsets[:0])
        with pytest.raises(ValueError, match="scores are of none"):
            interaction.centroid_interaction(scores[:, :0], tokens.values, offsets)
        with pytest.raises(ValueError, match="vectors have 4 dimensions and centroids 3"):
            assign.assign(rows, np.ascontiguousarray(rows[:, :3]))
        with pytest.raises(ValueError, match="3 vectors and no centroid"):
            assign.assign(rows, rows[:0])
        with pytest.raises(TypeError, match="vectors must be float32; given float16"):
            assign.assign(rows.astype(np.float16), rows)
