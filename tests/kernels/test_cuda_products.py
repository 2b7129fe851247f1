"""Products with centroids on a device: the bits of the backend `cpu`, sums in order in NumPy, ties, and bad input."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colbert_research import kernels
from colbert_research.kernels import cuda_backend
from colbert_research.kernels.cuda import products
from tests.kernels.cuda_arenas import arena_of, computed, poison_of

arena, _poison = arena_of(products.KERNELS), poison_of(products)
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def normal(rng, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def in_order(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Summed over the dimensions in order with one rounding a step: a product is exact in longdouble, and the sum nearly."""
    sums = np.zeros((len(left), len(right)), np.float32)
    for d in range(left.shape[1]):
        exact = left[:, d, None].astype(np.longdouble) * right[None, :, d].astype(np.longdouble)
        sums = (sums + exact).astype(np.float32)
    return sums


@pytest.mark.parametrize(("n", "rows"), [(1, 1), (32, 128), (33, 129), (31, 300), (70, 7), (3, 132)])
@pytest.mark.parametrize("dim", [1, 7, 8, 13, 64, 128])
def test_products_are_the_bits_of_the_cpu(rng, arena, n, rows, dim):
    left, right = normal(rng, n, dim), normal(rng, rows, dim)
    got = computed(arena, products.dot_products, left, right)
    assert got.dtype == np.float32
    assert np.array_equal(got, kernels.dot_products(left, right, backend="cpu"))
    assert np.array_equal(got, in_order(left, right))


@few
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40), rows=st.integers(1, 140), dim=st.integers(1, 40))
def test_a_product_depends_on_its_rows_alone(arena, seed, n, rows, dim):
    rng = np.random.default_rng(seed)
    left, right = normal(rng, n, dim), normal(rng, rows, dim)
    whole = computed(arena, products.dot_products, left, right)
    order, some = rng.permutation(rows), rng.permutation(n)[: n // 2 + 1]
    part = computed(arena, products.dot_products, np.ascontiguousarray(left[some]), np.ascontiguousarray(right[order]))
    assert np.array_equal(part, whole[some][:, order])


def test_signs_of_zero_and_numbers_that_are_none(arena):
    """What is below the least number rounds to a zero of its sign, in the last and in the eighth dimension."""
    for dim in (7, 8, 9):
        left, right = np.zeros((3, dim), np.float32), np.zeros((2, dim), np.float32)
        left[0, -1], right[:, -1] = -1e-30, (1e-30, -1e-30)
        left[1, 0] = np.inf
        left[2, 0], right[1, 0] = np.nan, 1
        got = computed(arena, products.dot_products, left, right)
        expected = kernels.dot_products(left, right, backend="cpu")
        assert np.array_equal(got, expected, equal_nan=True)
        assert np.array_equal(np.signbit(got[0]), np.signbit(expected[0]))


@pytest.mark.parametrize(("n", "k"), [(1, 1), (128, 128), (129, 300), (300, 127), (257, 129)])
@pytest.mark.parametrize("dim", [1, 13, 96])
def test_nearest_are_those_of_the_cpu(rng, arena, n, k, dim):
    vectors, centroids = normal(rng, n, dim), normal(rng, k, dim)
    got = computed(arena, products.assign, vectors, centroids)
    assert got.dtype == np.int32
    assert np.array_equal(got, kernels.assign(vectors, centroids, backend="cpu"))
    assert np.array_equal(got, in_order(vectors, centroids).argmax(axis=1))


def test_near_ties_are_decided_by_the_same_roundings(rng, arena):
    from colbert_research.kernels.cpu import nearest

    centroids = normal(rng, 70, 24)
    centroids = np.concatenate([centroids, centroids * np.float32(1 + 2.0**-23)])[rng.permutation(140)]
    vectors = normal(rng, 200, 24)
    assert np.array_equal(computed(arena, products.assign, vectors, centroids), nearest.assign_by_all(vectors, centroids))


@few
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 150), k=st.integers(1, 300))
def test_ties_go_to_the_smaller_id(arena, seed, n, k):
    rng = np.random.default_rng(seed)
    vectors, centroids = (rng.integers(-1, 2, (size, 3)).astype(np.float32) for size in (n, k))
    expected = (vectors.astype(np.int64) @ centroids.T.astype(np.int64)).argmax(axis=1)
    assert np.array_equal(computed(arena, products.assign, vectors, centroids), expected)


def test_a_product_that_is_no_number_is_never_the_largest(rng, arena):
    vectors, centroids = normal(rng, 5, 8), normal(rng, 200, 8)
    centroids[[0, 150]] = np.nan
    vectors[3, 2] = np.nan
    expected = in_order(vectors, np.where(np.isnan(centroids), np.float32(0), centroids))
    expected[:, [0, 150]] = -np.inf
    expected[3] = 0
    assert np.array_equal(computed(arena, products.assign, vectors, centroids), expected.argmax(axis=1))


def test_nothing_to_multiply(arena):
    for n, rows in ((0, 3), (3, 0)):
        left, right = np.zeros((n, 8), np.float32), np.zeros((rows, 8), np.float32)
        assert computed(arena, products.dot_products, left, right).shape == (n, rows)
    assert computed(arena, products.assign, np.zeros((0, 8), np.float32), np.zeros((2, 8), np.float32)).shape == (0,)
    assert (
        computed(arena, products.dot_products, np.zeros((2, 0), np.float32), np.zeros((3, 0), np.float32)).tolist()
        == [[0] * 3] * 2
    )


def test_backend(rng, arena):
    query, rows = normal(rng, 5, 24), normal(rng, 40, 24)
    expected = kernels.dot_products(query, rows, backend="cpu")
    with arena:
        assert np.array_equal(kernels.dot_products(query.astype(np.float64), rows, backend="cuda"), expected)
        assert np.array_equal(kernels.assign(rows, query, backend="cuda"), kernels.assign(rows, query, backend="cpu"))
        found = cuda_backend.dot_products(arena.tensor(query), arena.tensor(rows))
        assert isinstance(found, torch.Tensor)
        assert np.array_equal(found.cpu().numpy(), expected)


@pytest.mark.parametrize("function", [products.dot_products, products.assign])
@pytest.mark.parametrize(
    ("left", "right", "error", "message"),
    [
        (np.zeros((2, 8)), np.zeros((2, 8), np.float32), TypeError, "must be float32; given float64"),
        (np.zeros((2, 8), np.float32), np.zeros(8, np.float32), ValueError, r"must have 2 axes; given shape \(8,\)"),
        (np.zeros((2, 8), np.float32), np.zeros((2, 9), np.float32), ValueError, "have 8 dimensions and .* 9"),
        (np.zeros((8, 2), np.float32).T, np.zeros((2, 8), np.float32), ValueError, "must be contiguous"),
        (torch.zeros(2, 8), np.zeros((2, 8), np.float32), ValueError, "lies in torch on the CPU and .* in numpy"),
        (np.zeros((2, 8), np.float32), np.zeros((2, 8), np.float32), ValueError, "given numpy on the CPU"),
    ],
)
def test_bad_input(function, left, right, error, message):
    with pytest.raises(error, match=message):
        function(left, right)


def test_no_centroids(arena):
    with pytest.raises(ValueError, match="no centroids to assign to; give at least one"):
        computed(arena, products.assign, np.zeros((1, 8), np.float32), np.zeros((0, 8), np.float32))
