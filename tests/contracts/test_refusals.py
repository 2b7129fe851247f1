"""What a search and a build refuse, and that they say why: once, for `search` and `build_index` do it for all alike."""

import re

import numpy as np
import pytest

from colbert_research.codecs import CODECS, ExactConfig, ResidualConfig
from colbert_research.data import Collection
from colbert_research.index import Index, IndexMissingError, build_index
from colbert_research.ragged import Ragged, item_at, offsets_of
from colbert_research.search import STRATEGIES
from colbert_research.search.base import SearchStrategy
from tests.conftest import random_ragged

N, DIM = 30, 16
# what keeps defaults from running on thirty documents; a new member needs a line here only if its defaults cannot
SMALL = {
    "token_ann": {"ann": "flat"},
    "rerank": {"first_stage": "mean_vector"},
    "ladr": {"first_stage": "mean_vector", "graph": {"neighbours": 4}},
    "product": {"m": 4},
    "residual_product": {"m": 4},
}


@pytest.fixture(scope="module")
def documents() -> Ragged:
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 12, N)
    lengths[3] = 0
    return random_ragged(rng, lengths, DIM)


@pytest.fixture(scope="module")
def collection() -> Collection:
    return Collection.from_texts([f"text {i}" for i in range(N)], ids=[f"d{i}" for i in range(N)])


@pytest.fixture(scope="module")
def index(documents, collection, tmp_path_factory) -> Index:
    return build_index(tmp_path_factory.mktemp("refusals") / "index", collection, documents, ResidualConfig(centroids=8))


@pytest.fixture(scope="module")
def queries() -> Ragged:
    return random_ragged(np.random.default_rng(2), [4, 6], DIM)


@pytest.mark.parametrize("kind", STRATEGIES)
def test_no_strategy_has_a_search_of_its_own(kind):
    """So that what `SearchStrategy.search` refuses, all of them refuse."""
    assert STRATEGIES[kind].search is SearchStrategy.search


@pytest.fixture
def search(index):
    strategy = STRATEGIES["plaid"]().exhaustive_equivalent(index)

    def run(queries, k=5, *, index=index, **others):
        return strategy.search(index, queries, k, **{"query_texts": ["text"] * 2, **others})

    return run


def changed(vectors: Ragged, row: int, value: float, dtype=np.float32) -> Ragged:
    values = vectors.values.astype(dtype)
    values[row, 3] = value
    return Ragged(values, vectors.offsets)


class TestSearch:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
    @pytest.mark.parametrize(("row", "name"), [(3, "a"), (4, "b"), (9, "b")])
    def test_values_that_are_not_finite(self, search, queries, value, row, name):
        with pytest.raises(ValueError, match=f"query '{name}' has a token vector that is not finite.*look at what the encoder"):
            search(changed(queries, row, value), query_ids=["a", "b"])

    def test_values_that_only_float64_holds(self, search, queries):
        with pytest.raises(ValueError, match="query '1' has a token vector that is not finite"):
            search(changed(queries, 5, 1e300, np.float64))

    @pytest.mark.parametrize(
        ("cut", "message"),
        [
            (lambda v: v[:, :8], "the queries have 8 dimensions and the index 16; encode them with the encoder and reducer"),
            (lambda v: np.concatenate([v, v], axis=1), "have 32 dimensions and the index 16"),
            (lambda v: v[:, 0], "(n_tokens, dim), dim at least 1; given shape (10,)"),
            (lambda v: v[:, :0], "given shape (10, 0)"),
            (lambda v: v[:, :, None], "given shape (10, 16, 1)"),
        ],
    )
    def test_other_shapes(self, search, queries, cut, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            search(queries.map(cut))

    @pytest.mark.parametrize("dtype", [object, complex, bool])
    def test_what_is_no_number(self, search, queries, dtype):
        with pytest.raises(TypeError, match="the queries must hold numbers, such as float32; given"):
            search(queries.map(lambda values: values.astype(dtype)))

    @pytest.mark.parametrize("turn", [list, lambda q: q.values, lambda q: "what is late interaction?", lambda q: None])
    def test_what_is_no_ragged(self, search, queries, turn):
        with pytest.raises(TypeError, match=r"the queries must be a Ragged of token vectors; given \w+\. Ragged.from_list"):
            search(turn(queries))

    @pytest.mark.parametrize("lengths", [[0, 10], [10, 0]])
    def test_queries_without_tokens(self, search, queries, lengths):
        with pytest.raises(ValueError, match=f"query '{lengths.index(0)}' has no token vectors; leave it out"):
            search(Ragged(queries.values, offsets_of(lengths)))

    def test_no_queries_find_nothing(self, search, queries):
        for none in (queries.slice(0, 0), Ragged.from_list([])):
            found = search(none, query_texts=[])
            assert (len(found), len(found.positions)) == (0, 0)

    @pytest.mark.parametrize("k", [0, -1, -(10**30)])
    def test_k_below_one(self, search, queries, k):
        with pytest.raises(ValueError, match=f"k must be at least 1; given {k}"):
            search(queries, k)

    @pytest.mark.parametrize("k", [2.5, float("nan"), "5", None, [5]])
    def test_k_that_is_no_whole_number(self, search, queries, k):
        with pytest.raises(TypeError, match="k is a whole number.*given " + re.escape(repr(k))):
            search(queries, k)

    def test_k_of_any_integer_type_and_size(self, search, queries):
        assert search(queries, np.int64(3)).offsets.tolist() == [0, 3, 6]
        assert np.diff(search(queries, 10**30).offsets).tolist() == [N - 1] * 2, "all but the document without tokens"

    @pytest.mark.parametrize(
        ("others", "error", "message"),
        [
            ({"query_ids": ["a"]}, ValueError, "2 queries, but 1 query ids"),
            ({"query_ids": ["a", "a"]}, ValueError, "query ids must be unique; 'a'"),
            ({"query_ids": "ab"}, TypeError, "query_ids must be a list.*Put it in a list"),
            ({"query_ids": [1, 2]}, TypeError, "query_ids are strings; given 1 .int."),
            ({"query_texts": ["a"]}, ValueError, "2 queries, but 1 query texts"),
            ({"query_texts": "ab"}, TypeError, "query_texts must be a list"),
            ({"subset": "d1"}, TypeError, "expected a list of document ids; given one string, 'd1'"),
            ({"subset": ["d1", "nowhere"]}, KeyError, "1 unknown document ids, such as .*nowhere.*; the index has 30"),
            ({"subset": [1]}, TypeError, "document ids, which are strings; given 1"),
        ],
    )
    def test_names(self, search, queries, others, error, message):
        with pytest.raises(error, match=message):
            search(queries, **others)

    @pytest.mark.parametrize("what", ["folder/index", None])
    def test_what_is_no_index(self, search, queries, what):
        with pytest.raises(TypeError, match=r"expected an open index \(Index.open\(folder\) opens one\); given"):
            search(queries, index=what)


@pytest.mark.parametrize("kind", sorted(STRATEGIES))
@pytest.mark.usefixtures("_device")
def test_an_index_of_another_codec_is_served_or_refused(kind, documents, collection, queries, tmp_path):
    """Exact vectors have no centroids: a strategy does without, or names itself, the codec and a way out."""
    exact = build_index(tmp_path / "exact", collection, documents, ExactConfig())
    strategy = STRATEGIES[kind].model_validate(SMALL.get(kind, {}))
    try:
        found = strategy.search(exact, queries, 5, query_texts=["a", "b"])
    except ValueError as error:
        assert str(error).startswith(f"{kind} needs an index whose codec has centroids")
        assert "this one has ExactConfig(kind='exact', dtype='float32'). Build one with such a codec, or" in str(error)
    else:
        assert np.diff(found.offsets).tolist() == [5, 5]


@pytest.fixture
def codec():
    return ResidualConfig(centroids=8)


class TestBuild:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
    @pytest.mark.parametrize("row", [0, 70, -1])
    def test_values_that_are_not_finite(self, codec, documents, collection, tmp_path, value, row):
        document = item_at(documents.offsets, row % documents.n_rows)
        with pytest.raises(ValueError, match=f"document 'd{document}' has a token vector that is not finite"):
            build_index(tmp_path / "i", collection, changed(documents, row, value), codec)
        with pytest.raises(IndexMissingError):
            Index.open(tmp_path / "i")

    def test_values_that_only_float64_holds(self, codec, documents, collection, tmp_path):
        with pytest.raises(ValueError, match="document 'd0' has a token vector that is not finite"):
            build_index(tmp_path / "i", collection, changed(documents, 0, 1e300, np.float64), codec)

    def test_no_tokens(self, codec, documents, collection, tmp_path):
        none = Ragged(documents.values[:0], np.zeros(N + 1, np.int64))
        with pytest.raises(ValueError, match="the documents have no token vectors"):
            build_index(tmp_path / "i", collection, none, codec)

    @pytest.mark.parametrize("cut", [lambda v: v[:, 0], lambda v: v[:, :0], lambda v: v[:, :, None]])
    def test_other_shapes(self, codec, documents, collection, tmp_path, cut):
        with pytest.raises(ValueError, match="the documents' token vectors must be a Ragged of token vectors"):
            build_index(tmp_path / "i", collection, documents.map(cut), codec)

    @pytest.mark.parametrize("seed", [-1, 2**31])
    def test_seeds_out_of_range(self, codec, documents, collection, tmp_path, seed):
        with pytest.raises(ValueError, match=f"a seed lies between 0 and 2147483647; given {seed}"):
            build_index(tmp_path / "i", collection, documents, codec, seed=seed)

    @pytest.mark.parametrize("kind", CODECS)
    def test_centroids_of_another_width(self, kind, documents, collection, tmp_path):
        settings = {"centroids": 8} if "centroids" in CODECS[kind].model_fields else {}
        codec = CODECS[kind].model_validate({**settings, **SMALL.get(kind, {})})
        with pytest.raises(ValueError, match=r"has no centroids; leave `centroids` out|shape \(8, 16\); given shape \(8, 5\)"):
            build_index(tmp_path / "i", collection, documents, codec, centroids=np.ones((8, 5), np.float32))


@pytest.mark.parametrize("codec", ["residual", ResidualConfig, None])
def test_what_is_no_codec(codec, documents, collection, tmp_path):
    with pytest.raises(TypeError, match="expected a codec's config, such as .*; given " + re.escape(repr(codec))):
        build_index(tmp_path / "i", collection, documents, codec)


def test_what_is_no_collection_and_no_ragged(documents, collection, tmp_path):
    with pytest.raises(TypeError, match=r"expected a Collection, as Collection.from_texts makes of a list; given list"):
        build_index(tmp_path / "i", ["a", "b"], documents, ExactConfig())
    with pytest.raises(TypeError, match=r"the documents' token vectors must be a Ragged .*; given list"):
        build_index(tmp_path / "i", collection, list(documents), ExactConfig())


@pytest.mark.parametrize("turn", [lambda ids: ids[:3], lambda ids: ids.astype(float), lambda ids: ids[:, None]])
def test_token_ids_of_something_else(documents, collection, tmp_path, turn):
    config = ResidualConfig(centroids=8, method="token_aware")
    with pytest.raises(ValueError, match="token ids"):
        build_index(tmp_path / "i", collection, documents, config, token_ids=turn(np.zeros(documents.n_rows, np.int32)))
