"""Centroid interaction on a device: the bits of the backend `cpu`, and its formula written down once more in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colbert_research import kernels
from colbert_research.kernels.cuda import interaction
from colbert_research.kernels.cuda.arrays import place_of
from colbert_research.kernels.cuda.tally import tally_for
from colbert_research.ragged import Ragged, offsets_of
from tests.kernels.cuda_arenas import arena_of, computed, poison_of
from tests.kernels.cuda_tally_cases import assert_counted

arena, _poison = arena_of(interaction.KERNELS), poison_of(interaction)
few = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LENGTHS = [[5, 1, 30, 2], [0], [], [0, 7, 0, 300, 1, 64, 65]]


def in_bytes(scores: np.ndarray, tokens: Ragged, kept: np.ndarray | None) -> np.ndarray:
    """The formula of `cpu/interaction.py`, each operation rounded to float32 by itself."""
    low, high = float(scores.min()), float(scores.max())
    unit = (high - low) / 254 if high > low else 1.0
    table = 1 + ((scores - np.float32(low)) * np.float32(1 / unit) + np.float32(0.5)).astype(np.int64)
    if kept is not None:
        table[:, ~kept] = 0
    sums = np.array([table[:, ids.astype(np.int64)].max(axis=1, initial=0).sum() for ids in tokens], np.int64)
    return np.where(sums > 0, (sums - len(scores)) * unit + len(scores) * low, -np.inf).astype(np.float32)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("n_tokens", [1, 16, 17, 32, 40, 130, 530])
@pytest.mark.parametrize("kind", ["uint16", "int32"])
def test_the_bits_of_the_cpu(rng, arena, lengths, n_tokens, kind):
    scores = rng.uniform(-1, 1, (n_tokens, 50)).astype(np.float32)
    tokens = Ragged(rng.integers(0, 50, sum(lengths)).astype(kind), offsets_of(lengths))
    only = rng.permutation(len(lengths))[: len(lengths) // 2 + 1]
    for kept in (None, rng.random(50) < 0.3, np.zeros(50, bool)):
        expected = kernels.centroid_interaction(scores, tokens, kept=kept, backend="cpu")
        assert np.array_equal(expected, in_bytes(scores, tokens, kept))
        with arena:
            got = kernels.centroid_interaction(scores, tokens, kept=kept, backend="cuda")
            assert got.dtype == np.float32
            assert np.array_equal(got, expected)
            some = kernels.centroid_interaction(scores, tokens, kept=kept, only=only, backend="cuda")
        assert np.array_equal(some, expected[only])


@few
@given(seed=st.integers(0, 2**32 - 1), n_tokens=st.integers(1, 40), shift=st.floats(-100, 100), size=st.floats(1e-6, 1e4))
def test_any_range_of_scores(arena, seed, n_tokens, shift, size):
    rng = np.random.default_rng(seed)
    scores = (shift + size * rng.standard_normal((n_tokens, 30))).astype(np.float32)
    tokens = Ragged(rng.integers(0, 30, 60).astype(np.uint16), offsets_of([20, 0, 39, 1]))
    with arena:
        given = [arena.tensor(array) for array in (scores, tokens.values, np.asarray(tokens.offsets))]
        tally = tally_for(1, n_tokens, place_of(given[0]))
        got = interaction.centroid_interaction(*given, tally=tally).cpu().numpy()
    assert np.array_equal(got, kernels.centroid_interaction(scores, tokens, backend="cpu"))
    assert_counted(tally, got[None])


def test_a_query_without_tokens_is_counted(arena):
    with arena:
        given = [arena.tensor(a) for a in (np.zeros((0, 4), np.float32), np.zeros(3, np.int32), offsets_of([1, 2]))]
        tally = tally_for(1, 0, place_of(given[0]))
        got = interaction.centroid_interaction(*given, tally=tally).cpu().numpy()
    assert got.tolist() == [0, 0]
    assert_counted(tally, got[None])


@pytest.mark.parametrize("value", [0.0, -0.0, 3.5, -1e30])
def test_equal_scores(arena, value):
    scores, tokens = np.full((5, 4), value, np.float32), Ragged(np.array([0, 3, 1], np.int32), offsets_of([2, 0, 1]))
    got = computed(arena, interaction.centroid_interaction, scores, tokens.values, tokens.offsets)
    assert np.array_equal(got, kernels.centroid_interaction(scores, tokens, backend="cpu"))


def test_nothing_to_score(arena):
    ids, offsets = np.zeros(0, np.int32), np.zeros(3, np.int64)
    for shape, expected in (((0, 7), [0, 0]), ((3, 0), [-np.inf, -np.inf])):
        got = computed(arena, interaction.centroid_interaction, np.zeros(shape, np.float32), ids, offsets)
        assert got.tolist() == expected


def test_wrong_numbers_do_no_harm(rng, arena):
    """Ids that there are not are left out; spans are cut to the tokens that there are; a place outside has no tokens."""
    scores = rng.uniform(-1, 1, (20, 9)).astype(np.float32)
    ids = np.array([1, -1, 4, 9, 2**31 - 1, 3, -(2**31), 8], np.int32)
    offsets = np.array([0, 2, 900, -4, 7, 8])
    right = Ragged(np.array([1, 4, 3, 8, 1, 4, 3, 8], np.int32), offsets_of([1, 3, 0, 3, 1]))
    only = np.array([4, 0, 3, 5, 1, -1, 2, 2**62])
    got = computed(arena, interaction.centroid_interaction, scores, ids, offsets, only=only)
    expected = np.append(in_bytes(scores, right, None), np.float32(-np.inf))
    assert np.array_equal(got, expected[[4, 0, 3, 5, 1, 5, 2, 5]])
    for value in (np.nan, np.inf, -np.inf):
        scores[3, 4] = value
        assert computed(arena, interaction.centroid_interaction, scores, ids, offsets).shape == (5,)


def test_more_tokens_than_32_bits_count(rng, arena):
    """Tokens behind the 2^31st; memory before them is never touched, so none of it is taken."""
    if arena._device is not None:
        pytest.skip("would copy 4 GiB to the device")
    scores, before = rng.uniform(-1, 1, (3, 50)).astype(np.float32), 2**31 + 7
    few = Ragged(rng.integers(0, 50, 30).astype(np.uint16), offsets_of([10, 0, 20]))
    ids = np.zeros(before + 30, np.uint16)
    ids[before:] = few.values
    got = computed(arena, interaction.centroid_interaction, scores, ids, few.offsets + before)
    assert np.array_equal(got, kernels.centroid_interaction(scores, few, backend="cpu"))


def test_more_ids_than_16_bits_tell_apart(rng, arena):
    scores = rng.uniform(-1, 1, (3, 70_000)).astype(np.float32)
    ids = np.array([65_535, 65_536, 69_999, 4], np.int32)
    tokens = Ragged(ids, offsets_of([1, 1, 2]))
    got = computed(arena, interaction.centroid_interaction, scores, ids, tokens.offsets)
    assert np.array_equal(got, kernels.centroid_interaction(scores, tokens, backend="cpu"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"scores": np.zeros((2, 5))}, TypeError, "scores must be float32; given float64"),
        ({"scores": np.zeros(5, np.float32)}, ValueError, r"scores must have 2 axes; given shape \(5,\)"),
        ({"scores": np.zeros((5, 2), np.float32).T}, ValueError, "scores must be contiguous"),
        ({"ids": np.zeros(3, np.int64)}, TypeError, "ids must be uint16 or int32; given int64"),
        ({"offsets": np.zeros(0, np.int64)}, ValueError, "at least one; given none"),
        ({"offsets": np.zeros(2, np.int32)}, TypeError, "offsets must be int64; given int32"),
        ({"kept": np.ones(4, bool)}, ValueError, "kept must tell for each of 5 centroids; given 4"),
        ({"kept": np.ones(5)}, TypeError, "kept must be bool or uint8; given float64"),
        ({"only": np.zeros(1, np.int32)}, TypeError, "only must be int64; given int32"),
        ({"only": torch.zeros(1, dtype=torch.int64)}, ValueError, "scores lies in numpy on the CPU and only in torch"),
        ({}, ValueError, "takes arrays on a CUDA device; given numpy on the CPU"),
    ],
)
def test_bad_input(changes, error, message):
    given = {"scores": np.zeros((2, 5), np.float32), "ids": np.zeros(3, np.int32), "offsets": np.array([0, 3])}
    with pytest.raises(error, match=message):
        interaction.centroid_interaction(**(given | changes))


def test_tensors_in_tensors_out(rng, arena):
    scores, ids = rng.uniform(-1, 1, (4, 9)).astype(np.float32), rng.integers(0, 9, 12).astype(np.int32)
    tokens = Ragged(ids, offsets_of([5, 7]))
    stored = tokens.map(arena.tensor)
    with arena:
        got = kernels.centroid_interaction(arena.tensor(scores), stored, backend="cuda")
    assert isinstance(got, torch.Tensor)
    assert np.array_equal(got.cpu().numpy(), kernels.centroid_interaction(scores, tokens, backend="cpu"))
