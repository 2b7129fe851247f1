"""Poolers against their definitions, written out plainly, and against what engines compute."""

import itertools
import warnings

import numpy as np
import pytest
from scipy.cluster import hierarchy

from colbert_research.encoders import TokenVectors
from colbert_research.encoders.pooling import (
    IdfPruningConfig,
    KMeansPoolingConfig,
    NormPruningConfig,
    PositionPruningConfig,
    RandomPruningConfig,
    SequentialPoolingConfig,
    WardPoolingConfig,
    kmeans,
    merge,
    prune,
    ward,
)
from colbert_research.encoders.pooling.base import Document
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.settings import ConfigError
from tests.encoders.pooled import survivors, texts, unit

EPS = float(np.finfo(np.float32).eps)
DEFINITIONS = ("euclidean", "cosine", "cosine_rows")


def with_ids(*ids) -> TokenVectors:
    """Documents from lists of token ids; L2-normalised vectors that do not matter."""
    offsets = offsets_of([len(item) for item in ids])
    vectors = np.tile(np.array([[1.0, 0.0]], np.float32), (int(offsets[-1]), 1))
    return TokenVectors(Ragged(vectors, offsets), Ragged(np.array([i for item in ids for i in item], np.int32), offsets))


def partition(labels) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(np.asarray(labels).tolist())}


def groups(config, vectors, count: int) -> set[frozenset[int]]:
    return partition(config._groups(Document(vectors, np.arange(len(vectors), dtype=np.int32)), count, 0))


def test_shares_are_those_of_the_number_written():
    """In floating point 33 / 1.1 is below 30, and 8 // 1.6 is 4."""
    assert SequentialPoolingConfig(factor=1.1, protected=0).kept(33) == 30
    for length, hundredths in itertools.product(range(1, 300), range(100, 601, 4)):
        assert SequentialPoolingConfig(factor=hundredths / 100).kept(length + 1) == 1 + max(1, length * 100 // hundredths)


# Ward


def dissimilarities(definition: str, vectors) -> np.ndarray:
    """What each definition takes as distances, pair by pair."""
    wide = vectors.astype(np.float64)
    cosine = np.array([[1 - a @ b / np.sqrt((a @ a) * (b @ b)) for b in wide] for a in wide])
    points = cosine if definition == "cosine_rows" else wide
    return cosine if definition == "cosine" else np.array([[np.sqrt(np.sum((a - b) ** 2)) for b in points] for a in points])


def ward_by_definition(distances, count: int) -> set[frozenset[int]]:
    """Merge the two clusters whose union adds least to the sum of squares within, until `count` are left.

    The sum of squares of a cluster of n is the sum of squared distances over its pairs, divided by n; it needs no mean, so it
    has a meaning for distances that no points have.
    """

    def within(cluster) -> float:
        return sum(distances[a, b] ** 2 for a, b in itertools.combinations(sorted(cluster), 2)) / len(cluster)

    clusters = [frozenset([i]) for i in range(len(distances))]
    while len(clusters) > count:
        one, other = min(
            itertools.combinations(clusters, 2), key=lambda pair: within(pair[0] | pair[1]) - sum(map(within, pair))
        )
        clusters = [c for c in clusters if c not in (one, other)] + [one | other]
    return set(clusters)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_ward_merges_what_adds_least_to_the_squares_within(rng, definition):
    for n, count in ((2, 1), (9, 4), (16, 8), (16, 3), (16, 15)):
        vectors = unit(rng, n)
        expected = ward_by_definition(dissimilarities(definition, vectors), count)
        assert groups(WardPoolingConfig(definition=definition), vectors, count) == expected


def test_the_definitions_are_three(rng):
    vectors = unit(rng, 100)
    found = [groups(WardPoolingConfig(definition=definition), vectors, 30) for definition in DEFINITIONS]
    assert all(one != other for one, other in itertools.combinations(found, 2))


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_ward_as_the_engines_call_it(rng, definition):
    """SciPy's linkage of a square matrix takes its rows as points; cut as they cut it, where no two merges tie."""
    vectors = unit(rng, 120, dim=32)
    wide = vectors.astype(np.float64)
    square = 1 - wide @ wide.T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hierarchy.ClusterWarning)
        tree = {
            "euclidean": lambda: hierarchy.linkage(wide, "ward"),
            "cosine": lambda: hierarchy.linkage(square[np.triu_indices(120, k=1)], "ward"),
            "cosine_rows": lambda: hierarchy.linkage(square, "ward", "euclidean"),
        }[definition]()
    for count in (1, 20, 60, 119):
        expected = partition(hierarchy.fcluster(tree, count, "maxclust"))
        assert groups(WardPoolingConfig(definition=definition), vectors, count) == expected


@pytest.mark.parametrize(("factor", "protected"), [(2, 1), (3, 0), (1.5, 3), (6, 1)])
def test_cosine_ward_is_that_of_sentence_transformers(rng, factor, protected):
    torch = pytest.importorskip("torch")
    from sentence_transformers.multi_vector_encoder.modules.token_pooling import HierarchicalTokenPooling

    document = unit(rng, 83, dim=32)
    engine = HierarchicalTokenPooling(factor, num_protected_tokens=protected, normalize_embeddings=True)
    expected = engine.pool([torch.from_numpy(document)])[0].numpy()
    config = WardPoolingConfig(definition="cosine", factor=factor, protected=protected)
    found = config.pool(texts(document), {}, seed=0).vectors[0]
    assert found.shape == expected.shape
    order, engine_order = np.lexsort(found.T.round(4)), np.lexsort(expected.T.round(4))
    # theirs: up to 83 float32 additions, a division, a squared length of 32 terms, a root, a division; ours: one rounding
    assert np.abs(found[order] - expected[engine_order]).max() <= (83 + 32 + 4) * EPS


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_equal_tokens_are_cut_into_as_many_clusters_as_asked_for(definition):
    document = np.repeat(np.eye(3, dtype=np.float32), 8, axis=0)
    config = WardPoolingConfig(definition=definition, protected=0)
    assert config.pool(texts(document), {}, seed=0).vectors.lengths.tolist() == [12]
    assert groups(config, document, 3) == {frozenset(range(8 * i, 8 * i + 8)) for i in range(3)}


def test_distances_by_one_product(rng):
    points = rng.standard_normal((40, 25))
    expected = [np.linalg.norm(a - b) for a, b in itertools.combinations(points, 2)]
    squares = (points**2).sum(axis=1)
    # a sum of 25 products errs by at most 25 eps of the two squared lengths; so does a distance squared, and its root less
    bound = 4 * 25 * np.finfo(np.float64).eps * squares.max() / min(expected)
    np.testing.assert_allclose(ward.euclidean(points), expected, rtol=0, atol=bound)


# merging


def test_merged_tokens_by_hand():
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, -1], [0.8, 0.6]], np.float32)
    document = Document(vectors, np.array([10, 11, 12, 13, 14], np.int32))
    labels = np.array([7, 2, 7, 5, 7])
    found = merge(document, labels, unit=False)
    assert found.token_ids.tolist() == [14, 11, 13], "the member nearest the mean; groups in the order of their first members"
    np.testing.assert_allclose(found.vectors, [[0.8, 1.4 / 3], [0, 1], [0, -1]], rtol=EPS)
    length = np.hypot(0.8, 1.4 / 3)
    np.testing.assert_allclose(merge(document, labels, unit=True).vectors[0], [0.8 / length, 1.4 / 3 / length], rtol=2 * EPS)


def test_of_two_members_the_first_gives_its_id_and_those_that_cancel_out_its_vector():
    vectors = np.array([[0.6, 0.8], [0.8, 0.6], [1, 0], [-1, 0]], np.float32)
    found = merge(Document(vectors, np.arange(4, dtype=np.int32)), np.array([0, 0, 1, 1]), unit=True)
    assert found.token_ids.tolist() == [0, 2]
    assert found.vectors[1].tolist() == [1, 0]
    assert merge(Document(vectors[2:], np.arange(2, dtype=np.int32)), np.zeros(2, int), unit=False).vectors.tolist() == [[0, 0]]


def test_a_member_alone_keeps_its_bits(rng):
    vectors = unit(rng, 50) * np.float32(1.5)
    for whole in (True, False):
        assert merge(Document(vectors, np.arange(50)), np.arange(50), unit=whole).vectors.tobytes() == vectors.tobytes()


def test_merging_against_a_loop(rng):
    for n in (1, 5, 40):
        vectors, ids = unit(rng, n), rng.integers(0, 9, n).astype(np.int32)
        labels = rng.integers(0, max(1, n // 3), n)
        found = merge(Document(vectors, ids), labels, unit=True)
        for i, label in enumerate(dict.fromkeys(labels.tolist())):
            members = np.flatnonzero(labels == label)
            mean = vectors[members].astype(np.float64).mean(axis=0)
            np.testing.assert_allclose(found.vectors[i], mean / np.linalg.norm(mean), rtol=0, atol=EPS)
            nearest = members[np.argmin(np.linalg.norm(vectors[members] - mean, axis=1).round(12))]
            assert found.token_ids[i] == ids[nearest]


def test_sequential_groups_are_neighbours_of_nearly_equal_number():
    for n, count in ((10, 3), (7, 6), (9, 1)):
        document = Document(np.ones((n, 2), np.float32), np.arange(n, dtype=np.int32))
        labels = SequentialPoolingConfig()._groups(document, count, 0)
        assert (np.diff(labels) >= 0).all()
        sizes = np.bincount(labels)
        assert len(sizes) == count and sizes.max() - sizes.min() <= 1


def test_kmeans_ends_where_no_token_moves(rng):
    vectors = unit(rng, 60)
    document = Document(vectors, np.arange(60, dtype=np.int32))
    labels = KMeansPoolingConfig(iterations=200)._groups(document, 12, 0)
    means = np.stack([vectors[labels == group].astype(np.float64).sum(axis=0) for group in range(12)])
    assert np.array_equal((vectors @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T).argmax(axis=1), labels)
    assert not np.array_equal(KMeansPoolingConfig(iterations=1)._groups(document, 12, 0), labels)


def test_an_empty_cluster_gets_the_farthest_token_that_another_can_spare():
    labels = np.array([0, 0, 0, 2, 2])
    kmeans.fill_empty(labels, np.array([0.9, 0.5, 0.8, 0.1, 0.2]), 4)
    assert labels.tolist() == [0, 3, 0, 1, 2]


# pruning


def test_idf_keeps_the_tokens_of_the_fewest_documents(monkeypatch):
    documents = with_ids([0, 7, 5, 7, 9, 3], [0, 7, 3, 3, 3], [0, 7, 5, 8], [], [0])
    config = IdfPruningConfig(factor=2, protected=0)
    state = config.fit(documents)
    counts = {token: sum(token in ids.tolist() for ids in documents.token_ids) for token in range(10)}
    assert state["vocabulary"].tolist() == [0, 3, 5, 7, 8, 9]
    assert state["document_frequency"].tolist() == [counts[token] for token in state["vocabulary"].tolist()]
    found = config.pool(documents, state, seed=0)
    assert [ids.tolist() for ids in found.token_ids] == [[5, 9, 3], [3, 3], [5, 8], [], [0]]
    monkeypatch.setattr(prune, "CHUNK_ROWS", 3)
    again = config.fit(documents)
    assert {name: array.tolist() for name, array in again.items()} == {name: array.tolist() for name, array in state.items()}
    # tokens that the collection lacks have the greatest idf
    assert config.pool(with_ids([0, 9, 1, 8, 6]), state, seed=0).token_ids[0].tolist() == [1, 6]
    with pytest.raises(ValueError, match="needs the state that its fit gave"):
        config.pool(documents, {}, seed=0)


def test_norm_keeps_the_longest(rng):
    lengths = np.array([1, 5, 2, 4, 3, 3], np.float32)
    document = unit(rng, 6) * lengths[:, None]
    config = NormPruningConfig(protected=0)
    assert config.fit(texts(document)) == {}
    assert survivors(config, document) == [1, 3, 4]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_norm_of_vectors_of_one_length_is_an_error(rng, dtype):
    documents = texts(unit(rng, 50, dim=384))
    documents = documents._replace(vectors=documents.vectors.map(lambda values: values.astype(dtype)))
    with pytest.raises(ConfigError, match=r"pooling.kind=prune_norm needs vectors of different lengths.*have length 1\.00"):
        NormPruningConfig().fit(documents)
    assert NormPruningConfig(factor=1).fit(documents) == {}


def test_position_cuts_the_end(rng):
    assert survivors(PositionPruningConfig(factor=3), unit(rng, 10)) == [0, 1, 2, 3]


def test_random_pruning_favours_no_place(rng):
    ids = [rng.integers(0, 1000, 20).tolist() for _ in range(600)]
    kept = np.zeros(20)
    config = RandomPruningConfig(protected=0)
    for document, left in zip(ids, config.pool(with_ids(*ids), {}, seed=0).token_ids, strict=True):
        positions = [
            place for place, token in enumerate(document) if token in set(left.tolist()) and document.count(token) == 1
        ]
        kept[positions] += 1
        assert len(left) == 10
    # 600 draws at one half: within six standard deviations, less the positions of tokens that stand twice (at most 2 in 100)
    assert np.abs(kept - 300).max() <= 6 * np.sqrt(600) / 2 + 0.02 * 600
