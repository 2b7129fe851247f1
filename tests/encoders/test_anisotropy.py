"""Anisotropy against the mean of all pairs, taken one by one."""

import numpy as np
import pytest

from colbert_research.encoders import anisotropy as module
from colbert_research.encoders.anisotropy import anisotropy
from colbert_research.ragged import Ragged

EPS = float(np.finfo(np.float64).eps)


def of(values: np.ndarray, seed: int = 0) -> float | None:
    return anisotropy(Ragged.from_list([values[:3], values[3:]], trailing=values.shape[1:]), seed=seed)


def test_it_is_the_mean_of_all_pairs(rng):
    values = (rng.standard_normal((40, 6)) + 0.5).astype(np.float32)
    values[7] = 0
    unit = values / np.maximum(np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True), 1e-30)
    pairs = [unit[i] @ unit[j] for i in range(40) for j in range(40) if i != j]
    # sums of 40 unit vectors, squared, in another order
    assert abs(of(values) - np.mean(pairs)) <= 40 * 40 * EPS
    assert of(values * 2) == of(values)


def test_its_ends(rng):
    one = np.repeat(rng.standard_normal((1, 5)), 9, axis=0).astype(np.float32)
    assert abs(of(one) - 1) <= 81 * EPS
    opposite = np.concatenate([one, -one])
    assert abs(of(opposite) + 1 / 17) <= 18 * 18 * EPS, "two of them add up to nothing"
    # the cosine of two directions drawn uniformly has the variance 1 / dim
    uniform = rng.standard_normal((2000, 64)).astype(np.float32)
    assert abs(of(uniform)) <= 6 / np.sqrt(64 * 2000 * 1999 / 2)


def test_centring_takes_it_away(rng):
    values = (rng.standard_normal((4000, 16)) + 2).astype(np.float32)
    assert of(values) > 0.7 and abs(of(values - values.mean(axis=0))) < 0.01


def test_of_a_seeded_sample(rng, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 100)
    values = (rng.standard_normal((5000, 8)) + 0.3).astype(np.float32)
    assert of(values) == of(values) != of(values, seed=1)
    monkeypatch.setattr(module, "SAMPLE", 5000)
    assert of(values) == of(values, seed=1)


@pytest.mark.parametrize("n", [0, 1])
def test_without_a_pair_there_is_none(n):
    assert of(np.ones((n, 4), np.float32)) is None
