"""Cutoffs over shards, without any index: the best of all, whatever belongs to which shard."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research.serving.shards_cutoffs import Cut, together

N = 24


class Passed(NamedTuple):
    cuts: list
    found: tuple


def narrowed(positions, scores, size):
    """The best so many, ascending."""
    return np.sort(sorted(positions.tolist(), key=lambda p: (-scores[p], p))[:size]).astype(np.int64)


def shard(positions, stages, sizes) -> Passed:
    cuts = []
    for scores, size in zip(stages, sizes, strict=False):
        positions = narrowed(positions, scores, size)
        cuts.append(Cut(size, positions, scores[positions]))
    return Passed(cuts, (positions, stages[-1][positions]))


def of_one_machine(stages, sizes, k):
    positions = np.arange(N)
    for scores, size in zip(stages, sizes, strict=False):
        positions = narrowed(positions, scores, size)
    return sorted(positions.tolist(), key=lambda p: (-stages[-1][p], p))[:k]


def of_shards(stages, sizes, k, bounds) -> tuple[list[int], int]:
    """What is found, and how many shards had to be asked again."""
    shards = [shard(np.arange(low, high), stages, sizes) for low, high in pairwise(bounds)]
    found, again = together(shards, k)
    for number, among in again.items():
        shards[number] = shard(among, stages, sizes)
    if again:
        found, more = together(shards, k)
        assert not more, "asking once more is enough"
    assert np.array_equal(found[1], stages[-1][found[0]])
    return found[0].tolist(), len(again)


few = st.lists(st.integers(0, 6), min_size=N, max_size=N).map(lambda values: np.array(values, np.float32))


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    stages=st.lists(few, min_size=3, max_size=3),
    sizes=st.lists(st.integers(1, 14), max_size=2).map(lambda sizes: sorted(sizes, reverse=True)),
    k=st.integers(1, 10),
    cuts=st.sets(st.integers(1, N - 1), max_size=4),
)
def test_the_best_of_all_shards_are_those_of_one_machine(stages, sizes, k, cuts):
    """With many ties, in every stage."""
    found, _ = of_shards(stages, sizes, k, [0, *sorted(cuts), N])
    assert found == of_one_machine(stages, sizes, k)


def test_a_shard_is_asked_again_only_where_it_may_matter():
    first = np.zeros(N, np.float32)
    first[:4] = [1, 1, 9, 9]  # of the first shard; the others have better ones
    first[12:] = 5
    second = np.zeros(N, np.float32)
    second[:4] = [8, 8, 1, 1]  # those that the first cutoff leaves out crowd the others out behind the second
    stages, sizes, bounds = [first, second, second], [14, 2], [0, 12, N]
    found, asked = of_shards(stages, sizes, 2, bounds)
    assert (found, asked) == (of_one_machine(stages, sizes, 2), 1) == ([2, 3], 1)
    second[12] = second[13] = 9
    found, asked = of_shards(stages, sizes, 2, bounds)
    assert (found, asked) == (of_one_machine(stages, sizes, 2), 0) == ([12, 13], 0)
