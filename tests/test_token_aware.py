"""Token-aware centroids: who gets how many, and from which tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_research.codecs import CentroidConfig
from colbert_research.codecs.token_aware import allocate, token_aware, weights
from colbert_research.data import Collection
from colbert_research.index import build_index
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.settings import ConfigError

DIM = 8


def test_allocation_by_hand():
    """Shares 1 : 2 : 1 of 8, one each first; 5 are left: floors 1, 2, 1, then the largest remainder."""
    assert allocate(np.array([100, 100, 100]), np.array([1.0, 2.0, 1.0]), 8).tolist() == [2, 4, 2]
    assert allocate(np.array([2, 100, 100]), np.array([8.0, 1.0, 1.0]), 10).tolist() == [2, 4, 4]  # capped at its tokens
    assert allocate(np.array([5, 5]), np.zeros(2), 4).tolist() == [2, 2]  # no spread anywhere: equal shares
    assert allocate(np.array([1, 1, 1]), np.array([1.0, 3.0, 2.0]), 2).tolist() == [0, 1, 1]


groups = st.lists(st.tuples(st.integers(1, 30), st.floats(0, 100)), min_size=1, max_size=20)


@given(groups, st.data())
def test_allocations_sum_to_the_budget(groups, data):
    sizes, shares = np.array([n for n, _ in groups]), np.array([share for _, share in groups])
    k = data.draw(st.integers(1, int(sizes.sum())))
    counts = allocate(sizes, shares, k)
    assert counts.sum() == k
    assert np.all(counts <= sizes)
    assert np.all(counts >= (1 if k >= len(sizes) else 0))


def test_more_than_there_are_tokens():
    with pytest.raises(ValueError, match="9 centroids need at least as many tokens; given 8"):
        allocate(np.array([3, 5]), np.ones(2), 9)


def test_weights_by_hand():
    sample = np.array([[0, 0], [2, 0], [1, 1], [1, 1], [1, 1], [1, 1]], np.float32)
    assert weights(sample, [np.array([0, 1]), np.arange(2, 6)]).tolist() == [np.sqrt(2) * 1.0, 0]


@pytest.fixture
def tokens(rng) -> tuple[np.ndarray, np.ndarray]:
    """A frequent id of one narrow meaning, two of several, and a hundred rare ones."""
    ids = np.concatenate([np.full(2000, 7), np.full(400, 3), np.full(400, 9), np.arange(100, 200)])
    means = rng.standard_normal((3, 4, DIM))
    values = rng.standard_normal((len(ids), DIM)) * 0.1
    values[:2000] += means[0, 0]
    values[2000:2400] += means[1][rng.integers(0, 4, 400)]
    values[2400:2800] += means[2][rng.integers(0, 4, 400)]
    values[2800:] += rng.standard_normal((100, DIM))
    order = rng.permutation(len(ids))
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return values[order], ids[order].astype(np.int32)


def test_ids_are_clustered_apart(tokens):
    """Centroids with the ids that they were made of: varied ids have more than the frequent one, rare ones share theirs."""
    values, ids = tokens
    seen: list[tuple[set[int], int]] = []

    def note(vectors, k):
        rows = {vector.tobytes() for vector in vectors}
        seen.append(({int(i) for vector, i in zip(values, ids, strict=True) if vector.tobytes() in rows}, k))
        return vectors[:k]

    centroids = token_aware(values, ids, 64, note)
    assert centroids.shape == (64, DIM)
    assert [members for members, _ in seen] == [{3}, {7}, {9}, set(range(100, 200))]
    by_id = {min(members): k for members, k in seen}
    assert by_id[3] > by_id[7]
    assert by_id[9] > by_id[7]
    assert by_id[100] > by_id[7]


def test_the_order_of_the_ids_does_not_matter(tokens):
    """Only which tokens share an id does; renaming ids so that they keep their order changes nothing."""
    values, ids = tokens
    config = CentroidConfig(centroids=40, method="token_aware")
    one, again, renamed = (config.cluster(values, i, n_tokens=len(values), seed=1) for i in (ids, ids.copy(), 3 * ids + 1))
    assert one.tobytes() == again.tobytes() == renamed.tobytes()
    assert one.tobytes() != config.cluster(values, ids, n_tokens=len(values), seed=2).tobytes()
    assert np.abs(np.linalg.norm(one, axis=1) - 1).max() <= DIM * np.finfo(np.float32).eps


def test_one_id_for_all_is_plain_k_means(tokens):
    values, ids = tokens
    aware, plain = CentroidConfig(centroids=20, method="token_aware"), CentroidConfig(centroids=20)
    expected = plain.cluster(values, n_tokens=len(values), seed=0)
    assert aware.cluster(values, np.zeros_like(ids), n_tokens=len(values), seed=0).tobytes() == expected.tobytes()
    assert plain.cluster(values, ids, n_tokens=len(values), seed=0).tobytes() == expected.tobytes()


def test_rare_tokens_fit_better_than_with_k_means(tokens):
    """What the method is for: k-means spends its centroids where most tokens are."""
    values, ids = tokens
    closeness = {}
    for method in ("kmeans", "token_aware"):
        config = CentroidConfig(centroids=64, method=method)
        centroids = config.cluster(values, ids, n_tokens=len(values), seed=0)
        closeness[method] = (values @ centroids.T).max(axis=1)[ids >= 100].mean()
    assert closeness["token_aware"] > closeness["kmeans"]


def test_without_token_ids(tokens):
    config = CentroidConfig(centroids=20, method="token_aware")
    with pytest.raises(ConfigError, match=r"method=token_aware needs the id of every token.*choose method=kmeans"):
        config.fit(tokens[0], n_tokens=len(tokens[0]), seed=0)
    with pytest.raises(ValueError, match="2900 token vectors need as many token ids; given 3"):
        config.cluster(tokens[0], tokens[1][:3], n_tokens=2900, seed=0)


def test_an_index_with_token_ids(tokens, tmp_path):
    values, ids = tokens
    collection = Collection.from_texts([f"text {i}" for i in range(29)])
    vectors, config = Ragged(values, offsets_of([100] * 29)), CentroidConfig(centroids=64, method="token_aware")
    index = build_index(tmp_path / "index", collection, vectors, config, seed=5, token_ids=ids)
    assert np.array_equal(index.codec.centroids, config.cluster(values, ids, n_tokens=2900, seed=5))
    with pytest.raises(ConfigError, match="needs the id of every token"):
        build_index(tmp_path / "without", collection, vectors, config)
    with pytest.raises(ValueError, match="2900 token vectors, but 5 token ids"):
        build_index(tmp_path / "few", collection, vectors, config, token_ids=ids[:5])
