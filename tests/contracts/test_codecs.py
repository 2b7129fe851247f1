"""The contract of the codec axis: every member of CODECS passes the same suite."""

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.codecs import CODECS, ExactConfig, ResidualConfig, open_codec, save_codec
from colbert_research.codecs.base import bytes_per_token
from colbert_research.codecs.clustering import kmeans, plaid_centroid_count
from colbert_research.config import ConfigError
from colbert_research.ragged import Ragged, offsets_of

DIM = 48
CASES = [
    ExactConfig(),
    ExactConfig(dtype="float16"),
    *(ResidualConfig(nbits=bits, centroids=16) for bits in (1, 2, 4, 8)),
    ResidualConfig(nbits=4, centroids="plaid"),
    ResidualConfig(nbits=2, centroids=16, buckets="global"),
]
IDS = ["-".join(str(v) for v in c.model_dump().values()) for c in CASES]


def clustered(n: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around 20 directions, with less spread in later dimensions, as after an SVD."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).standard_normal((20, DIM))
    values = directions[rng.integers(0, 20, n)] + rng.standard_normal((n, DIM)) * np.linspace(1, 0.2, DIM)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(3000)


def fit(config, vectors, seed=3):
    return config.fit(vectors[: config.sample_size(len(vectors))], n_tokens=len(vectors), seed=seed)


def error(codec, vectors) -> float:
    return float(np.linalg.norm(codec.decode(codec.encode(vectors)) - vectors, axis=1).mean())


def test_every_member_is_covered():
    assert {config.kind for config in CASES} == set(CODECS)


@pytest.mark.parametrize("config", CASES, ids=IDS)
class TestContract:
    def test_layout_is_what_encode_gives(self, config, vectors):
        codec = fit(config, vectors)
        codes = codec.encode(vectors)
        assert {n: (a.dtype, a.shape[1:]) for n, a in codes.items()} == dict(codec.layout)
        assert all(len(array) == len(vectors) for array in codes.values())
        assert bytes_per_token(codec) == sum(array.nbytes for array in codes.values()) / len(vectors)
        assert codec.dim == DIM

    def test_round_trip(self, config, vectors):
        codec = fit(config, vectors)
        decoded = codec.decode(codec.encode(vectors))
        assert decoded.dtype == np.float32
        assert decoded.shape == vectors.shape
        if config.kind == "exact":
            assert np.array_equal(decoded, vectors.astype(config.dtype).astype(np.float32))
        else:
            lengths = np.linalg.norm(decoded, axis=1)
            # the stored inverse norm is a float16: half a unit in its last place, and float32 sums over the dimensions
            assert np.abs(lengths - 1).max() <= np.finfo(np.float16).eps + DIM * np.finfo(np.float32).eps
            to_centroid = np.linalg.norm(codec.centroids[codec.encode(vectors)["centroid_ids"]] - vectors, axis=1).mean()
            assert error(codec, vectors) < to_centroid

    def test_deterministic(self, config, vectors):
        one, two = fit(config, vectors), fit(config, vectors)
        for name, array in one.state().items():
            assert array.tobytes() == two.state()[name].tobytes()
        for name, array in one.encode(vectors).items():
            assert array.tobytes() == two.encode(vectors)[name].tobytes()

    def test_save_and_open(self, config, vectors, tmp_path):
        codec = fit(config, vectors)
        save_codec(codec, tmp_path / "codec")
        opened = open_codec(tmp_path / "codec")
        assert opened.config == config
        codes = codec.encode(vectors)
        for name, array in opened.encode(vectors).items():
            assert np.array_equal(array, codes[name])
        assert np.array_equal(opened.decode(codes), codec.decode(codes))

    def test_tokens_are_encoded_independently(self, config, vectors):
        codec = fit(config, vectors)
        whole, order = codec.encode(vectors[:500]), np.random.default_rng(1).permutation(500)
        permuted = codec.encode(vectors[:500][order])
        for name, array in whole.items():
            assert np.array_equal(array[order], permuted[name])

    def test_maxsim_is_that_of_the_decoded_vectors(self, config, vectors):
        codec = fit(config, vectors)
        codes, offsets = codec.encode(vectors[:400]), offsets_of([100, 1, 250, 49])
        queries = Ragged(clustered(12, seed=5), offsets_of([5, 7]))
        scores = codec.maxsim(queries, codes, offsets)
        expected = kernels.maxsim(queries, Ragged(codec.decode(codes), offsets), backend="reference")
        assert np.abs(scores - expected).max() <= np.finfo(np.float32).eps * DIM * 7 * 2

    @pytest.mark.parametrize("n", [1, 2, 50])
    def test_tiny_collections(self, config, n, tmp_path):
        few = clustered(n, seed=n)
        if getattr(config, "centroids", None) == 16 and n < 16:
            with pytest.raises(ConfigError, match=f"centroids=16, but the collection has {n} tokens"):
                fit(config, few)
            return
        codec = fit(config, few)
        assert codec.decode(codec.encode(few)).shape == (n, DIM)
        save_codec(codec, tmp_path / "codec")
        open_codec(tmp_path / "codec")


@pytest.mark.parametrize("buckets", ["per_dimension", "global"])
def test_error_falls_as_bits_rise(vectors, buckets):
    errors = [error(fit(ResidualConfig(nbits=b, centroids=16, buckets=buckets), vectors), vectors) for b in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 4


def test_buckets_for_each_dimension_follow_its_spread(vectors):
    own = error(fit(ResidualConfig(nbits=2, centroids=16), vectors), vectors)
    shared = error(fit(ResidualConfig(nbits=2, centroids=16, buckets="global"), vectors), vectors)
    assert own < shared


def test_a_codec_from_a_notebook_cell(monkeypatch, tmp_path):
    class MineConfig(ExactConfig):
        kind: str = "mine"

    monkeypatch.setitem(CODECS, "mine", MineConfig)
    codec = MineConfig().fit(np.zeros((1, 4), np.float32), n_tokens=1, seed=0)
    save_codec(codec, tmp_path / "codec")
    assert isinstance(open_codec(tmp_path / "codec").config, MineConfig)


@pytest.mark.parametrize(
    ("tokens", "expected"), [(1, 1), (2, 2), (50, 32), (771_460, 8192), (1_000_000, 8192), (1_100_000, 16_384)]
)
def test_the_formula_of_plaid(tokens, expected):
    assert plaid_centroid_count(tokens) == expected


def test_kmeans(vectors):
    centroids = kmeans(vectors, 20, iterations=6, seed=1)
    assert np.allclose(np.linalg.norm(centroids, axis=1), 1, atol=DIM * np.finfo(np.float32).eps)
    started = kmeans(vectors, 20, iterations=1, seed=1)
    closeness = [(vectors @ c.T).max(axis=1).mean() for c in (started, centroids)]
    assert closeness[1] > closeness[0]
    with pytest.raises(ValueError, match="at least as many"):
        kmeans(vectors[:5], 6, iterations=1, seed=0)
    repeated = np.repeat(vectors[:3], 10, axis=0)
    assert np.isfinite(kmeans(repeated, 8, iterations=4, seed=0)).all()
