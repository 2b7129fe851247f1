"""Voronoi pruning against its definition, written out plainly."""

import itertools

import numpy as np
import pytest

from colbert_research.encoders.pooling import VoronoiPruningConfig, voronoi
from tests.encoders.pooled import survivors, unit

EPS = float(np.finfo(np.float32).eps)


def removed_by_definition(similarities, n_removed: int, protected: int) -> list[int]:
    """Everything looked at again after every token: the mean of MaxSim lost, for each token that may go."""
    left, gone = list(range(similarities.shape[1])), []
    for _ in range(n_removed):
        best = similarities[:, left].max(axis=1).astype(np.float64)
        losses = {}
        for token in reversed([t for t in left if t >= protected]):
            others = [t for t in left if t != token]
            losses[token] = (best - similarities[:, others].max(axis=1)).sum()
        gone.append(min(losses, key=losses.__getitem__))  # the first of equal ones, which are in descending order
        left.remove(gone[-1])
    return gone


@pytest.mark.parametrize("samples", [10, 300])  # of 10 directions, most tokens win none, and tie
@pytest.mark.parametrize(("n", "n_removed", "protected"), [(2, 1, 0), (2, 1, 1), (17, 16, 0), (30, 20, 3), (30, 27, 3)])
def test_voronoi_takes_the_least_loss_every_time(rng, samples, n, n_removed, protected):
    similarities = voronoi.directions(samples, 6, 1) @ unit(rng, n, dim=6).T
    # multiples of 2**-20, so that sums are exact in float64 in any order and equal losses are equal
    similarities = (similarities * 2**20).round().astype(np.float32) / np.float32(2**20)
    expected = removed_by_definition(similarities, n_removed, protected)
    assert voronoi.removed(similarities.copy(), n_removed, protected=protected).tolist() == expected


def circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_voronoi_on_a_circle():
    config = VoronoiPruningConfig(samples=4000, factor=1.25, protected=0)
    # each token answers half the arc to either neighbour: the twin of another answers least for itself alone
    assert survivors(config, circle(0, 90, 180, 270, 272)) in ([0, 1, 2, 3], [0, 1, 2, 4])
    # a short vector wins nowhere between two long ones
    document = circle(0, 45, 90, 180, 270)
    document[1] *= 0.3
    assert survivors(config, document) == [0, 2, 3, 4]
    # protected tokens answer as well: here it is the twin of one that is removed
    assert survivors(VoronoiPruningConfig(samples=4000, factor=4 / 3), circle(272, 0, 90, 180, 270)) == [0, 1, 2, 3]


def test_voronoi_leaves_what_answers_the_sphere_best(rng):
    """One token is removed: of all choices, the one that leaves the highest mean of MaxSim over the sphere."""
    document = unit(rng, 8, dim=4)
    similarities = voronoi.directions(2048, 4, 0) @ document.T
    choices = itertools.combinations(range(8), 7)
    scores = {choice: similarities[:, choice].max(axis=1).mean(dtype=np.float64) for choice in choices}
    assert survivors(VoronoiPruningConfig(factor=8 / 7, protected=0), document) == list(max(scores, key=scores.__getitem__))


def test_directions_are_uniform_and_seeded():
    found = voronoi.directions(5000, 8, 3)
    # a unit vector in float32: eight squares, their sum, a root, a division
    assert np.abs(np.linalg.norm(found.astype(np.float64), axis=1) - 1).max() <= 12 * EPS
    moments = found.T.astype(np.float64) @ found / len(found)
    # the variance of x_i x_j on the sphere is below 3 / (8 * 10): six standard deviations of the mean
    assert np.abs(moments - np.eye(8) / 8).max() <= 6 * np.sqrt(3 / 80 / 5000)
    voronoi.directions.cache_clear()
    assert np.array_equal(voronoi.directions(5000, 8, 3), found)
    assert not np.array_equal(voronoi.directions(5000, 8, 4), found)
