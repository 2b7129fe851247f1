"""The contract of the pooling axis: every member of POOLERS passes the same suite."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from colbert_research.encoders import TokenVectors
from colbert_research.encoders.pooling import (
    POOLERS,
    DominancePruningConfig,
    IdfPruningConfig,
    KMeansPoolingConfig,
    Merging,
    NoPoolingConfig,
    NormPruningConfig,
    PositionPruningConfig,
    Proportional,
    RandomPruningConfig,
    SequentialPoolingConfig,
    VoronoiPruningConfig,
    WardPoolingConfig,
)
from colbert_research.ragged import Ragged, offsets_of

EPS = float(np.finfo(np.float32).eps)
DIM, VOCABULARY = 12, 40
LENGTHS = [0, 1, 2, 3, 7, 30, 41, 1, 24]
CASES = [
    NoPoolingConfig(),
    *(WardPoolingConfig(definition=definition) for definition in ("euclidean", "cosine", "cosine_rows")),
    WardPoolingConfig(merged="mean", protected=0),
    KMeansPoolingConfig(),
    SequentialPoolingConfig(factor=3, protected=0),
    IdfPruningConfig(),
    NormPruningConfig(factor=1.5),
    PositionPruningConfig(protected=2),
    VoronoiPruningConfig(samples=64),
    RandomPruningConfig(factor=4),
    DominancePruningConfig(threshold=0.6),
]
IDS = ["-".join(str(v) for v in reversed(c.model_dump().values())) for c in CASES]
SEEDED = {"kmeans", "prune_voronoi", "prune_random"}


@pytest.fixture(scope="module")
def documents() -> TokenVectors:
    """Vectors around one mean direction, as of an encoder; some tokens twice, one document twice, one of equal tokens alone."""
    rng = np.random.default_rng(5)
    token_ids = rng.integers(0, VOCABULARY, sum(LENGTHS)).astype(np.int32)
    values = rng.standard_normal((sum(LENGTHS), DIM)) + 1
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    parts = [TokenVectors(Ragged(values.astype(np.float32), offsets_of(LENGTHS)), Ragged(token_ids, offsets_of(LENGTHS)))]
    parts.append(taken(parts[0], [6]))
    same = np.repeat(values[:1], 9, axis=0).astype(np.float32)
    parts.append(TokenVectors(Ragged(same, offsets_of([9])), Ragged(np.full(9, 3, np.int32), offsets_of([9]))))
    parts[0].vectors.values[-8:] = parts[0].vectors.values[-16:-8]
    return TokenVectors(*(Ragged.concat([part[i] for part in parts]) for i in range(2)))


def taken(documents: TokenVectors, items) -> TokenVectors:
    return TokenVectors(*(part.take(items) for part in documents))


def suited(config, documents: TokenVectors) -> TokenVectors:
    """The documents; for a pooler that needs them, with vectors of different lengths."""
    if config.kind != "prune_norm":
        return documents
    lengths = np.random.default_rng(0).uniform(0.5, 1.5, (documents.vectors.n_rows, 1)).astype(np.float32)
    return TokenVectors(documents.vectors.map(lambda values: values * lengths), documents.token_ids)


def pooled(config, documents: TokenVectors, seed: int = 3) -> TokenVectors:
    return config.pool(documents, config.fit(documents), seed=seed)


def assert_same(one: TokenVectors, other: TokenVectors) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.offsets.tolist() == b.offsets.tolist()
        assert np.asarray(a.values).tobytes() == np.asarray(b.values).tobytes()


def test_every_member_is_covered():
    assert {config.kind for config in CASES} == set(POOLERS)
    assert all(POOLERS[config.kind] is type(config) for config in CASES)


@pytest.mark.parametrize("config", CASES, ids=IDS)
class TestContract:
    def test_shapes_and_dtypes(self, config, documents):
        inputs = suited(config, documents)
        found = pooled(config, inputs)
        assert found.vectors.values.shape == (found.token_ids.n_rows, DIM)
        assert (found.vectors.values.dtype, found.token_ids.values.dtype) == (np.float32, np.int32)
        assert len(found.vectors) == len(found.token_ids) == len(inputs.vectors)
        assert np.array_equal(found.vectors.offsets, found.token_ids.offsets)
        assert np.isfinite(found.vectors.values).all()

    def test_a_factor_of_one_changes_nothing(self, config, documents):
        if not isinstance(config, (Proportional, NoPoolingConfig)):
            pytest.skip("keeps no share")
        if config.kind != "none":
            config = config.model_copy(update={"factor": 1.0})
        halves = TokenVectors(documents.vectors.map(lambda values: values.astype(np.float16)), documents.token_ids)
        for inputs in (documents, halves):
            assert_same(pooled(config, inputs), inputs)

    def test_how_many_tokens_are_left(self, config, documents):
        inputs = suited(config, documents)
        if config.kind == "none":
            assert_same(pooled(config, inputs), inputs)
            return
        lengths = inputs.vectors.lengths.tolist()
        if not isinstance(config, Proportional):
            for protected in (0, 1, 5):
                left = pooled(config.model_copy(update={"protected": protected}), inputs).vectors.lengths.tolist()
                least = [min(length, max(1, protected)) for length in lengths]
                assert all(low <= n <= most for low, n, most in zip(least, left, lengths, strict=True))
            assert sum(left) < sum(lengths)
            return
        for hundredths, protected in ((100, 1), (101, 0), (150, 2), (200, 1), (300, 0), (333, 5), (600, 1), (10_000_000, 1)):
            changed = config.model_copy(update={"factor": hundredths / 100, "protected": protected})
            free = [max(0, length - protected) for length in lengths]
            kept = [min(n, max(1, n * 100 // hundredths)) for n in free]
            expected = inputs.vectors.lengths - np.array(free) + np.array(kept)
            assert pooled(changed, inputs).vectors.lengths.tolist() == expected.tolist()

    def test_the_same_again(self, config, documents):
        inputs = suited(config, documents)
        before = [part.values.copy() for part in inputs]
        assert_same(pooled(config, inputs), pooled(type(config)(**config.model_dump()), inputs))
        assert all(np.array_equal(a, b.values) for a, b in zip(before, inputs, strict=True)), "the input was written to"

    def test_the_seed(self, config, documents):
        inputs = suited(config, documents)
        one, other = (pooled(config, inputs, seed=seed).vectors.values.tobytes() for seed in (3, 4))
        assert (one != other) == (config.kind in SEEDED)

    def test_a_document_depends_on_no_other(self, config, documents):
        inputs = suited(config, documents)
        state = config.fit(inputs)
        among = config.pool(inputs, state, seed=3)
        order = np.random.default_rng(1).permutation(len(inputs.vectors))
        assert_same(config.pool(taken(inputs, order), state, seed=3), taken(among, order))
        for i in range(len(inputs.vectors)):
            assert_same(config.pool(taken(inputs, [i]), state, seed=3), taken(among, [i]))

    def test_one_token_none_and_no_documents(self, config, documents):
        inputs = suited(config, documents)
        state = config.fit(inputs)
        short = taken(inputs, np.flatnonzero(inputs.vectors.lengths <= 1))
        assert_same(config.pool(short, state, seed=3), short)
        assert len(config.pool(taken(inputs, []), state, seed=3).vectors) == 0
        assert len(pooled(config, TokenVectors.empty(DIM)).vectors) == 0

    def test_protected_tokens_come_first(self, config, documents):
        inputs = suited(config, documents)
        found = pooled(config, inputs)
        protected = getattr(config, "protected", 0)
        for part, wanted in zip(found, inputs, strict=True):
            assert all(a[:protected].tobytes() == b[:protected].tobytes() for a, b in zip(part, wanted, strict=True))

    def test_token_ids_are_those_of_the_document(self, config, documents):
        inputs = suited(config, documents)
        for ids, wanted in zip(pooled(config, inputs).token_ids, inputs.token_ids, strict=True):
            left, right = (np.bincount(x, minlength=VOCABULARY) for x in (ids, wanted))
            assert (left <= right).all()

    def test_what_is_left(self, config, documents):
        """Pruned documents are some of their tokens, in order, bit for bit; merged vectors have norm one, or at most that."""
        inputs = suited(config, documents)
        found = pooled(config, inputs)
        if config.kind.startswith("prune_"):
            for i in range(len(inputs.vectors)):
                tokens = zip(inputs.vectors[i], inputs.token_ids[i], strict=True)
                for vector, token_id in zip(found.vectors[i], found.token_ids[i], strict=True):
                    # `in` an iterator continues behind the last one found: this is a test for a subsequence
                    assert any(np.array_equal(vector, v) and token_id == t for v, t in tokens)
        if isinstance(config, Merging):
            lengths = np.linalg.norm(found.vectors.values.astype(np.float64), axis=1)
            slack = (DIM + 3) * EPS / 2  # a token alone keeps its own length: dim squares, their sum, a root, a division
            assert lengths.max() <= 1 + slack
            assert (lengths.min() >= 1 - slack) == (config.merged == "unit")

    def test_vectors_and_ids_of_different_documents(self, config, documents):
        if config.kind == "none":
            pytest.skip("looks at nothing")
        with pytest.raises(ValueError, match="not of the same documents"):
            config.pool(TokenVectors(documents.vectors, documents.token_ids.slice(0, 3)), {}, seed=3)

    @pytest.mark.parametrize("wrong", [{"factor": 0.99}, {"factor": 0}, {"factor": "nan"}, {"protected": -1}, {"factors": 2}])
    def test_wrong_settings(self, config, wrong):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            type(config).model_validate(wrong)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.sampled_from([case for case in CASES if isinstance(case, Proportional)]),
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    factor=st.floats(1, 6),
    protected=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_documents(config, lengths, factor, protected, seed):
    """Few different vectors, so that tokens repeat and cancel out: nothing breaks, and every document keeps its share."""
    rng = np.random.default_rng(seed)
    values = rng.choice([-1.0, 0.0, 1.0], (sum(lengths), 3)).astype(np.float32)
    offsets = offsets_of(lengths)
    documents = TokenVectors(Ragged(values, offsets), Ragged(rng.integers(0, 5, len(values)).astype(np.int32), offsets))
    config = config.model_copy(update={"factor": factor, "protected": protected})
    state = {} if config.kind == "prune_norm" else config.fit(documents)
    found = config.pool(documents, state, seed=seed)
    assert found.vectors.lengths.tolist() == [config.kept(length) for length in lengths]
    assert all((kept > 0) == (length > 0) for kept, length in zip(found.vectors.lengths, lengths, strict=True))
    assert np.isfinite(found.vectors.values).all()
