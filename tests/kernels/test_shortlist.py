"""Assignment by products in bfloat16: the answer is that of float32, bit for bit, where rounding would have changed it too."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research.kernels.cpu import bfloat, nearest, shortlist
from colbert_research.threads import available, pinned_threads

pytestmark = pytest.mark.skipif(not bfloat.AVAILABLE, reason="this processor has no tiles of bfloat16")
few = settings(max_examples=25, deadline=None)


def unit(rng, n: int, dim: int) -> np.ndarray:
    values = rng.standard_normal((n, dim)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 rounded to the nearest bfloat16, ties to even, in exact arithmetic of float64."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.round(mantissa * 256) / 256, exponent)


def sums_in_order(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Products in float32, summed over the dimensions in order, one rounding a step: in longdouble a product is exact."""
    sums = np.zeros((len(vectors), len(centroids)), np.float32)
    for d in range(vectors.shape[1]):
        exact = vectors[:, d, None].astype(np.longdouble) * centroids[None, :, d].astype(np.longdouble)
        sums = (sums + exact).astype(np.float32)
    return sums


def check(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Which vectors the shortlist settled; asserts that what it says, and what `assign` says of all, is what float32 says."""
    expected = nearest.assign_by_all(vectors, centroids)
    ids = shortlist.assign(vectors, centroids)
    settled = ids >= 0
    assert np.array_equal(ids[settled], expected[settled])
    assert np.array_equal(nearest.assign(vectors, centroids), expected)
    return settled


@pytest.mark.parametrize("dim", [1, 13, 31, 32, 33, 48, 96, 128, 384])
@pytest.mark.parametrize("k", [128, 159, 160, 161, 700])
def test_the_answer_of_float32(rng, dim, k):
    assert check(unit(rng, 300, dim), unit(rng, k, dim)).all() or dim == 1


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 31, 33, 255, 256, 257, 511, 513])
def test_around_the_block_sizes(rng, n):
    assert check(unit(rng, n, 40), unit(rng, 130, 40)).all()


def test_the_float32_of_both_is_summed_in_order(rng):
    vectors, centroids = unit(rng, 60, 24), unit(rng, 140, 24)
    centroids[70:] = centroids[:70] * np.float32(1 + 2.0**-22)  # pairs that only rounding tells apart
    sums = sums_in_order(vectors, centroids)
    assert np.array_equal(shortlist.assign(vectors, centroids), sums.argmax(axis=1))


@few
@given(seed=st.integers(0, 2**32 - 1), near=st.integers(4, 30), dim=st.integers(2, 150), copies=st.integers(2, 12))
def test_near_ties(seed, near, dim, copies):
    """Each centroid lies beside others at a distance from far above to far below what bfloat16 tells apart."""
    rng = np.random.default_rng(seed)
    centroids = np.repeat(unit(rng, 150, dim), copies, axis=0)
    centroids += unit(rng, len(centroids), dim) * np.float32(2.0**-near)
    settled = check(unit(rng, 120, dim), centroids[rng.permutation(len(centroids))])
    assert settled.any() or dim < 16  # on a circle more centroids are near than are held, and all products are taken


def test_rounding_alone_would_choose_others(rng):
    centroids = np.repeat(unit(rng, 100, 64), 4, axis=0) + unit(rng, 400, 64) * np.float32(0.003)
    vectors = unit(rng, 500, 64)
    rounded = (to_bfloat16(vectors) @ to_bfloat16(centroids).T).argmax(axis=1)
    assert np.count_nonzero(rounded != nearest.assign_by_all(vectors, centroids)) > 10
    assert np.count_nonzero(check(vectors, centroids)) > 250


def test_roundings_that_all_add_up(rng):
    """The nearest loses by every rounding and the next gains by every one: half the bound would overlook the nearest."""
    half, step = 32, np.float32(2.0**-14)
    down, up = np.float32(1 + 2.0**-8) - step, np.float32(1 + 2.0**-8) + step  # to 1, and to 1 + 2^-7
    vector = np.repeat([down, up], half)[None]
    centroids = -unit(rng, 150, 2 * half)
    centroids[90], centroids[40] = np.repeat([down, 0], half), np.repeat([0, up], half)
    centroids[40, half] -= np.float32(2.0**-6)
    lost = vector - to_bfloat16(vector), centroids - to_bfloat16(centroids)
    lengths = [np.linalg.norm(a, axis=1) for a in (vector, centroids, *lost)]
    bound = lengths[0][0] * lengths[3][[40, 90]].max() + lengths[2][0] * lengths[1][[40, 90]].max()
    products = (to_bfloat16(vector) @ to_bfloat16(centroids).T)[0]
    assert bound < products[40] - products[90] < 2 * bound
    assert check(vector, centroids).all()
    assert nearest.assign(vector, centroids) == [90]


@pytest.mark.parametrize("copies", [8, shortlist.HELD, shortlist.HELD + 1, 40])
def test_equal_centroids_go_to_the_smaller_id(rng, copies):
    nearest_ones, axes = rng.integers(0, 20, 200), np.eye(20, 32, dtype=np.float32)
    vectors, centroids = axes[nearest_ones] + unit(rng, 200, 32) / 4, np.tile(axes, (copies, 1))
    settled = check(vectors, centroids)
    assert settled.all() if copies <= shortlist.HELD else not settled.any()
    assert np.array_equal(nearest.assign(vectors, centroids), nearest_ones)


@few
@given(seed=st.integers(0, 2**32 - 1), exponents=st.tuples(st.integers(-150, 120), st.integers(-150, 120)))
def test_any_scale(seed, exponents):
    rng = np.random.default_rng(seed)
    vectors, centroids = (np.ldexp(unit(rng, n, 20), e) for n, e in zip((40, 150), exponents, strict=True))
    settled = check(vectors, centroids)
    assert settled.all() if max(map(abs, exponents)) < 28 else True
    assert not settled.any() if max(map(abs, exponents)) > 32 else True


def test_scales_of_a_row_each(rng):
    vectors = unit(rng, 300, 20) * np.float32(2.0) ** rng.integers(-60, 60, 300)[:, None].astype(np.float32)
    centroids = unit(rng, 200, 20) * np.float32(2.0) ** rng.integers(-40, 20, 200)[:, None].astype(np.float32)
    assert 0 < np.count_nonzero(check(vectors, centroids)) < 300


def test_vectors_that_are_zero_or_not_finite_are_left_to_float32(rng):
    vectors, centroids = unit(rng, 50, 32), unit(rng, 200, 32)
    vectors[3], vectors[4, 7], vectors[5, 0], vectors[6, 1] = 0, np.nan, np.inf, -np.inf
    settled = check(vectors, centroids)
    assert np.flatnonzero(~settled).tolist() == [3, 4, 5, 6]
    centroids[9] = 0
    assert np.count_nonzero(check(vectors, centroids)) == 46
    for value in (np.nan, np.inf):
        centroids[199, 31] = value
        assert not check(vectors, centroids).any()


def test_nothing_depends_on_the_others_or_the_threads(rng):
    vectors, centroids = unit(rng, 3000, 64), unit(rng, 500, 64)
    whole = shortlist.assign(vectors, centroids)
    order = rng.permutation(3000)
    assert np.array_equal(shortlist.assign(np.ascontiguousarray(vectors[order]), centroids), whole[order])
    assert np.array_equal(np.concatenate([shortlist.assign(part, centroids) for part in np.split(vectors, [7, 1000])]), whole)
    for threads in {1, available()}:
        with pinned_threads(threads):
            assert np.array_equal(shortlist.assign(vectors, centroids), whole)


SCRIPT = """
import os, numpy as np
from colbert_research import kernels
rng = np.random.default_rng(5)
vectors, centroids = rng.standard_normal((2000, 96)).astype(np.float32), rng.standard_normal((300, 96)).astype(np.float32)
centroids[150:] = centroids[:150] + np.float32(1e-4) * rng.standard_normal((150, 96)).astype(np.float32)
np.save(os.environ["OUT"], kernels.assign(vectors, centroids, backend="cpu"))
"""


def test_lower_tiers_give_the_same_ids(tmp_path):
    found = []
    for tier in ("amx", "avx512", "avx2"):
        environment = os.environ | {"COLBERT_RESEARCH_SIMD": tier, "OUT": str(tmp_path / f"{tier}.npy")}
        run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        found.append(np.load(tmp_path / f"{tier}.npy"))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
