"""Numbers of centroids: many, more than there are tokens, and the types of their ids."""

import numpy as np
import pytest

from colbert_research.codecs import CentroidConfig, ResidualCodec, ResidualConfig, ResidualProductConfig
from colbert_research.codecs.buckets import Buckets
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.settings import ConfigError
from tests.contracts.codec_cases import clustered, fit


def test_numbers_of_centroids_that_the_collection_lacks():
    with pytest.raises(ConfigError, match=r"codec\.centroids=51, but the collection has 50 tokens"):
        fit(ResidualConfig(centroids=51), clustered(50))


@pytest.mark.parametrize(
    ("centroids", "message"),
    [
        (clustered(3), r"centroids of shape \(8, 48\); given shape \(3, 48\)"),
        (clustered(8)[:, :5], r"given shape \(8, 5\)"),
        (clustered(8) * np.float32(np.nan), "given some that are not finite"),
    ],
)
@pytest.mark.parametrize("config", [CentroidConfig, ResidualConfig, ResidualProductConfig])
def test_centroids_of_something_else(config, centroids, message):
    with pytest.raises(ValueError, match=message):
        config(centroids=8, **({"m": 8} if config is ResidualProductConfig else {})).fit(
            clustered(50), n_tokens=50, seed=0, centroids=centroids
        )


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
