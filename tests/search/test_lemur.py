"""LEMUR: features and their training against definitions, and estimates that are what least squares says they are."""

import numpy as np
import pytest
from scipy.special import erf

from colbert_research import kernels
from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.index import build_index
from colbert_research.index.build import BuildConfig
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import Exhaustive, Ladr, Rerank, Trace
from colbert_research.search.first_stages import LemurStage
from colbert_research.search.lemur import RIDGE, LeastSquares, LemurVectors, token_maxima, with_constant
from colbert_research.search.token_features import TokenFeatures, gradient
from tests.conftest import random_ragged
from tests.search.conftest import DIM, EPS, built, positions_of

SMALL = {"width": 64, "sample": 200}


class TestFeatures:
    def test_the_definition(self, rng):
        """Layer norm and GELU as they are published, in float64."""
        features = TokenFeatures.random(DIM, 9, seed=4)
        affine = rng.standard_normal((3, 9)).astype(np.float32)
        tokens = rng.standard_normal((5, DIM)).astype(np.float32)
        hidden = tokens.astype(np.float64) @ features.projection + affine[0]
        normed = (hidden - hidden.mean(axis=1, keepdims=True)) / np.sqrt(hidden.var(axis=1, keepdims=True) + 1e-5)
        scaled = normed * affine[1] + affine[2]
        expected = scaled * (1 + erf(scaled / np.sqrt(2))) / 2
        given = TokenFeatures(features.projection, affine).of(tokens)
        assert given.dtype == np.float32
        assert given == pytest.approx(expected, abs=10 * DIM * EPS * float(np.abs(scaled).max()))

    def test_tokens_do_not_depend_on_each_other_nor_on_their_length(self, rng):
        features, tokens = TokenFeatures.random(DIM, 64, seed=4), rng.standard_normal((5000, DIM)).astype(np.float32)
        together = features.of(tokens)
        assert together[4999] == pytest.approx(features.of(tokens[4999:])[0], abs=20 * DIM * EPS)
        # the least variance of the layer norm is all that tells a length
        assert features.of(tokens[:10] * np.float32(4)) == pytest.approx(together[:10], abs=1e-5 * 3 * DIM * 4 + 20 * DIM * EPS)

    def test_the_gradient_is_the_slope(self, rng):
        made = TokenFeatures.random(6, 11, seed=1)
        weights = {
            "projection": made.projection.astype(np.float64),
            "affine": made.affine + 0.1 * rng.standard_normal((3, 11)),
            "output": rng.standard_normal((11, 4)),
        }
        tokens, targets, step = rng.standard_normal((7, 6)), rng.standard_normal((7, 4)), 1e-5
        _, found = gradient(weights, tokens, targets)
        for name, array in weights.items():
            for place in [*np.ndindex(array.shape)][::5]:
                errors = []
                for sign in (1, -1):
                    moved = array.copy()
                    moved[place] += sign * step
                    errors.append(gradient({**weights, name: moved}, tokens, targets)[0])
                # central differences err by step^2 times a third derivative
                assert found[name][place] == pytest.approx((errors[0] - errors[1]) / (2 * step), rel=1e-5, abs=1e-7)

    def test_training_lowers_the_error_that_random_features_leave(self, rng):
        documents = random_ragged(rng, [12] * 30, DIM)
        tokens = random_ragged(rng, [1024], DIM).values
        maxima = token_maxima(tokens, documents)
        targets = (maxima.T - maxima.mean()) / maxima.std()
        made = TokenFeatures.random(DIM, 31, seed=0)
        errors = []
        for epochs in (0, 20):
            features = made.trained(tokens, targets, epochs=epochs, seed=3).of(tokens)
            weights = np.linalg.lstsq(features, targets, rcond=None)[0]
            errors.append(float(np.square(features @ weights - targets).mean()))
        assert errors[1] < errors[0]
        assert np.array_equal(made.trained(tokens, targets, epochs=0, seed=3).projection, made.projection)
        one, other = (made.trained(tokens, targets, epochs=1, seed=seed) for seed in (3, 4))
        assert np.array_equal(one.projection, made.trained(tokens, targets, epochs=1, seed=3).projection)
        assert not np.array_equal(one.projection, other.projection)


def test_maxima_of_tokens_are_maxsim_of_queries_of_one_token(rng):
    documents, tokens = random_ragged(rng, [3, 0, 5, 1, 0], DIM), random_ragged(rng, [700], DIM).values
    exact = kernels.maxsim(Ragged(tokens, np.arange(701)), documents.take(np.array([0, 2, 3])), backend="reference")
    assert token_maxima(tokens, documents) == pytest.approx(exact.T, abs=2 * DIM * EPS)
    assert token_maxima(tokens, documents.take(np.array([1]))).shape == (0, 700)


@pytest.mark.parametrize("n", [30, 5000])
def test_weights_are_those_of_ridge_regression(rng, n):
    """As the least squares of features below which a multiple of the identity stands, which ask for zeros there."""
    features, targets = rng.standard_normal((n, 40)).astype(np.float32), rng.standard_normal((3, n)).astype(np.float32)
    ridge = np.sqrt(RIDGE * np.square(features.astype(np.float64)).sum() / 40)
    below = np.concatenate([features, ridge * np.eye(40)]), np.concatenate([targets.T, np.zeros((40, 3))])
    expected = np.linalg.lstsq(*below, rcond=None)[0].T
    # products with targets are float32 sums of n; the ridge bounds what they are divided by
    slack = n * EPS * float(np.abs(targets).max() * np.abs(features).max()) * np.sqrt(n) / ridge**2
    assert LeastSquares.of(features).weights(targets) == pytest.approx(expected, abs=min(slack, 1e-2))


@pytest.mark.parametrize("epochs", [0, 2])
def test_documents_are_the_regressions_of_their_maxima(index, epochs):
    """Of every segment by itself, on all its tokens where the sample is not smaller."""
    structure = LemurVectors(width=33, sample=10_000, epochs=epochs)
    for segment, arrays in zip(index.segments, built(structure, index), strict=True):
        tokens = np.asarray(segment.codes["vectors"], np.float32)
        features = with_constant(TokenFeatures(arrays["projection"], arrays["affine"]).of(tokens))
        documents = Ragged(tokens, segment.offsets)
        assert arrays["documents"] == pytest.approx(
            LeastSquares.of(features).weights(token_maxima(tokens, documents)), abs=1e-6
        )


@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_candidates_have_the_largest_estimates(index, queries, epochs, storage):
    stage = LemurStage(**SMALL, epochs=epochs, storage=storage)
    estimates = []
    for arrays in built(stage.structures()[0], index):
        layer = TokenFeatures(arrays["projection"], arrays["affine"])
        summed = np.stack([with_constant(layer.of(query)).sum(axis=0) for query in queries])
        estimates.append(summed.astype(np.float64) @ arrays["documents"].T.astype(np.float64))
    expected = np.argsort(-np.concatenate(estimates, axis=1), axis=1)[:, :8]
    strategy = Rerank(first_stage=stage, depth=8)
    found = strategy.search(index, queries, 8)
    assert [positions_of(found, q) for q in range(len(queries))] == [set(row.tolist()) for row in expected]
    trace = Trace()
    strategy.search(index, queries, 8, trace=trace)
    assert trace.work()["exact"]["documents"] == len(queries) * 8


def test_estimates_tell_near_documents_from_far_ones(tmp_path):
    """Most of the best ten of two hundred documents are among the thirty with the best estimates."""
    rng = np.random.default_rng(3)
    vectors = random_ragged(rng, [10] * 200, DIM)
    queries = random_ragged(rng, [6] * 30, DIM)
    collection = Collection.from_texts([f"text {i}" for i in range(200)])
    exact = None
    for build in (BuildConfig(), BuildConfig(segment_tokens=700, chunk_tokens=700)):
        index = build_index(tmp_path / str(build.segment_tokens), collection, vectors, ExactConfig(), build=build)
        exact = exact or Exhaustive().search(index, queries, 10)
        shares = []
        for stage in ("mean_vector", LemurStage(width=128, epochs=0, sample=2000)):
            found = Rerank(first_stage=stage, depth=30).search(index, queries, 10)
            both = [{d for d, _ in found.top(q)} & {d for d, _ in exact.top(q)} for q in range(30)]
            shares.append(sum(map(len, both)) / 300)
        assert shares[1] > shares[0]
        assert shares[1] > 0.5


def test_it_serves_ladr_too(index, queries):
    strategy = Ladr(first_stage=LemurStage(**SMALL, epochs=0), n_seeds=5, depth=3, graph={"neighbours": 3})
    assert len(strategy.search(index, queries, 5).top(0)) == 5


def test_documents_without_tokens(tmp_path, rng):
    vectors = random_ragged(rng, [0, 3, 0, 0, 4, 2, 0], DIM)
    collection = Collection.from_texts([f"text {i}" for i in range(7)], ids=[f"d{i}" for i in range(7)])
    build = BuildConfig(segment_tokens=3, chunk_tokens=3)
    index = build_index(tmp_path / "i", collection, vectors, ExactConfig(), build=build)
    stage = LemurStage(width=8, sample=5, epochs=1)
    documents = np.concatenate([arrays["documents"] for arrays in built(stage.structures()[0], index)])
    assert np.array_equal(np.any(documents, axis=1), vectors.lengths > 0)
    empty = Ragged(np.empty((0, DIM), np.float32), offsets_of([0]))
    index = index.add(Collection.from_texts(["nothing"], ids=["d7"]), empty)
    found = Rerank(first_stage=stage, depth=6).search(index, random_ragged(rng, [2], DIM), 6)
    assert {document for document, _ in found.top(0)} <= {"d1", "d4", "d5"}


def test_vectors_are_shared_by_searches_that_agree_in_them():
    assert Rerank(first_stage="lemur", depth=5).structures() == Rerank(first_stage="lemur", depth=9).structures()
    for settings in ({"width": 100}, {"epochs": 0}, {"sample": 7}, {"storage": "float16"}, {"seed": 1}):
        assert LemurStage(**settings).structures() != LemurStage().structures()
