"""The contract of the codec axis: every member of CODECS passes the same suite."""

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.artifacts import save_arrays
from colbert_research.codecs import CODECS, TableCodec, bytes_per_token, open_codec, save_codec
from colbert_research.kernels.cpu.prepare import decoder_of, worst_error
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.settings import ConfigError
from tests.contracts.codec_cases import CASES, DIM, IDS, clustered, error, fit, fit_anew


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(1200)


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
        again = two.encode(vectors)
        for name, array in one.encode(vectors).items():
            assert array.tobytes() == again[name].tobytes()

    def test_save_and_open(self, config, vectors, tmp_path):
        codec = fit(config, vectors)
        save_codec(codec, tmp_path / "codec")
        opened = open_codec(tmp_path / "codec")
        assert opened.config == config
        codes = codec.encode(vectors)
        for name, array in opened.encode(vectors).items():
            assert np.array_equal(array, codes[name])
        assert np.array_equal(opened.decode(codes), codec.decode(codes))

    def test_a_state_without_one_of_its_arrays(self, config, vectors, tmp_path):
        codec = fit(config, vectors)
        save_codec(codec, tmp_path / "codec")
        for name in codec.state():
            save_arrays(tmp_path / "codec" / "state.safetensors", {k: v for k, v in codec.state().items() if k != name})
            try:
                open_codec(tmp_path / "codec")
            except ConfigError as error:
                assert f"has no array {name!r}" in str(error)
            else:
                assert name in {"rotation", "centroids"}, "what not every codec of the kind has"

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

    def test_vectors_too_long_for_their_norm_to_be_stored(self, config, vectors):
        long = vectors[:400] * np.float32(2**17)
        codec = fit(config, long)
        if "rabitq" in config.kind:  # codes of directions, which serve any length
            codes = codec.encode(vectors[:400])
            assert all(np.array_equal(array, codes[name]) for name, array in codec.encode(long).items())
        elif "inverse_norms" in codec.layout:
            with pytest.raises(ValueError, match="is too long for codes with a float16 inverse norm, which serve up to 16384"):
                codec.encode(long)

    def test_maxsim_is_that_of_the_decoded_vectors(self, config, vectors):
        codec = fit(config, vectors)
        codes, offsets = codec.encode(vectors[:400]), offsets_of([100, 1, 250, 49])
        queries = Ragged(clustered(12, seed=5), offsets_of([5, 7]))
        scores = codec.maxsim(queries, codes, offsets)
        expected = kernels.maxsim(queries, Ragged(codec.decode(codes), offsets), backend="reference")
        rounded = np.zeros(2)
        if isinstance(codec, TableCodec):  # scored in integers; the tokens' inverse norms may be above 1
            rotated = queries.map(codec.rotated)
            rounded = np.array([worst_error(query, decoder_of(codec.table)) for query in rotated])
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
