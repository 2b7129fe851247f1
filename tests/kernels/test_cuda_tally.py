"""The best by counts: against a sort, over ties, rows of all lengths, scores outside the steps, and bad input."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from colbert_research import kernels
from colbert_research.kernels.cuda import tally, topk
from colbert_research.kernels.cuda.arrays import Place, place_of
from tests.kernels.cuda_arenas import arena_of, numpy_of, poison_of
from tests.kernels.cuda_tally_cases import counted

arena, _poison = arena_of(tally.KERNELS), poison_of(tally)
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SPECIAL = [-np.inf, np.inf, 0.0, -0.0, 1.0, -1.0, 2.0**-149, -(2.0**-149), 2.0**-126, 3e38, -3e38, 1 + 2.0**-23, np.nan]


@pytest.fixture(params=["one block", "many blocks"])
def way(request, monkeypatch):
    """Whether a row is read by one block or by all of them, whatever its length."""
    monkeypatch.setattr(tally, "ONE_BLOCK", 2**40 if request.param == "one block" else 0)


def chosen(arena, scores: np.ndarray, k: int, *, longest: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = np.atleast_2d(scores)
    with arena:
        there = arena.tensor(scores)
        counts = tally.tally_for(len(scores), longest, place_of(there))
        counts.counts[...] = arena.tensor(counted(scores, counts.first))
        positions, values, state = (numpy_of(array) for array in tally.best(there, counts, k))
    assert positions.dtype == np.int64
    return positions, values, state


def agrees(arena, scores: np.ndarray, k: int, *, longest: int = 4) -> None:
    scores = np.atleast_2d(scores)
    for row, positions, values, (found, nans) in zip(scores, *chosen(arena, scores, k, longest=longest), strict=True):
        expected = kernels.topk(np.where(np.isnan(row), -np.inf, row), k)
        assert found == len(expected)
        assert nans == np.isnan(row).sum()
        assert np.array_equal(positions[:found], expected)
        assert np.array_equal(values[:found], row[expected])
        assert (positions[found:] == -1).all()
        assert (values[found:] == -np.inf).all()


@pytest.mark.usefixtures("way")
class TestBest:
    @few
    @given(scores=st.lists(st.sampled_from(SPECIAL), min_size=1, max_size=60), k=st.integers(1, 70))
    def test_special_numbers_and_ties(self, arena, scores, k):
        agrees(arena, np.array(scores, np.float32), k)

    @pytest.mark.parametrize("n", [1, 31, 511, 512, 513, 2048, 9001])
    @pytest.mark.parametrize("grain", [0.0, 0.5])
    def test_rows_of_many_lengths(self, rng, arena, n, grain):
        scores = (rng.standard_normal((3, n)) + 20).astype(np.float32)
        scores = np.round(scores / grain) * np.float32(grain) if grain else scores
        scores[rng.random((3, n)) < 0.1] = -np.inf
        for k in {1, 2, min(n, 100), min(n, topk.MOST)}:
            agrees(arena, scores, k, longest=32)

    def test_more_share_a_step_than_are_sorted(self, rng, arena):
        """Rows that are chosen from digit by digit, beside one that is not."""
        rows = [
            np.full(5000, 7.5),
            rng.integers(0, 4, 5000) + 8,
            20 + 1e-4 * rng.standard_normal(5000),
            20 + rng.standard_normal(5000),
            np.full(5000, -np.inf),
            np.r_[np.full(4990, np.nan), np.arange(10)],
        ]
        for k in (1, 10, 1234):
            agrees(arena, np.stack(rows).astype(np.float32), k, longest=32)

    @pytest.mark.parametrize("scale", [1e-30, -1, 1e-3, 1e4, 1e30])
    def test_scores_outside_the_steps(self, rng, arena, scale):
        agrees(arena, (scale * rng.uniform(0.5, 1, (2, 3000))).astype(np.float32), 50)


def test_a_row_is_long_enough_for_many_blocks(rng, arena):
    agrees(arena, (20 + rng.standard_normal((2, tally.ONE_BLOCK + 77))).astype(np.float32), 50, longest=32)


def test_counts_that_are_wrong_do_no_harm(rng, arena):
    """Not the best, but scores of the row."""
    scores = (20 + rng.standard_normal((1, 9000))).astype(np.float32)
    for fill in (0, 1, 2**20, -5):
        with arena:
            there = arena.tensor(scores)
            counts = tally.tally_for(1, 32, place_of(there))
            counts.counts[...] = fill
            positions, values, state = (numpy_of(array) for array in tally.best(there, counts, 10))
        found = state[0, 0]
        assert 0 <= found <= 10
        assert np.array_equal(values[0, :found], scores[0, positions[0, :found]])


class Operations(TorchDispatchMode):
    """The names of torch's operations while the block runs."""

    def __enter__(self):
        self.names = []
        return super().__enter__()

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*arguments, **(named or {}))


def test_counts_are_cleared_by_one_operation():
    """Each is a launch on a device."""
    with Operations() as operations:
        counts = tally.tally_for(3, 32, Place("torch", None)).counts
    assert operations.names == ["empty", "fill_"]
    assert not counts.any()


def test_nothing_to_choose_from(arena):
    for shape in ((0, 5), (3, 0)):
        positions, values, state = chosen(arena, np.zeros(shape, np.float32), 2)
        assert positions.shape == values.shape == (shape[0], min(2, shape[1]))
        assert state.tolist() == [[0, 0]] * shape[0]


class TestBadInput:
    """A Python error before anything is launched."""

    @pytest.mark.parametrize(
        ("scores", "k", "error", "message"),
        [
            (np.zeros((1, 3), np.float32), 0, ValueError, "k must be at least 1; given 0"),
            (np.zeros((1, 3)), 1, TypeError, "scores must be float32; given float64"),
            (
                np.zeros((2, 3), np.float32),
                1,
                ValueError,
                r"the tally must have shape \(2, 2048\), a row for each query; given",
            ),
            (np.zeros((1, 6), np.float32)[:, ::2], 1, ValueError, "scores must be contiguous"),
            (np.zeros((1, 9000), np.float32), 8193, ValueError, "at most 8192 of a row; given 8193"),
        ],
    )
    def test_arguments(self, scores, k, error, message):
        counts = tally.Tally(np.zeros((1, topk.BINS), np.int32), 0)
        with pytest.raises(error, match=message):
            tally.best(scores, counts, k)
