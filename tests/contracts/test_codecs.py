"""The contract of the codec axis: every member of CODECS passes the same suite."""

import sys
from pathlib import Path

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.codecs import (
    CODECS,
    CentroidConfig,
    ExactConfig,
    ProductConfig,
    ResidualCodec,
    ResidualConfig,
    ResidualProductConfig,
    ScalarConfig,
    open_codec,
    save_codec,
)
from colbert_research.codecs.base import bytes_per_token
from colbert_research.codecs.buckets import Buckets
from colbert_research.config import ConfigError
from colbert_research.kernels.cpu.prepare import decoder_of, worst_error
from colbert_research.kernels.operands import unpack_bits
from colbert_research.ragged import Ragged, offsets_of

DIM = 48
CASES = [
    ExactConfig(),
    ExactConfig(dtype="float16"),
    *(ResidualConfig(nbits=bits, centroids=16) for bits in (1, 2, 4, 8)),
    *(ResidualConfig(nbits=bits, centroids=16, buckets="global") for bits in (1, 2, 4, 8)),
    *(ResidualConfig(nbits=bits, centroids="plaid", iterations=1) for bits in (1, 2, 4, 8)),
    ResidualConfig(nbits=2, centroids="plaid", iterations=1, buckets="global"),
    ResidualConfig(nbits=8, centroids=16, levels="uniform"),
    *(ScalarConfig(nbits=bits) for bits in (1, 2, 4, 8)),
    *(ScalarConfig(nbits=bits, levels="quantiles") for bits in (1, 2, 8)),
    ScalarConfig(nbits=1, buckets="per_dimension"),
    ScalarConfig(nbits=4, buckets="per_dimension", levels="least_squares"),
    ProductConfig(m=16),
    ProductConfig(m=6, rotation="opq"),
    ResidualProductConfig(m=8, centroids=16),
    ResidualProductConfig(m=12, centroids=16, rotation="opq"),
    CentroidConfig(centroids=16),
    CentroidConfig(centroids="plaid", iterations=1),
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
    """Fitted once for each config and collection."""
    key = config.model_dump_json(), vectors.tobytes(), seed
    if key not in FITTED:
        FITTED[key] = fit_anew(config, vectors, seed)
    return FITTED[key]


FITTED: dict = {}


def fit_anew(config, vectors, seed=3):
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
            # better than the one vector that is nearest to all, and than the centroid alone where there is one
            mean = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
            assert error(codec, vectors) < np.linalg.norm(mean - vectors, axis=1).mean()
            if codec.centroids is not None and config.kind != "centroid":
                nearest = codec.centroids[codec.encode(vectors)["centroid_ids"]]
                assert error(codec, vectors) < np.linalg.norm(nearest - vectors, axis=1).mean()

    def test_deterministic(self, config, vectors):
        one, two = fit(config, vectors), fit_anew(config, vectors)
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

    @pytest.mark.parametrize("chunk", [1, 7, 99])
    def test_chunks_change_nothing(self, config, vectors, chunk):
        codec, some = fit(config, vectors), vectors[:100]
        parts = [codec.encode(some[low : low + chunk]) for low in range(0, len(some), chunk)]
        for name, array in codec.encode(some).items():
            assert np.array_equal(array, np.concatenate([part[name] for part in parts]))

    def test_no_tokens(self, config, vectors):
        codec = fit(config, vectors)
        codes = codec.encode(vectors[:0])
        assert {n: (a.dtype, a.shape) for n, a in codes.items()} == {n: (d, (0, *s)) for n, (d, s) in codec.layout.items()}
        assert codec.decode(codes).shape == (0, DIM)
        assert codec.maxsim(Ragged(vectors[:2], offsets_of([2])), codes, offsets_of([0])).tolist() == [[-np.inf]]

    def test_vectors_of_zeros_stay_finite(self, config, vectors):
        some = vectors[:400].copy()
        some[::4] = 0
        codec = fit(config, some)
        decoded = codec.decode(codec.encode(some))
        assert np.isfinite(decoded).all()

    def test_maxsim_is_that_of_the_decoded_vectors(self, config, vectors):
        codec = fit(config, vectors)
        codes, offsets = codec.encode(vectors[:400]), offsets_of([100, 1, 250, 49])
        queries = Ragged(clustered(12, seed=5), offsets_of([5, 7]))
        scores = codec.maxsim(queries, codes, offsets)
        expected = kernels.maxsim(queries, Ragged(codec.decode(codes), offsets), backend="reference")
        rounded = np.zeros(2)
        if hasattr(codec, "table"):  # scored in integers; the tokens' inverse norms may be above 1
            rotation = getattr(codec, "rotation", None)
            turned = queries if rotation is None else queries.map(lambda values: values @ rotation.T)
            rounded = np.array([worst_error(query, decoder_of(codec.table)) for query in turned])
            rounded *= float(codes["inverse_norms"].max()) if "inverse_norms" in codes else 1
        if config.kind == "centroid":  # scored in bytes, half a unit a query token
            tables = [query @ codec.centroids.T for query in queries]
            rounded = np.array([len(table) * (np.ptp(table) / 508) for table in tables])
        assert np.all(np.abs(scores - expected).max(axis=1) <= np.finfo(np.float32).eps * DIM * 7 * 2 + rounded)
        order = np.array([3, 1])
        assert np.array_equal(codec.maxsim(queries, codes, offsets, order), scores[:, order])

    def test_queries_and_documents_without_tokens(self, config, vectors):
        codec = fit(config, vectors)
        queries = Ragged(vectors[:2], offsets_of([0, 2, 0]))
        scores = codec.maxsim(queries, codec.encode(vectors[:3]), offsets_of([1, 0, 2]))
        assert scores[[0, 2]].tolist() == [[0, 0, 0]] * 2
        assert np.isneginf(scores[1]).tolist() == [False, True, False]

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


@pytest.mark.parametrize("levels", ["least_squares", "quantiles"])
@pytest.mark.parametrize("buckets", ["per_dimension", "global"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_each_residual_and_its_level_lie_in_one_bucket(vectors, bits, buckets, levels):
    """So the error of a coordinate is at most the width of its bucket; the outermost end where the sample's residuals do."""
    config = ResidualConfig(nbits=bits, centroids=16, buckets=buckets, levels=levels, points_per_centroid=1000)
    codec = config.fit(vectors, n_tokens=len(vectors), seed=3)
    codes = codec.encode(vectors)
    scales = codec.buckets.scales
    residuals = (vectors - codec.centroids[codes["centroid_ids"]]) / scales
    edges = np.concatenate([[residuals.min()], codec.buckets.limits, [residuals.max()]])
    chosen = unpack_bits(codes["residuals"], bits, DIM).astype(int)
    level = codec.buckets.levels[chosen]
    rounding = 2 * np.finfo(np.float32).eps * np.abs(residuals).max()
    for value in (residuals, level):
        assert np.all(value >= edges[chosen] - rounding)
        assert np.all(value <= edges[chosen + 1] + rounding)
    unscaled = codec.centroids[codes["centroid_ids"]] + scales * level
    assert np.all(np.abs(unscaled - vectors) <= (np.diff(edges)[chosen] + 2 * rounding) * scales)
    lengths = np.linalg.norm(unscaled, axis=1, keepdims=True)
    # a float16 inverse norm errs by half a unit in its last place
    assert np.abs(codec.decode(codes) - unscaled / lengths).max() <= np.finfo(np.float16).eps + 4 * np.finfo(np.float32).eps


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_levels_of_least_squares_are_better_than_quantiles(vectors, bits):
    errors = [
        error(fit(ResidualConfig(nbits=bits, centroids=16, levels=name), vectors), vectors)
        for name in ("least_squares", "quantiles")
    ]
    assert errors[0] < errors[1]


def test_levels_of_least_squares_by_hand():
    """Two clumps of values and two levels: the means of the clumps, and the limit half-way."""
    buckets = Buckets.fit(np.array([[-3.0, -1.0, 4.0, 6.0, 5.0]]).T, 1, scaled=False, levels="least_squares")
    assert buckets.levels.tolist() == [-2, 5]
    assert buckets.limits.tolist() == [1.5]
    assert buckets.scales.tolist() == [1]


def test_half_precision_errs_by_half_a_unit_in_the_last_place(vectors):
    codec = fit(ExactConfig(dtype="float16"), vectors)
    decoded, tiny = codec.decode(codec.encode(vectors)), float(np.finfo(np.float16).smallest_subnormal)
    assert np.all(np.abs(decoded - vectors) <= np.maximum(np.abs(vectors) * np.finfo(np.float16).eps / 2, tiny / 2))
    assert not np.array_equal(decoded, vectors)


def test_vectors_of_zeros_stay_zeros():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((400, 16)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    values[:100] = 0
    codec = ResidualConfig(nbits=4).fit(values, n_tokens=400, seed=0)
    decoded = codec.decode(codec.encode(values))
    assert not decoded[:100].any()
    assert np.abs(np.linalg.norm(decoded[100:], axis=1) - 1).max() <= 2 * np.finfo(np.float16).eps


@pytest.mark.parametrize(("k", "dtype"), [(2**16, np.uint16), (2**16 + 1, np.int32)])
def test_ids_of_many_centroids(k, dtype):
    centroids = np.zeros((k, 2), np.float32)
    centroids[[1, -1]] = np.eye(2)
    buckets = Buckets(np.ones(2, np.float32), np.zeros(1, np.float32), np.zeros(2, np.float32))
    codec = ResidualCodec(ResidualConfig(nbits=1, centroids=k), centroids, buckets)
    codes = codec.encode(centroids[[1, -1]])
    assert codes["centroid_ids"].dtype == dtype == codec.layout["centroid_ids"][0]
    assert codes["centroid_ids"].tolist() == [1, k - 1]
    assert np.array_equal(codec.decode(codes), centroids[[1, -1]])


def test_codes_by_hand():
    """A residual on a limit belongs to the bucket below it."""
    buckets = Buckets(np.array([1, 2], np.float32), np.array([-1, 0, 1], np.float32), np.array([-2, -0.5, 0.5, 2], np.float32))
    codec = ResidualCodec(ResidualConfig(nbits=2, centroids=1), np.zeros((1, 2), np.float32), buckets)
    codes = codec.encode(np.array([[-1, -1], [0, 1], [1, 3]], np.float32))
    assert codes["centroid_ids"].tolist() == [0, 0, 0]
    assert unpack_bits(codes["residuals"], 2, 2).tolist() == [[0, 1], [1, 2], [2, 3]]
    lengths = np.hypot([-2, -0.5, 0.5], [-1, 1, 4])
    assert codes["inverse_norms"].tolist() == (1 / lengths).astype(np.float16).tolist()


def test_the_seed_matters(vectors):
    config = ResidualConfig(nbits=2, centroids=16)
    assert not np.array_equal(fit(config, vectors, seed=3).centroids, fit(config, vectors, seed=4).centroids)


def test_held_out_tokens_make_the_buckets():
    """From 4096 held-out tokens (5 % of 81 920) on, the residuals of tokens that k-means did not see are measured."""
    many = clustered(82_000)
    config = ResidualConfig(nbits=2, centroids=4, iterations=1, points_per_centroid=20_500, levels="quantiles")
    codec = config.fit(many, n_tokens=len(many), seed=0)
    held = many[np.sort(np.random.default_rng(0).permutation(len(many))[: int(0.05 * len(many))])]
    residuals = held - codec.centroids[kernels.assign(held, codec.centroids)]
    scales = np.sqrt(np.mean(residuals.astype(np.float64) ** 2, axis=0)).astype(np.float32)
    assert np.array_equal(codec.buckets.scales, scales)
    limits = np.quantile(residuals.astype(np.float64) / scales, [0.25, 0.5, 0.75])
    assert np.array_equal(codec.buckets.limits, limits.astype(np.float32))


TOY = """
from dataclasses import dataclass
import numpy as np
from colbert_research import kernels
from colbert_research.config import Config
from colbert_research.ragged import Ragged

class SignConfig(Config):
    kind: str = "sign_codec:SignConfig"
    scale: float = 1.0
    def sample_size(self, n_tokens):
        return min(4, n_tokens)
    def fit(self, sample, *, n_tokens, seed):
        return SignCodec(self, np.abs(sample).mean(axis=0) * self.scale)
    def restore(self, arrays):
        return SignCodec(self, arrays["size"])

@dataclass(frozen=True, eq=False)
class SignCodec:
    config: SignConfig
    size: np.ndarray
    centroids: None = None
    @property
    def dim(self):
        return len(self.size)
    @property
    def layout(self):
        return {"signs": (np.dtype(np.int8), (self.dim,))}
    def encode(self, vectors):
        return {"signs": np.where(vectors < 0, -1, 1).astype(np.int8)}
    def decode(self, codes):
        return (codes["signs"] * self.size).astype(np.float32)
    def maxsim(self, queries, codes, offsets, only=None):
        return kernels.maxsim(queries, Ragged(self.decode(codes), offsets), only=only)
    def state(self):
        return {"size": self.size}
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch):
    (tmp_path / "sign_codec.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    from importlib import import_module

    yield import_module("sign_codec").SignConfig
    del sys.modules["sign_codec"]


@pytest.mark.parametrize("kind", ["sign_codec:SignConfig", "sign"])
def test_a_codec_from_outside(toy, kind, vectors, tmp_path, monkeypatch):
    if ":" not in kind:
        monkeypatch.setitem(CODECS, kind, toy)
    codec = fit(toy(kind=kind, scale=2.5), vectors)
    save_codec(codec, tmp_path / "codec")
    opened = open_codec(tmp_path / "codec")
    assert type(opened) is type(codec)
    assert opened.config == toy(kind=kind, scale=2.5)
    codes = opened.encode(vectors)
    assert np.array_equal(opened.decode(codes), np.where(vectors < 0, -1, 1) * codec.size)
    assert bytes_per_token(opened) == DIM


def test_a_codec_that_cannot_be_opened(toy, vectors, tmp_path, monkeypatch):
    save_codec(fit(toy(kind="sign"), vectors), tmp_path / "codec")
    with pytest.raises(ValueError, match="unknown codec kind 'sign'"):
        open_codec(tmp_path / "codec")
    monkeypatch.delattr(toy, "restore")
    monkeypatch.setitem(CODECS, "sign", toy)
    with pytest.raises(ConfigError, match=r"SignConfig has no restore\(arrays\)"):
        open_codec(tmp_path / "codec")


@pytest.mark.parametrize("centroids", [0, -1, 51])
def test_numbers_of_centroids_that_the_collection_lacks(centroids):
    with pytest.raises(ConfigError, match=f"codec.centroids={centroids}, but the collection has 50 tokens"):
        fit(ResidualConfig(centroids=centroids), clustered(50))


@pytest.mark.parametrize("k", [2**8, 2**16, 2**16 + 1, 2**18])
def test_centroids_by_the_thousands(k):
    """From 2^8 to 2^18 centroids: ids of the right type, the right ones, and scores that are those of the decoded vectors."""
    rng = np.random.default_rng(0)
    centroids = rng.standard_normal((k, 8)).astype(np.float32)
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    codec = CentroidConfig(centroids=k).fit(centroids[:1], n_tokens=k, seed=0, centroids=centroids)
    chosen = np.concatenate([[0, k - 1], rng.integers(0, k, 40)])
    codes = codec.encode(centroids[chosen])
    assert codes["centroid_ids"].dtype == codec.layout["centroid_ids"][0] == (np.uint16 if k <= 2**16 else np.int32)
    assert np.array_equal(codec.decode(codes), centroids[chosen])
    query = Ragged(centroids[chosen[:3]], offsets_of([3]))
    scores = codec.maxsim(query, codes, offsets_of([42]))
    # every query token finds itself: 3, less half a byte's unit each of scores from -1 to 1, and float32 rounding
    assert abs(scores[0, 0] - 3) <= 3 * 2 / 508 + 3 * 8 * np.finfo(np.float32).eps
