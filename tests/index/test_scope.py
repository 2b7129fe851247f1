"""Which documents may be found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_research.index import Scope

N = 12
SOME = st.lists(st.integers(0, N - 1))


def test_all():
    scope = Scope.all(N)
    assert scope.is_all
    assert scope.size == N
    assert "positions" not in vars(scope), "nothing is made before it is asked for"
    assert "bitmap" not in vars(scope)
    asked = np.array([7, 0, 7])
    assert scope.intersect(asked) is asked
    assert "bitmap" not in vars(scope)
    assert scope.positions.tolist() == list(range(N))
    assert scope.positions.dtype == np.int64
    assert scope.bitmap.tolist() == [True] * N
    assert scope.contains(asked).tolist() == [True] * 3


@given(SOME, SOME)
def test_some(chosen, asked):
    scope = Scope.of(np.array(chosen, np.int64), N)
    assert not scope.is_all
    assert scope.positions.tolist() == sorted(set(chosen))
    assert scope.positions.dtype == np.int64
    assert scope.size == len(set(chosen))
    assert scope.bitmap.tolist() == [i in chosen for i in range(N)]
    asked = np.array(asked, np.int64)
    assert scope.contains(asked).tolist() == [p in chosen for p in asked]
    assert scope.intersect(asked).tolist() == [p for p in asked if p in chosen]


@given(st.lists(st.booleans(), max_size=N))
def test_where(allowed):
    scope = Scope.where(np.array(allowed, np.bool_))
    expected = Scope.of(np.flatnonzero(allowed), len(allowed))
    assert (scope.is_all, scope.n_positions, scope.size) == (False, len(allowed), sum(allowed))
    assert scope.positions.tolist() == expected.positions.tolist()
    assert scope.bitmap.tolist() == expected.bitmap.tolist() == allowed


@pytest.mark.parametrize("scope", [Scope.all(N), Scope.of(np.array([3, 1]), N), Scope.where(np.eye(N, dtype=bool)[2])])
def test_it_does_not_change(scope):
    for array in (scope.positions, scope.bitmap):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("positions", [[N], [-1, 3]])
def test_a_position_outside_the_index(positions):
    with pytest.raises(IndexError, match=f"positions lie between 0 and {N - 1}; given "):
        Scope.of(np.array(positions), N)


def test_what_it_was_made_of_stays_its_owners():
    positions = np.array([1, 2])
    scope = Scope.of(positions, N)
    positions[0] = 0
    assert scope.positions.tolist() == [1, 2]
