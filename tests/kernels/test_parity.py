"""Every backend against the float64 reference, over ragged shapes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research import kernels
from colbert_research.kernels.operands import CodedTokens, ProductTable, ResidualTable, pack_bits, unpack_bits
from colbert_research.ragged import Ragged, offsets_of

BACKENDS = [name for name in kernels.HOST_BACKENDS if name != "reference"]
SHAPES = [
    ([3, 1, 7], [5, 1, 30, 2], 128),
    ([32], [1] * 40, 96),
    ([4, 4], [200, 1, 3000, 5], 64),
    ([2, 5], [6, 0, 9, 0], 48),
    ([1], [2, 3], 384),
    ([6], [], 128),
    ([], [4, 4], 128),
    ([0, 3, 0], [2, 0, 1], 50),
    ([2], [3, 1], 13),  # packed residuals end in padding bits
]


def unit(rng, lengths, dim) -> Ragged:
    values = rng.standard_normal((int(np.sum(lengths)), dim)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return Ragged(values, offsets_of(lengths))


def bound(queries: Ragged, dim: int) -> float:
    """Twice float32 eps * dim * query tokens.

    A float32 dot product of unit vectors errs by at most eps / 2 * dim (each of dim roundings, times sum |x y| <= 1). A score
    adds n of them, n * eps / 2 * dim, and rounds n sums of at most n, n * eps / 2 * n: together eps * dim * n where n <= dim.
    Twice that, because the inputs may be decoded or longer than one by a float16 eps, and both sides of a comparison round.
    """
    longest = int(queries.lengths.max(initial=1))
    return float(np.finfo(np.float32).eps * dim * longest * 2)


def assert_close(got, expected, tolerance):
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    assert np.array_equal(np.isinf(got), np.isinf(expected))
    finite = np.isfinite(expected)
    assert np.all(np.abs(got[finite] - expected[finite]) <= tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("query_lengths", "document_lengths", "dim"), SHAPES)
class TestParity:
    def test_maxsim(self, rng, backend, query_lengths, document_lengths, dim):
        queries, documents = unit(rng, query_lengths, dim), unit(rng, document_lengths, dim)
        got = kernels.maxsim(queries, documents, backend=backend)
        assert_close(got, kernels.maxsim(queries, documents, backend="reference"), bound(queries, dim))

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    @pytest.mark.parametrize("bare", [False, True], ids=["centroids", "bare"])
    def test_maxsim_of_residual_codes(self, rng, backend, query_lengths, document_lengths, dim, bits, bare):
        check_codes(rng, backend, unit(rng, query_lengths, dim), residual_tokens(rng, document_lengths, dim, bits, bare=bare))

    @pytest.mark.parametrize("bare", [False, True], ids=["centroids", "bare"])
    def test_maxsim_of_product_codes(self, rng, backend, query_lengths, document_lengths, dim, bare):
        check_codes(rng, backend, unit(rng, query_lengths, dim), product_tokens(rng, document_lengths, dim, bare=bare))

    def test_dot_products(self, rng, backend, query_lengths, document_lengths, dim):
        query, rows = unit(rng, [sum(query_lengths)], dim).values, unit(rng, document_lengths, dim).values
        got = kernels.dot_products(query, rows, backend=backend)
        assert_close(got, kernels.dot_products(query, rows, backend="reference"), np.finfo(np.float32).eps * dim)

    def test_only_some_documents(self, rng, backend, query_lengths, document_lengths, dim):
        queries, n = unit(rng, query_lengths, dim), len(document_lengths)
        only = rng.permutation(n)[: n // 2 + 1]
        documents, tokens = unit(rng, document_lengths, dim), residual_tokens(rng, document_lengths, dim, 4)
        for score in (
            lambda only: kernels.maxsim(queries, documents, only=only, backend=backend),
            lambda only: kernels.maxsim_codes(queries, tokens, only=only, backend=backend),
        ):
            # float32 sums may run in another order where documents lie in other blocks
            assert_close(score(only), score(None)[:, only], 4 * bound(queries, dim))

    def test_centroid_interaction(self, rng, backend, query_lengths, document_lengths, dim):
        scores = rng.uniform(-1, 1, (max([1, *query_lengths]), 20)).astype(np.float32)
        ids = Ragged(rng.integers(0, 20, sum(document_lengths)).astype(np.uint16), offsets_of(document_lengths))
        for kept in (None, rng.random(20) < 0.4, np.zeros(20, bool)):
            got = kernels.centroid_interaction(scores, ids, kept=kept, backend=backend)
            expected = kernels.centroid_interaction(scores, ids, kept=kept, backend="reference")
            tolerance = np.finfo(np.float32).eps * len(scores) ** 2
            if backend in ("cpu", "cuda"):  # half a byte's unit a query token
                tolerance += len(scores) * float(np.ptp(scores)) / 508
            assert_close(got, expected, tolerance)

    def test_assign(self, rng, backend, query_lengths, document_lengths, dim):
        vectors, centroids = unit(rng, document_lengths, dim).values, unit(rng, [11], dim).values
        got = kernels.assign(vectors, centroids, backend=backend)
        similarities = vectors.astype(np.float64) @ centroids.T.astype(np.float64)
        best = similarities.max(axis=1, initial=-1)
        assert np.all(similarities[np.arange(len(got)), got] >= best - 2 * np.finfo(np.float32).eps * dim)


def check_codes(rng, backend, queries: Ragged, tokens: CodedTokens) -> None:
    got = kernels.maxsim_codes(queries, tokens, backend=backend)
    expected = kernels.maxsim_codes(queries, tokens, backend="reference")
    # vectors of codes made at random are of length about one, at most a few times that
    tolerance = np.full(len(queries), 4 * bound(queries, tokens.table.dim))
    if backend == "cpu":
        norm = 1.0 if tokens.inverse_norms is None else float(tokens.inverse_norms.max(initial=1))
        from colbert_research.kernels.cpu import prepare

        decoder = prepare.decoder_of(tokens.table)
        tolerance += [norm * prepare.worst_error(query, decoder) if len(query) else 0.0 for query in queries]
    for row in range(len(queries)):
        assert_close(got[row], expected[row], tolerance[row])


def residual_tokens(rng, lengths, dim, bits, *, bare=False) -> CodedTokens:
    scales = (rng.uniform(0.5, 2, dim) / np.sqrt(dim)).astype(np.float32)
    levels = np.sort(rng.standard_normal(2**bits)).astype(np.float32)
    table = ResidualTable(scales, levels, None if bare else unit(rng, [13], dim).values)
    return coded(rng, table, pack_bits(rng.integers(0, 2**bits, (int(np.sum(lengths)), dim)).astype(np.uint8), bits), lengths)


def product_tokens(rng, lengths, dim, *, bare=False) -> CodedTokens:
    m = math.gcd(dim, 16)
    codewords = (rng.standard_normal((m, 256, dim // m)) / np.sqrt(dim)).astype(np.float32)
    table = ProductTable(codewords, None if bare else unit(rng, [13], dim).values)
    return coded(rng, table, rng.integers(0, 256, (int(np.sum(lengths)), m)).astype(np.uint8), lengths)


def coded(rng, table, codes, lengths) -> CodedTokens:
    ids = None if table.centroids is None else rng.integers(0, 13, len(codes)).astype(np.uint16)
    tokens = CodedTokens(table, codes, offsets_of(lengths), ids)
    if ids is None:
        return tokens
    norms = np.linalg.norm(tokens.decode(), axis=1)
    return CodedTokens(table, codes, tokens.offsets, ids, (1 / norms).astype(np.float16))


@pytest.mark.parametrize("backend", kernels.HOST_BACKENDS)
def test_small_integers_are_exact(rng, backend):
    queries = Ragged(rng.integers(-3, 4, (40, 64)).astype(np.float32), offsets_of([8, 32]))
    documents = Ragged(rng.integers(-3, 4, (500, 64)).astype(np.float32), offsets_of([100, 1, 399]))
    similarities = queries.values.astype(np.int64) @ documents.values.astype(np.int64).T
    best = np.stack([part.max(axis=1) for part in np.split(similarities, [100, 101], axis=1)], axis=1)
    expected = np.stack([best[:8].sum(axis=0), best[8:].sum(axis=0)])
    assert np.array_equal(kernels.maxsim(queries, documents, backend=backend), expected)


@pytest.mark.parametrize("backend", kernels.HOST_BACKENDS)
class TestInvariance:
    @pytest.fixture
    def pair(self, rng):
        return unit(rng, [5, 9, 2], 64), unit(rng, [4, 30, 1, 17, 8], 64)

    def test_permuted_documents(self, pair, backend):
        queries, documents = pair
        order = np.array([3, 0, 4, 2, 1])
        scores = kernels.maxsim(queries, documents, backend=backend)
        permuted = kernels.maxsim(queries, documents.take(order), backend=backend)
        assert_close(permuted, scores[:, order], bound(queries, 64))

    def test_sliced_queries(self, pair, backend):
        queries, documents = pair
        scores = kernels.maxsim(queries, documents, backend=backend)
        assert_close(kernels.maxsim(queries.slice(1, 3), documents, backend=backend), scores[1:], bound(queries, 64))

    def test_concatenated_documents(self, pair, backend):
        queries, documents = pair
        scores = kernels.maxsim(queries, documents, backend=backend)
        parts = [kernels.maxsim(queries, part, backend=backend) for part in (documents.slice(0, 2), documents.slice(2, 5))]
        assert_close(np.concatenate(parts, axis=1), scores, bound(queries, 64))

    def test_a_repeated_token_changes_nothing(self, pair, backend):
        queries, documents = pair
        doubled = Ragged.from_list([np.concatenate([d, d[:1]]) for d in documents])
        scores = kernels.maxsim(queries, documents, backend=backend)
        assert_close(kernels.maxsim(queries, doubled, backend=backend), scores, bound(queries, 64))


def test_blocks_change_nothing(rng, monkeypatch):
    from colbert_research.kernels import torch_backend

    queries, documents = unit(rng, [5, 9, 2, 30], 64), unit(rng, rng.integers(1, 60, 50), 64)
    whole = kernels.maxsim(queries, documents, backend="torch")
    monkeypatch.setattr(torch_backend, "BLOCK_ROWS", 7)
    monkeypatch.setattr(torch_backend, "BLOCK_COLUMNS", 3)
    assert_close(kernels.maxsim(queries, documents, backend="torch"), whole, bound(queries, 64))


@given(st.integers(0, 40), st.integers(1, 30), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**32 - 1))
def test_packing_round_trips(n, dim, bits, seed):
    codes = np.random.default_rng(seed).integers(0, 2**bits, (n, dim)).astype(np.uint8)
    packed = pack_bits(codes, bits)
    assert packed.shape == (n, -(-dim * bits // 8))
    assert np.array_equal(unpack_bits(packed, bits, dim), codes)


@given(st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.5, -3.0]), max_size=30), st.integers(1, 40))
def test_topk_is_the_sorted_head(scores, k):
    expected = [i for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)) if scores[i] > -np.inf][:k]
    assert kernels.topk(np.array(scores, np.float32), k).tolist() == expected


def test_bad_input(rng):
    with pytest.raises(ValueError, match="64 dimensions and documents 32"):
        kernels.maxsim(unit(rng, [2], 64), unit(rng, [2], 32))
    with pytest.raises(ValueError, match="unknown kernel backend 'cobol'"):
        kernels.maxsim(unit(rng, [2], 64), unit(rng, [2], 64), backend="cobol")
    with pytest.raises(ValueError, match="at least 1"):
        kernels.topk(np.zeros(3, np.float32), 0)
    with pytest.raises(ValueError, match="NaN"):
        kernels.topk(np.array([1, np.nan], np.float32), 1)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("n", "dim", "bits"), [(0, 3, 2), (1, 1, 1), (50, 13, 4), (300, 128, 8)])
def test_bucket_numbers(rng, backend, n, dim, bits):
    values = rng.integers(-4, 5, (n, dim)).astype(np.float32)  # many of them on a cutoff, where the lower bucket is right
    scales, cutoffs = (
        rng.choice([0.5, 1, 2], dim).astype(np.float32),
        np.sort(rng.integers(-4, 5, 2**bits - 1)).astype(np.float32),
    )
    got = kernels.bucket_numbers(values, scales, cutoffs, backend=backend)
    assert got.dtype == np.uint8
    assert got.tolist() == [
        [sum(v / s > cutoff for cutoff in cutoffs) for v, s in zip(row, scales, strict=True)] for row in values
    ]


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=20, deadline=None)
@given(n_cutoffs=st.integers(0, 255), seed=st.integers(0, 2**32 - 1))
def test_bucket_numbers_of_any_number_of_limits(backend, n_cutoffs, seed):
    rng = np.random.default_rng(seed)
    values, cutoffs = (
        rng.integers(-9, 10, (7, 20)).astype(np.float32),
        np.sort(rng.integers(-8, 9, n_cutoffs)).astype(np.float32),
    )
    values[0, :2] = np.inf, -np.inf
    got = kernels.bucket_numbers(values, np.full(20, 2, np.float32), cutoffs / 2, backend=backend)
    assert np.array_equal(got, (values[:, :, None] > cutoffs).sum(axis=2))


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 255, 256, 257, 700])
@pytest.mark.parametrize("k", [1, 15, 16, 17, 40])
def test_assign_around_the_block_sizes(rng, n, k):
    vectors, centroids = rng.integers(-3, 4, (n, 5)).astype(np.float32), rng.integers(-3, 4, (k, 5)).astype(np.float32)
    got = kernels.assign(vectors, centroids, backend="cpu")
    assert got.tolist() == kernels.assign(vectors, centroids, backend="reference").tolist()
