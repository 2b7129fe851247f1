"""Reducers, against NumPy's own SVD and the definitions."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from colbert_research.encoders.projection import Projection
from colbert_research.encoders.reduce import REDUCERS, IdentityConfig, RandomProjectionConfig, SVDConfig, project
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages import reduce
from colbert_research.ragged import Ragged, save_npy
from colbert_research.settings import ConfigError

EPS = float(np.finfo(np.float32).eps)
DIM, KEPT = 16, 5


@pytest.fixture
def sample(rng) -> np.ndarray:
    """`(200, DIM)`, with singular values that halve, so that every subspace is well defined."""
    left, _ = np.linalg.qr(rng.standard_normal((200, DIM)))
    right, _ = np.linalg.qr(rng.standard_normal((DIM, DIM)))
    return (left * 0.5 ** np.arange(DIM) @ right.T).astype(np.float32)


def test_svd_finds_the_leading_directions(sample):
    found = SVDConfig(dim=KEPT).fit(sample, seed=0).matrix.astype(np.float64)
    expected = np.linalg.svd(sample.astype(np.float64))[2][:KEPT].T
    # rounding a unit column to float32 moves it by at most EPS / 2; V V' by twice that, times sqrt(KEPT) in Frobenius norm;
    # the float64 part, eps64 * |G| / gap = eps64 * 4**KEPT * 4 / 3, is far below. Factor 2 for the second-order term
    assert np.linalg.norm(found @ found.T - expected @ expected.T) <= 2 * EPS * np.sqrt(KEPT)
    # and column by column, up to sign: |<found, expected>| = 1
    np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=0)), 1, rtol=0, atol=2 * EPS)


def test_svd_does_not_centre_unless_it_is_told_to():
    sample = np.zeros((50, 3), np.float32)
    sample[:, 0] = 10
    sample[:, 1] = np.resize([1, -1], 50)
    assert np.abs(SVDConfig(dim=1).fit(sample, seed=0).matrix).argmax() == 0, "the mean is a direction, not an offset"
    assert np.abs(SVDConfig(dim=1, centre=True).fit(sample, seed=0).matrix).argmax() == 1


@pytest.mark.parametrize(
    "config", [SVDConfig(dim=KEPT), SVDConfig(dim=KEPT, whiten=0.5, centre=True), RandomProjectionConfig(dim=KEPT)]
)
def test_the_same_sample_and_seed_give_the_same_bytes(sample, config):
    first, again = config.fit(sample, seed=3).arrays(), config.fit(sample.copy(), seed=3).arrays()
    shapes = {"projection": (DIM, KEPT)} | ({"mean": (DIM,)} if getattr(config, "centre", False) else {})
    assert {name: (array.shape, array.dtype) for name, array in first.items()} == {
        n: (s, np.float32) for n, s in shapes.items()
    }
    assert {name: array.tobytes() for name, array in again.items()} == {name: a.tobytes() for name, a in first.items()}


def test_the_sign_of_svd_does_not_hang_on_the_data(sample):
    directions = SVDConfig(dim=KEPT).fit(sample, seed=0).matrix
    assert (directions[np.abs(directions).argmax(axis=0), np.arange(KEPT)] > 0).all()
    assert SVDConfig(dim=KEPT).fit(-sample, seed=1).matrix.tobytes() == directions.tobytes()


@pytest.mark.parametrize("dim", [1, KEPT, DIM])
def test_random_projection_is_orthonormal_and_seeded(dim):
    empty = np.empty((0, DIM), np.float32)
    found = RandomProjectionConfig(dim=dim).fit(empty, seed=1).matrix
    wide = found.astype(np.float64)
    # two unit columns, each rounded by at most EPS / 2: their product moves by at most EPS; twice it for second order
    np.testing.assert_allclose(wide.T @ wide, np.eye(dim), rtol=0, atol=2 * EPS)
    assert not np.array_equal(RandomProjectionConfig(dim=dim).fit(empty, seed=2).matrix, found)


def test_svd_keeps_at_least_as_much_as_a_random_projection(sample):
    wide = sample.astype(np.float64)
    kept = np.sum((wide @ SVDConfig(dim=KEPT).fit(sample, seed=0).matrix) ** 2)
    # squared length kept changes by at most 2 * (EPS / 2) * sqrt(KEPT) of the whole, on either side
    slack = 2 * EPS * np.sqrt(KEPT) * np.sum(wide**2)
    for seed in range(20):
        assert kept >= np.sum((wide @ RandomProjectionConfig(dim=KEPT).fit(sample, seed=seed).matrix) ** 2) - slack
    best = np.sum(np.linalg.svd(wide, compute_uv=False)[:KEPT] ** 2)
    assert abs(kept - best) <= slack


@pytest.mark.parametrize("config", [SVDConfig(dim=DIM + 1), RandomProjectionConfig(dim=DIM + 1)])
def test_more_dimensions_than_there_are(sample, config):
    with pytest.raises(ConfigError, match=r"reducer\.dim=17 is more than the 16"):
        config.fit(sample, seed=0)


def test_projected_vectors_are_l2_normalised_and_have_the_right_direction(sample, rng):
    projection = SVDConfig(dim=KEPT).fit(sample, seed=0)
    vectors = rng.standard_normal((40, DIM)).astype(np.float32)
    vectors[7] = 0
    found = project(vectors, projection)
    assert found.dtype == np.float32
    assert (found[7] == 0).all(), "a vector without length stays so"
    others = np.delete(np.arange(40), 7)
    # KEPT squares summed, a root and a division in float32: at most (KEPT + 3) roundings of EPS / 2 in the length
    np.testing.assert_allclose(np.linalg.norm(found[others].astype(np.float64), axis=1), 1, rtol=0, atol=(KEPT + 3) * EPS)
    exact = vectors[others].astype(np.float64) @ projection.matrix
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    # a product of DIM terms errs by DIM * EPS * |v| (the columns have norm one), here against |projected v|
    bound = (DIM + KEPT + 3) * EPS * np.linalg.norm(vectors[others], axis=1, keepdims=True) / lengths
    assert (np.abs(found[others] - exact / lengths) <= 2 * bound).all()


@pytest.mark.parametrize("whiten", [0, 0.25, 0.5, 1])
@pytest.mark.parametrize("centre", [False, True])
def test_whitening_and_centring_against_numpy_in_float64(sample, rng, whiten, centre):
    """By the singular value decomposition of the tokens themselves, where ours is one of their moments."""
    tokens = sample.astype(np.float64) + 0.3
    vectors = (tokens[:40] + 0.05 * rng.standard_normal((40, DIM))).astype(np.float32)
    config = SVDConfig(dim=KEPT, whiten=whiten, centre=centre)
    found = project(vectors, config.fit(tokens.astype(np.float32), seed=0)).astype(np.float64)

    tokens = tokens.astype(np.float32).astype(np.float64)
    mean = tokens.mean(axis=0) if centre else np.zeros(DIM)
    _, singular, directions = np.linalg.svd(tokens - mean, full_matrices=False)
    signs = np.sign(directions[np.arange(DIM), np.abs(directions).argmax(axis=1)])
    matrix = ((directions * signs[:, None]).T / singular**whiten)[:, :KEPT]
    exact = (vectors - mean) @ matrix
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    # the rounding of a float32 product of DIM terms, of the matrix, of the mean and of its subtraction, by the columns' norm
    sizes = np.linalg.norm(vectors, axis=1, keepdims=True) + np.linalg.norm(mean)
    bound = 2 * (DIM + KEPT + 6) * EPS * sizes * np.linalg.norm(matrix) / lengths
    assert bound.max() < 1e-2, "or this test says nothing"
    assert (np.abs(found - exact / lengths) <= bound).all()


def test_full_whitening_gives_the_tokens_it_was_fitted_on_one_variance(sample):
    projection = SVDConfig(dim=KEPT, whiten=1, centre=True).fit(sample, seed=0)
    reduced = (sample.astype(np.float64) - projection.mean) @ projection.matrix.astype(np.float64)
    moments = reduced.T @ reduced
    # a column of the matrix is rounded by EPS / 2 of its norm, at most 2**KEPT here, and the mean by as much of its own
    np.testing.assert_allclose(moments / moments[0, 0], np.eye(KEPT), rtol=0, atol=4 * KEPT * 2.0**KEPT * EPS)


def test_at_its_defaults_svd_gives_the_bytes_that_it_gave_before_it_could_whiten(sample):
    moments = sample.astype(np.float64)
    _, vectors = np.linalg.eigh(moments.T @ moments)
    directions = vectors[:, ::-1][:, :KEPT]
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(KEPT)])
    projection = SVDConfig(dim=KEPT).fit(sample, seed=0)
    assert projection.mean is None
    assert projection.matrix.tobytes() == np.ascontiguousarray(directions * signs, np.float32).tobytes()
    assert SVDConfig(dim=KEPT, whiten=0, centre=False).identity() == {"kind": "svd", "dim": KEPT}


def test_the_mean_token_itself_has_no_direction_left(sample):
    projection = SVDConfig(dim=KEPT, centre=True).fit(sample, seed=0)
    assert (project(projection.mean[None], projection) == 0).all()


def test_directions_that_no_token_lies_in_cannot_be_whitened(sample):
    flat = sample.copy()
    flat[:, 3:] = 0
    with pytest.raises(ConfigError, match=r"the 200 document tokens that it is fitted on span 3: use reducer\.dim=3 or less"):
        SVDConfig(dim=KEPT, whiten=0.5).fit(flat, seed=0)
    assert np.isfinite(SVDConfig(dim=3, whiten=1).fit(flat, seed=0).matrix).all()
    with pytest.raises(ConfigError, match="those of the 200 document tokens that it is fitted on are 0: use whiten=0"):
        SVDConfig(dim=KEPT, whiten=1).fit(np.zeros_like(sample), seed=0)
    with pytest.raises(ConfigError, match="the mean of the document tokens, and the collection has none"):
        SVDConfig(dim=KEPT, centre=True).fit(sample[:0], seed=0)
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValidationError, match="whiten"):
            SVDConfig(whiten=wrong)


def test_memory_of_reducing_is_flat_in_the_size_of_the_collection(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(reduce, "CHUNK_ROWS", 1000)
    config, peaks = SVDConfig(dim=8, sample=500, whiten=0.5, centre=True), []
    for times in (2, 8):
        source, folder = tmp_path / f"source{times}", tmp_path / f"reduced{times}"
        source.mkdir()
        folder.mkdir()
        save_npy(source / "vectors.npy", rng.standard_normal((times * 5000, 64)).astype(np.float32))
        save_npy(source / "token_ids.npy", np.zeros(times * 5000, np.int32))
        save_npy(source / "offsets.npy", np.array([0, times * 5000]))
        stage = Stage("reduce", {"reducer": config, "seed": 0}, {"vectors": source})
        workspace = SimpleNamespace(path=lambda input: input)
        tracemalloc.start()
        try:
            reduce.compute(workspace, stage, folder)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    # what is drawn to know the sample is a permutation of the row numbers, 8 bytes each, where a vector has 256
    assert peaks[1] - peaks[0] <= 8 * 6 * 5000 + 2**16


@pytest.mark.parametrize("given", [np.eye(DIM, 3, dtype=np.float32), Projection(np.eye(DIM, 3, dtype=np.float32))])
def test_a_reducer_of_ones_own_gives_a_matrix_or_a_projection(sample, given):
    vectors = Ragged.from_list([sample])
    found = reduce._fit(stage_of(given), vectors)
    assert isinstance(found, Projection) and found.mean is None and np.array_equal(found.matrix, np.eye(DIM, 3))
    with pytest.raises(ConfigError, match=r"reducer\.kind=own gave no projection; use reducer\.kind=identity"):
        reduce._fit(stage_of(None), vectors)


def stage_of(given) -> Stage:
    reducer = SimpleNamespace(kind="own", sample_size=lambda n: 1, fit=lambda sample, *, seed: given)
    return Stage("reduce", {"reducer": reducer, "seed": 0})


def test_identity_only_converts():
    vectors = np.array([[3.0, 4.0]], np.float16)
    found = project(vectors, IdentityConfig().fit(vectors, seed=0))
    assert found.dtype == np.float32
    assert found.tolist() == [[3.0, 4.0]]


def test_sample_sizes():
    assert SVDConfig(sample=10).sample_size(7) == 7
    assert SVDConfig(sample=10).sample_size(70) == 10
    assert [REDUCERS[kind]().sample_size(99) for kind in ("identity", "random_projection")] == [0, 0]
