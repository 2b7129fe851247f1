"""Pruning by dominance, against three references: non-negative least squares, the paper's linear program, and queries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, nnls

from colbert_research.encoders.pooling import DominancePruningConfig
from colbert_research.encoders.pooling.dominance import outside
from tests.encoders.pooled import survivors, unit

EPS = float(np.finfo(np.float64).eps)
HEAVY = 1e4
"""Weight of the row that makes weights sum to one: what the sum is off by, about `1 / HEAVY**2`, moves distances by as much."""


def projected(vertices: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The point of the vertices' convex hull that is nearest to `point`, by non-negative least squares."""
    rows = np.vstack([vertices.T, np.full(len(vertices), HEAVY)])
    weights, _ = nnls(rows, np.append(point, HEAVY))
    return (weights / weights.sum()) @ vertices


def dominated(vertices: np.ndarray, point: np.ndarray) -> bool:
    """Whether a point is in the convex hull, by the linear program of Zong and Piwowarski, for scores without a ReLU."""
    equal = np.vstack([vertices.T, np.ones(len(vertices))])
    return linprog(np.zeros(len(vertices)), A_eq=equal, b_eq=np.append(point, 1)).status == 0


def losses(document: np.ndarray, kept: list[int], queries: np.ndarray) -> np.ndarray:
    similarities = queries @ document.T
    return similarities.max(axis=1) - similarities[:, kept].max(axis=1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 25),
    dim=st.integers(1, 6),
    threshold=st.floats(0, 1.2),
    protected=st.integers(0, 3),
)
def test_no_query_token_loses_more_than_the_threshold(seed, n, dim, threshold, protected):
    """Queries at random, and for each token left out the one that loses most by it."""
    rng = np.random.default_rng(seed)
    document = rng.standard_normal((n, dim)).astype(np.float32)
    kept = survivors(DominancePruningConfig(threshold=threshold, protected=protected), document)
    assert {*range(min(n, max(1, protected)))} <= {*kept}
    document = document.astype(np.float64)
    worst = [document[i] - projected(document[kept], document[i]) for i in range(n) if i not in kept]
    queries = np.concatenate([rng.standard_normal((200, dim)), np.reshape([w for w in worst if w.any()], (-1, dim))])
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    # a squared distance from products is off by a few epsilons of the squared lengths, and a threshold of 0 allows that much
    slack = np.sqrt(16 * (dim + 2) * EPS) * np.linalg.norm(document, axis=1).max()
    assert losses(document, kept, queries).max() <= threshold + slack
    assert losses(document, kept, queries).min() >= 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 20), dim=st.integers(1, 8), spread=st.floats(0.1, 3))
def test_outside_is_the_distance_to_the_convex_hull(seed, n, dim, spread):
    rng = np.random.default_rng(seed)
    vertices, point = rng.standard_normal((n, dim)), spread * rng.standard_normal(dim)
    distance = np.sum((point - projected(vertices, point)) ** 2)
    given = vertices @ vertices.T, vertices @ point, float(point @ point)
    margin = 1e-6 * (1 + point @ point)  # of the reference, see HEAVY
    assert not outside(*given, distance + margin)
    if distance > margin:
        assert outside(*given, distance - margin)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 15))
def test_without_a_threshold_it_is_the_linear_program_of_the_paper(seed, n):
    """Whole numbers, so that many points are exactly on an edge or inside."""
    document = np.random.default_rng(seed).integers(-2, 3, (n, 2)).astype(np.float32)
    kept = survivors(DominancePruningConfig(threshold=0), document)
    left_out = [i for i in range(n) if i not in kept]
    assert all(dominated(document[kept], document[i]) for i in left_out)
    assert len(np.unique(document[kept], axis=0)) == len(kept)
    angles = np.linspace(0, 2 * np.pi, 360)
    queries = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert losses(document.astype(np.float64), kept, queries).max() <= np.sqrt(64 * EPS) * 3


def test_what_lies_within_the_others_is_left_out():
    corners = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    inside = np.array([[0.2, 0.1], [0, 0], [0.5, 0.5]], np.float32)
    document = np.concatenate([corners, inside])
    assert survivors(DominancePruningConfig(threshold=0), document) == [0, 1, 2, 3]
    assert survivors(DominancePruningConfig(threshold=0, protected=0), document[::-1]) == [0, 3, 4, 5, 6], "the first one stays"
    assert survivors(DominancePruningConfig(threshold=2), document) == [0]


def test_of_equal_tokens_one_stays(rng):
    vectors = unit(rng, 8)
    document = np.concatenate([vectors, vectors, vectors[3:5]])
    kept = survivors(DominancePruningConfig(threshold=0), document)
    assert len(kept) == 8 and {i % 8 if i < 16 else i - 13 for i in kept} == {*range(8)}


def test_unit_vectors_stay_until_the_threshold_allows_their_loss(rng):
    document = unit(rng, 30)
    counts = [len(survivors(DominancePruningConfig(threshold=t), document)) for t in (0, 0.3, 0.6, 0.8, 2)]
    assert counts[0] == 30 and counts[-1] == 1
    assert counts == sorted(counts, reverse=True) and len({*counts}) >= 4


@pytest.mark.parametrize("wrong", [-0.1, "nan", "factor"])
def test_wrong_thresholds(wrong):
    with pytest.raises(ValueError, match="threshold"):
        DominancePruningConfig(threshold=wrong)
