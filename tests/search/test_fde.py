"""Fixed dimensional encodings: against a definition written with loops, and the properties that the paper proves or uses."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research import kernels
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search.fde import FixedDimensional, count_sketch, fde_of_documents, fde_of_queries, random_signs, simhash
from tests.conftest import random_ragged

DIM = 12
EPS = float(np.finfo(np.float32).eps)


def texts(seed: int, lengths) -> Ragged:
    return random_ragged(np.random.default_rng(seed), lengths, DIM)


def estimate(queries: Ragged, documents: Ragged, encoding: FixedDimensional) -> np.ndarray:
    return fde_of_queries(queries, encoding) @ fde_of_documents(documents, encoding).T


def by_hand(text: np.ndarray, encoding: FixedDimensional, *, document: bool) -> np.ndarray:
    """One text's encoding, bucket by bucket, in float64, with the same draws."""
    parts = []
    for repetition in range(encoding.repetitions):
        rng = np.random.default_rng([encoding.seed, repetition])
        hyperplanes = rng.standard_normal((DIM, encoding.k_sim), np.float32).astype(np.float64)
        signs = 2 * rng.integers(0, 2, (DIM, encoding.d_proj)) - 1 if encoding.d_proj else np.eye(DIM)
        scale = np.sqrt(encoding.d_proj) if encoding.d_proj else 1
        patterns = [tuple(int(side > 0) for side in token @ hyperplanes) for token in text.astype(np.float64)]
        blocks = []
        # the first hyperplane is the lowest bit of a bucket's number
        for bucket in (tuple(reversed(bits)) for bits in itertools.product((0, 1), repeat=encoding.k_sim)):
            inside = [token for token, pattern in zip(text, patterns, strict=True) if pattern == bucket]
            if inside:
                value = np.sum(inside, axis=0, dtype=np.float64) / (len(inside) if document else 1)
            elif document and encoding.fill_empty:
                distances = [sum(a != b for a, b in zip(bucket, pattern, strict=True)) for pattern in patterns]
                value = text[int(np.argmin(distances))]
            else:
                value = np.zeros(DIM)
            blocks.append(value @ signs / scale)
        parts.append(np.concatenate(blocks))
    return np.concatenate(parts) / (1 if document else encoding.repetitions)


@pytest.mark.parametrize("fill_empty", [True, False])
@pytest.mark.parametrize(("k_sim", "d_proj"), [(0, None), (1, 5), (4, None), (3, 8)])
def test_the_definition(fill_empty, k_sim, d_proj):
    encoding = FixedDimensional(repetitions=3, k_sim=k_sim, d_proj=d_proj, fill_empty=fill_empty, seed=9)
    given_texts = texts(1, [7, 1, 20])
    for function, document in ((fde_of_queries, False), (fde_of_documents, True)):
        encoded = function(given_texts, encoding)
        assert encoded.shape == (3, encoding.width(DIM))
        assert encoded.dtype == np.float32
        for row, text in zip(encoded, given_texts, strict=True):
            expected = by_hand(text, encoding, document=document)
            # sums of at most 20 unit vectors, projected by a product over DIM signs of at most 1
            assert row == pytest.approx(expected, abs=20 * DIM * EPS)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), k_sim=st.integers(0, 6), repetitions=st.integers(1, 4))
def test_filled_and_unprojected_it_never_exceeds_maxsim(seed, k_sim, repetitions):
    """A query token meets a mean of document tokens, or one of them: at most its maximum."""
    encoding = FixedDimensional(repetitions=repetitions, k_sim=k_sim, d_proj=None, seed=seed)
    queries, documents = texts(seed, [6, 1]), texts(seed + 1, [9, 1, 3])
    exact = kernels.maxsim(queries, documents, backend="reference")
    assert np.all(estimate(queries, documents, encoding) <= exact + 6 * DIM * 2**k_sim * EPS)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), k_sim=st.integers(0, 6))
def test_a_document_of_one_token_is_encoded_exactly(seed, k_sim):
    encoding = FixedDimensional(repetitions=2, k_sim=k_sim, d_proj=None, seed=seed)
    queries, documents = texts(seed, [6, 1]), texts(seed + 1, [1, 1])
    exact = kernels.maxsim(queries, documents, backend="reference")
    assert estimate(queries, documents, encoding) == pytest.approx(exact, abs=6 * DIM * 2**k_sim * EPS)


def test_with_buckets_enough_it_finds_the_query_in_the_document():
    """Where every token has a bucket of its own, a query's token that occurs in the document meets exactly itself."""
    encoding = FixedDimensional(repetitions=2, k_sim=14, d_proj=None, seed=0)
    document = texts(5, [6])
    for repetition in range(encoding.repetitions):
        hyperplanes = np.random.default_rng([0, repetition]).standard_normal((DIM, 14), np.float32)
        assert len(set(simhash(document.values, hyperplanes))) == 6, "the premise of this test"
    query = Ragged(document.values[[4, 1, 2]], offsets_of([3]))
    assert estimate(query, document, encoding)[0, 0] == pytest.approx(3, abs=3 * DIM * EPS)


def test_the_more_buckets_the_nearer():
    """The gap to MaxSim is what a bucket's mean loses against its maximum: it shrinks as the buckets get smaller (2.1)."""
    queries, documents = texts(1, [8] * 20), texts(2, [24] * 20)
    exact = kernels.maxsim(queries, documents, backend="reference")
    gaps = [
        float(np.mean(exact - estimate(queries, documents, FixedDimensional(repetitions=8, k_sim=k_sim, d_proj=None))))
        for k_sim in (0, 2, 4, 6)
    ]
    assert gaps == sorted(gaps, reverse=True)


@pytest.mark.slow
def test_repetitions_average_out_what_was_drawn():
    """The estimate of R repetitions is a mean of R independent ones: the spread over seeds falls by sqrt(R)."""
    query, document, seeds = texts(1, [8]), texts(2, [24]), 200

    def spread(repetitions: int) -> float:
        drawn = [FixedDimensional(repetitions=repetitions, k_sim=3, d_proj=4, seed=seed) for seed in range(seeds)]
        return float(np.std([estimate(query, document, encoding)[0, 0] for encoding in drawn]))

    # a deviation from n draws errs by 1 / sqrt(2 n) of itself: five of those errors on each side
    slack = 1 + 5 * np.sqrt(2 / (2 * seeds))
    assert 3 / slack <= spread(1) / spread(9) <= 3 * slack


@pytest.mark.parametrize("kind", ["inner", "final"])
def test_projections_keep_inner_products_on_average(kind, rng):
    x, y = rng.standard_normal((2, 40)) / np.sqrt(40)
    reduced, draws = 8, 4000
    products = []
    for draw in range(draws):
        own = np.random.default_rng(draw)
        matrix = random_signs(own, 40, reduced).T if kind == "inner" else count_sketch(own, 40, reduced)
        products.append((matrix @ x) @ (matrix @ y))
    # both sketches have a variance of at most (|x|^2 |y|^2 + <x, y>^2) / reduced; five standard errors of the mean
    error = np.sqrt(((x @ x) * (y @ y) + (x @ y) ** 2) / reduced / draws)
    assert np.mean(products) == pytest.approx(x @ y, abs=5 * error)


def test_the_final_projection_is_a_count_sketch_of_the_whole():
    """With the same draws: what the sketches of all repetitions, side by side, make of the encoding without one."""
    plain = FixedDimensional(repetitions=3, k_sim=2, d_proj=4, seed=7)
    documents = texts(3, [5, 9])
    sketches = []
    for repetition in range(3):
        rng = np.random.default_rng([7, repetition])
        rng.standard_normal((DIM, 2), np.float32)
        random_signs(rng, DIM, 4)
        sketches.append(count_sketch(rng, 16, 10).toarray())
    expected = fde_of_documents(documents, plain) @ np.concatenate(sketches, axis=1).T
    projected = fde_of_documents(documents, plain.model_copy(update={"d_final": 10}))
    assert projected.shape == (2, 10)
    assert projected == pytest.approx(expected, abs=48 * EPS * float(np.abs(expected).max()))


@pytest.mark.parametrize("d_final", [None, 20])
def test_queries_add_and_documents_average(d_final):
    encoding = FixedDimensional(repetitions=2, k_sim=3, d_proj=4, d_final=d_final)
    one, other = texts(1, [5]), texts(2, [8])
    both = Ragged(np.concatenate([one.values, other.values]), offsets_of([13]))
    added = fde_of_queries(one, encoding) + fde_of_queries(other, encoding)
    assert fde_of_queries(both, encoding) == pytest.approx(added, abs=13 * DIM * EPS)
    twice = Ragged(np.concatenate([one.values, one.values]), offsets_of([10]))
    assert fde_of_documents(twice, encoding) == pytest.approx(fde_of_documents(one, encoding), abs=10 * DIM * EPS)


def test_one_bucket_is_mean_pooling():
    encoding = FixedDimensional(repetitions=1, k_sim=0, d_proj=None)
    documents = texts(4, [3, 8])
    means = np.stack([document.mean(axis=0) for document in documents])
    assert fde_of_documents(documents, encoding) == pytest.approx(means, abs=8 * EPS)


def test_texts_do_not_touch_each_other():
    encoding = FixedDimensional(repetitions=2, k_sim=3, d_proj=4)
    documents = texts(6, [4, 0, 7, 2])
    together = fde_of_documents(documents, encoding)
    assert not together[1].any(), "a document without tokens is a zero, filled or not"
    for i in (0, 2, 3):
        assert fde_of_documents(documents.slice(i, i + 1), encoding)[0] == pytest.approx(together[i], abs=7 * DIM * EPS)
    assert fde_of_documents(documents.slice(0, 0), encoding).shape == (0, 64)
    assert np.array_equal(together, fde_of_documents(documents, encoding))
    assert not np.array_equal(together, fde_of_documents(documents, encoding.model_copy(update={"seed": 1})))


def test_widths():
    assert FixedDimensional(repetitions=20, k_sim=5, d_proj=16).width(128) == 10_240
    assert FixedDimensional(repetitions=40, k_sim=6, d_proj=None, d_final=10_240).full_width(128) == 327_680
    assert FixedDimensional(repetitions=40, k_sim=6, d_proj=None, d_final=10_240).width(128) == 10_240
    with pytest.raises(ValueError, match="d_final=64 does not make the 64 dimensions fewer"):
        FixedDimensional(repetitions=2, k_sim=2, d_proj=8, d_final=64).width(128)
