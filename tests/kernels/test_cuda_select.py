"""The best scores, the greatest of rows, and unions of lists on a device: exactly those of NumPy, whatever the ties.

Emulated, first thread first and last thread first; the same tests run on a GPU where there is one.
"""

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.kernels import reference
from colbert_research.kernels.cuda import launch, select, union
from colbert_research.kernels.cuda.arrays import to_numpy
from colbert_research.ragged import Ragged, offsets_of
from tests.kernels.cuda_arenas import ORDERS, arena_of, poison


@pytest.fixture(scope="module", params=ORDERS)
def arena(request):
    return arena_of(request, [*select.KERNELS, *union.KERNELS])


@pytest.fixture(autouse=True)
def _poison(monkeypatch):
    poison(monkeypatch, select, union)


def best_of(arena, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    with arena:
        return tuple(map(to_numpy, select.topk(arena.tensor(scores), k)))


def scores_like(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(len(kind))
    if kind == "close":  # only the last bits differ
        return np.nextafter(np.float32(20), np.float32(30)) + rng.integers(0, 9, shape).astype(np.float32) * 2e-6
    if kind == "few":  # a handful of values, zeros of both signs, infinities
        return rng.choice(np.array([-0.0, 0.0, 1, -1, 1e-45, -1e-45, np.inf, -np.inf, 3e38], np.float32), shape)
    return np.full(shape, 2.5, np.float32) if kind == "same" else rng.normal(0, 10, shape).astype(np.float32)


@pytest.mark.parametrize("width", [1, 255, 4096, 9000])
@pytest.mark.parametrize("kind", ["normal", "close", "few", "same"])
def test_topk_is_that_of_the_host(arena, kind, width):
    scores = scores_like(kind, (3, width))
    for k in (1, 10, 300, 9001):
        places, found = best_of(arena, scores, k)
        assert places.shape == (3, k)
        for row, best, n in zip(scores, places, found, strict=True):
            assert best[:n].tolist() == kernels.topk(row, k).tolist()
            assert (best[n:] == -1).all()


def test_topk_without_scores(arena):
    places, found = best_of(arena, np.empty((2, 0), np.float32), 3)
    assert found.tolist() == [0, 0]
    assert (places == -1).all()
    assert best_of(arena, np.empty((0, 5), np.float32), 3)[0].shape == (0, 3)
    places, found = best_of(arena, np.full((1, 600), -np.inf, np.float32), 3)
    assert found.tolist() == [0]


def test_topk_tells_of_what_is_not_a_number(arena):
    scores = scores_like("normal", (3, 700))
    scores[1, 699] = np.nan
    assert best_of(arena, scores, 5)[1].tolist() == [5, -1, 5]


@pytest.mark.parametrize("kind", ["normal", "close", "few", "same"])
@pytest.mark.parametrize(("width", "n"), [(1, 1), (700, 4), (5000, 40), (300, 300)])
def test_greatest_is_that_of_the_reference(arena, kind, width, n):
    scores = scores_like(kind, (5, width))
    with arena:
        found = to_numpy(select.greatest(arena.tensor(scores), n))
    assert np.array_equal(found, reference.greatest(scores, n))


def test_what_is_not_a_number_is_never_greatest(arena):
    scores = np.array([[np.nan, -np.inf, 3, np.nan, 3]], np.float32)
    with arena:
        found = to_numpy(select.greatest(arena.tensor(scores), 5))
    assert found.tolist() == [[2, 4, 1, 0, 3]]


@pytest.mark.parametrize("n_documents", [1, 31, 32, 33, 3000, 40000])
def test_union_is_that_of_the_reference(arena, n_documents):
    rng = np.random.default_rng(n_documents)
    lengths = [0, 5, 700, 1, 0, 90, 2]
    lists = Ragged(rng.integers(0, n_documents, sum(lengths)).astype(np.int32), offsets_of(lengths))
    for chosen in ([], [0], [2, 5, 2, 2], [6, 5, 4, 3, 2, 1, 0]):
        asked = np.array(chosen, np.int64)
        with arena:
            given = [arena.tensor(a) for a in (lists.values, lists.offsets, asked)]
            places, found = map(to_numpy, union.union(*given, n_documents))
        assert places.shape == (n_documents,)
        assert places[: found[0]].tolist() == reference.union(lists, asked, n_documents).tolist()


def test_lists_and_documents_that_there_are_not_are_passed_over(arena):
    with arena:
        given = [
            arena.tensor(np.array(values, kind))
            for values, kind in (([3, -1, 7, 10, 5], np.int32), ([0, 4, 99, 4], np.int64), ([0, -1, 3, 1, 2], np.int64))
        ]
        places, found = map(to_numpy, union.union(*given, 10))
    assert places[: found[0]].tolist() == [3, 5, 7]
    with arena:
        places, found = map(to_numpy, union.union(*given, 0))
    assert found.tolist() == [0]


def test_bad_input(emulate):
    scores, ids, lists = np.zeros((2, 5), np.float32), np.zeros(3, np.int64), np.zeros(3, np.int32)
    with launch.emulated(emulate([*select.KERNELS, *union.KERNELS])):
        with pytest.raises(ValueError, match="k must be at least 1; given 0"):
            select.topk(scores, 0)
        with pytest.raises(TypeError, match="scores must be float32; given float64"):
            select.topk(scores.astype(np.float64), 1)
        with pytest.raises(ValueError, match="scores must have 2 axes"):
            select.topk(scores[0], 1)
        with pytest.raises(ValueError, match="n must lie between 1 and the 5 scores of a row; given 6"):
            select.greatest(scores, 6)
        with pytest.raises(TypeError, match="documents must be int32; given int64"):
            union.union(ids, ids, ids, 3)
        with pytest.raises(ValueError, match="at least one; given none"):
            union.union(lists, ids[:0], ids, 3)
        with pytest.raises(ValueError, match="n_documents must lie between 0"):
            union.union(lists, ids, ids, -1)
