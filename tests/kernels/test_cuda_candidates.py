"""The union of inverted lists on a device: against sets, words and blocks of every size, and bad input."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colbert_research import kernels
from colbert_research.kernels.cuda import candidates
from colbert_research.ragged import Ragged, offsets_of
from tests.kernels.cuda_arenas import arena_of, computed, numpy_of, poison_of

arena, _poison = arena_of(candidates.KERNELS), poison_of(candidates)
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def packed(lists: list[list[int]]) -> Ragged:
    return Ragged(np.array([d for documents in lists for d in documents], np.int32), offsets_of([len(d) for d in lists]))


@few
@given(lists=st.lists(st.lists(st.integers(0, 99), max_size=30), max_size=8), data=st.data())
def test_sets(arena, lists, data):
    chosen = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=12)) if lists else []
    ragged, expected = packed(lists), sorted({d for i in chosen for d in lists[i]})
    positions = np.array(chosen, np.int64)
    got = computed(arena, candidates.union, ragged.values, ragged.offsets, positions, 100)
    assert got.dtype == np.int64
    assert got.tolist() == expected
    with arena:
        assert kernels.union(ragged, positions, 100, backend="cuda").tolist() == expected


@pytest.mark.parametrize("n_documents", [1, 31, 32, 33, 8191, 8192, 8193, 100_000])
@pytest.mark.parametrize("share", [0.003, 1.0])
def test_around_words_and_blocks(rng, arena, n_documents, share):
    lists = [np.flatnonzero(rng.random(n_documents) < share).tolist() for _ in range(3)]
    ragged = packed([[], *lists, [0]])
    chosen = np.array([3, 0, 1, 3])
    got = computed(arena, candidates.union, ragged.values, ragged.offsets, chosen, n_documents)
    assert np.array_equal(got, kernels.union(ragged, chosen, n_documents, backend="reference"))


def test_wrong_numbers_do_no_harm(arena):
    values, offsets = np.array([3, -1, 99, 5, 2**31 - 1, 7], np.int32), np.array([0, 3, 900, -5, 6])
    chosen = np.array([-1, 0, 1, 2, 3, 4, 2**62])
    assert computed(arena, candidates.union, values, offsets, chosen, 8).tolist() == [3, 5, 7]


def test_room(arena):
    ragged, chosen = packed([[4, 9, 4], [2]]), np.array([0, 1])
    assert computed(arena, candidates.union, ragged.values, ragged.offsets, chosen, 50, most=4).tolist() == [2, 4, 9]
    with pytest.raises(ValueError, match="3 documents are in the chosen lists and most=2"):
        computed(arena, candidates.union, ragged.values, ragged.offsets, chosen, 50, most=2)
    with arena:
        given = [arena.tensor(a) for a in (ragged.values, ragged.offsets, chosen)]
        positions, found = candidates.union_padded(*given, 50, most=2)
    assert numpy_of(positions).tolist() == [2, 4]
    assert numpy_of(found).tolist() == [3]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"values": np.zeros(3, np.int64)}, TypeError, "values must be int32; given int64"),
        ({"offsets": np.zeros(2, np.int32)}, TypeError, "offsets must be int64; given int32"),
        ({"offsets": np.zeros(0, np.int64)}, ValueError, "at least one; given none"),
        ({"chosen": np.zeros((1, 1), np.int64)}, ValueError, r"chosen must have 1 axes; given shape \(1, 1\)"),
        ({"chosen": torch.zeros(1, dtype=torch.int64)}, ValueError, "values lies in numpy on the CPU and chosen in torch"),
        ({"n_documents": -1}, ValueError, "n_documents must lie between"),
        ({"n_documents": 2**31}, ValueError, "n_documents must lie between"),
        ({"most": -1}, ValueError, "most must not be negative; given -1"),
        ({}, ValueError, "takes arrays on a CUDA device; given numpy on the CPU"),
    ],
)
def test_bad_input(changes, error, message):
    given = {"values": np.zeros(3, np.int32), "offsets": np.array([0, 3]), "chosen": np.array([0]), "n_documents": 5}
    with pytest.raises(error, match=message):
        candidates.union(**(given | changes))
