"""Synthetic token vectors: the same bytes in any order of work, Zipf and Heaps, answers that are found, and the calibration."""

import tracemalloc

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.codecs.clustering import Clustering
from colbert_research.data import synthetic
from colbert_research.data.synthetic import BLOCK, MEAN_LENGTH, SHORTEST, SPECIAL, Synthetic
from colbert_research.evaluation.clusters import Anatomy, anatomy
from colbert_research.ragged import Ragged

SMALL = Synthetic(tokens=600 * MEAN_LENGTH, dim=32, seed=3)  # three blocks, the last one cut short


@pytest.fixture(scope="module")
def parts():
    return list(SMALL.parts())


def test_blocks_of_documents(parts):
    assert [len(part.vectors) for part in parts] == [BLOCK, BLOCK, 600 - 2 * BLOCK]
    for part in parts:
        assert np.array_equal(part.vectors.offsets, part.token_ids.offsets)
        assert part.vectors.lengths.min() >= SHORTEST
        assert (part.vectors.values.dtype, part.token_ids.values.dtype) == (np.float32, np.int32)
        assert 0 <= part.token_ids.values.min() <= part.token_ids.values.max() < SMALL.n_types
        # 32 squares summed, a root and a division in float32: at most 35 roundings of eps / 2
        lengths = np.linalg.norm(part.vectors.values.astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths, 1, rtol=0, atol=35 * np.finfo(np.float32).eps)


def test_the_number_of_tokens_is_about_what_was_asked_for():
    # the mean of n lengths with the relative spread sqrt(exp(s^2) - 1); whole numbers cut off half a token on average
    found = sum(part.vectors.n_rows for part in Synthetic(tokens=200_000, dim=8).parts())
    deviation = MEAN_LENGTH * np.sqrt((np.exp(synthetic.SPREAD**2) - 1) * 2500)
    assert abs(found - 200_000 + 2500 / 2) < 4 * deviation


def test_the_same_settings_give_the_same_bytes_and_others_do_not(parts):
    for one, other in zip(parts, Synthetic(**SMALL.model_dump()).parts(), strict=True):
        assert one.vectors.values.tobytes() == other.vectors.values.tobytes()
        assert one.token_ids.values.tobytes() == other.token_ids.values.tobytes()
    other = next(SMALL.model_copy(update={"seed": 4}).parts())
    assert not np.array_equal(other.token_ids.offsets, parts[0].token_ids.offsets)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_written_is_what_was_made(parts, tmp_path, dtype):
    vectors, token_ids = SMALL.write(tmp_path, dtype=dtype)
    made = Ragged.concat([part.vectors for part in parts])
    assert np.array_equal(vectors.offsets, made.offsets)
    assert np.array_equal(vectors.values, made.values.astype(dtype))
    assert np.array_equal(token_ids.values, np.concatenate([part.token_ids.values for part in parts]))
    assert isinstance(vectors.values, np.memmap)


def test_memory_does_not_grow_with_the_collection(tmp_path):
    def peak(blocks: int) -> int:
        config = Synthetic(tokens=blocks * BLOCK * MEAN_LENGTH, dim=32)
        tracemalloc.start()
        try:
            config.write(tmp_path / str(blocks))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    collection = 12 * BLOCK * MEAN_LENGTH * 32 * 4  # bytes of the vectors of the larger one
    assert peak(12) - peak(3) < collection / 4


def test_frequencies_follow_zipf():
    config = Synthetic(tokens=400_000, dim=8)
    counts = np.zeros(config.n_types)
    for part in config.parts():
        counts += np.bincount(part.token_ids.values, minlength=config.n_types)
    expected = np.diff(np.concatenate([[0], synthetic._Model(config).cumulative])) * counts.sum()
    # a document's own types make counts vary more than a multinomial: by at most the squared number of repeats of one draw
    repeats = 1 + BURST_REPEATS**2
    assert np.all(np.abs(counts - expected) <= 6 * np.sqrt(repeats * expected) + 6 * repeats)
    assert (np.argsort(-counts)[:SPECIAL] < 2 * SPECIAL).all(), "special types are among the most frequent ones"


BURST_REPEATS = synthetic.BURST * MEAN_LENGTH / synthetic.OWN_TYPES  # of one of a document's own types


def test_documents_repeat_their_own_types(parts):
    """Chance alone would give two tokens of a document the same type as often as two of the collection."""
    ids = np.concatenate([part.token_ids.values for part in parts])
    shares = np.bincount(ids) / len(ids)
    within = []
    for part in parts:
        for own in part.token_ids:
            same = np.sum(np.bincount(own) * (np.bincount(own) - 1))
            within.append(same / (len(own) * (len(own) - 1)))
    assert np.mean(within) > 1.2 * np.sum(shares**2)


class TestQueries:
    def test_a_query_finds_its_document(self):
        (queries, _), answers = SMALL.queries(40)
        documents = Ragged.concat([part.vectors for part in SMALL.parts()])
        scores = kernels.maxsim(queries, documents)
        assert np.mean(scores.argmax(axis=1) == answers) >= 0.95

    def test_its_tokens_are_those_of_the_document(self):
        (queries, ids), answers = SMALL.queries(40, tokens=6, noise=0)
        documents = [d for part in SMALL.parts() for d in part.vectors]
        types = [t for part in SMALL.parts() for t in part.token_ids]
        for query, query_ids, answer in zip(queries, ids, answers, strict=True):
            similar = (query @ documents[answer].T).astype(np.float64)
            # a product of 32 terms of unit vectors, both rounded: 34 roundings of eps
            np.testing.assert_allclose(similar.max(axis=1), 1, rtol=0, atol=34 * np.finfo(np.float32).eps)
            assert np.array_equal(types[answer][similar.argmax(axis=1)], query_ids)
            content = np.sum(types[answer] >= SPECIAL)
            assert np.sum(query_ids < SPECIAL) == max(0, len(query) - content), "special tokens only for want of others"
            assert len(query) == min(6, len(documents[answer]))

    def test_they_are_seeded_and_spread(self):
        one, two = SMALL.queries(30), SMALL.queries(30)
        assert one[0].vectors.values.tobytes() == two[0].vectors.values.tobytes()
        assert len(set(one[1].tolist())) == 30
        assert one[1].min() < BLOCK <= 2 * BLOCK <= one[1].max()

    @pytest.mark.parametrize("n", [0, 601])
    def test_more_than_there_are_documents(self, n):
        with pytest.raises(ValueError, match=f"from 600 documents, each once; asked for {n}"):
            SMALL.queries(n)

    def test_queries_without_tokens(self):
        with pytest.raises(ValueError, match="at least one token and noise of length 0 or more; given 0 and -1"):
            SMALL.queries(3, tokens=0, noise=-1)


@pytest.mark.parametrize("settings", [{"tokens": 10}, {"dim": 4}, {"model": "cauchy"}, {"seed": -1}, {"token": 5}])
def test_bad_settings(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Synthetic(**settings)


def clustered(config: Synthetic) -> Anatomy:
    """Anatomy after a shortened k-means: 3 iterations over 20 vectors per centroid, and a sample of the vectors assigned."""
    parts = list(config.parts())
    vectors = np.concatenate([part.vectors.values for part in parts])
    ids = np.concatenate([part.token_ids.values for part in parts])
    clustering = Clustering(iterations=3, points_per_centroid=20)
    order = np.random.default_rng(0).permutation(len(vectors))
    sample = vectors[np.sort(order[: clustering.sample_size(len(vectors))])]
    assigned = np.sort(order[:40_000])
    centres = clustering.cluster(sample, n_tokens=len(vectors), seed=0)
    return anatomy(ids[assigned], kernels.assign(vectors[assigned], centres))


@pytest.mark.slow
def test_it_is_calibrated_to_colbert_and_the_control_is_not():
    """Medians of ColBERTv2's clusters on MS MARCO and the margins within which synthetic vectors stand for them."""
    found = clustered(Synthetic(tokens=200_000))
    assert len(found.cluster_sizes) > 3800, "K by PLAID's formula is 4096; few clusters are empty in the sample"
    assert np.median(found.cluster_purity) == pytest.approx(0.86, abs=0.1)
    assert np.median(found.token_purity) == pytest.approx(0.62, abs=0.15)
    control = clustered(Synthetic(tokens=20_000, model="gaussian"))
    assert np.median(control.cluster_purity) < 0.3
    assert np.median(control.token_purity) < 0.3
