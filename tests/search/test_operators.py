"""Operators and weighted sums, by hand and beside plain NumPy."""

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.index import build_index
from colbert_research.ragged import Ragged
from colbert_research.search import Exhaustive, Operator, Weighted
from colbert_research.search.operators import TOKENS_AT_ONCE
from tests.conftest import random_ragged

LENGTHS = [5, 1, 2, 3, 9, 0, 4]


@pytest.fixture
def index(tmp_path, rng):
    texts = [f"word{i} shared" for i in range(len(LENGTHS))]
    collection = Collection.from_texts(texts, ids=[f"d{i}" for i in range(len(LENGTHS))])
    return build_index(tmp_path / "i", collection, random_ragged(rng, LENGTHS, 16), ExactConfig())


@pytest.fixture
def queries(rng):
    return random_ragged(rng, [4, 1, 6], 16)


def scored(index, queries, strategy) -> np.ndarray:
    """`(n_queries, n_documents)`, by document."""
    ranking, scores = strategy.search(index, queries, 100), np.full((len(queries), len(LENGTHS)), np.nan)
    for q in range(len(queries)):
        for document, score in ranking.top(q):
            scores[q, int(document[1:])] = score
    return scores


def by_hand(index, queries, of) -> np.ndarray:
    """The sum over a query's tokens of `of` their similarities with a document's; NaN without tokens: it is not found."""
    documents = index.vectors_of(index.document_ids)
    each = [documents[i].astype(np.float64) for i in range(len(LENGTHS))]
    asked = [queries[q].astype(np.float64) for q in range(len(queries))]
    return np.array([[sum(of(d @ t) for t in q) if len(d) else np.nan for d in each] for q in asked])


TOLERANCE = float(6 * 16 * np.finfo(np.float32).eps)


@pytest.mark.parametrize(
    ("strategy", "of"),
    [
        (Operator(operator="mean"), np.mean),
        (Operator(operator="top", n=3), lambda s: np.mean(np.sort(s)[-3:])),
        (Operator(operator="top", n=1), np.max),
        (Operator(), np.max),
    ],
)
def test_operators_by_hand(index, queries, strategy, of):
    assert scored(index, queries, strategy) == pytest.approx(by_hand(index, queries, of), abs=TOLERANCE, nan_ok=True)


def test_first_and_inner_tokens(index, queries):
    documents, first = index.vectors_of(index.document_ids), scored(index, queries, Operator(operator="first"))
    for q in range(len(queries)):
        for d, length in enumerate(LENGTHS):
            expected = float(documents[d][0] @ queries[q][0]) if length else np.nan
            assert first[q, d] == pytest.approx(expected, abs=TOLERANCE, nan_ok=True)
    dropped = scored(index, queries, Operator(specials="drop"))
    inner = lambda text: text[1:-1] if len(text) > 2 else text  # noqa: E731
    for q in range(len(queries)):
        for d, length in enumerate(LENGTHS):
            products = inner(documents[d]) @ inner(queries[q]).T
            expected = float(products.max(axis=0).sum()) if length else np.nan
            assert dropped[q, d] == pytest.approx(expected, abs=TOLERANCE, nan_ok=True)


def test_many_queries_are_compared_in_parts(index, rng):
    queries = random_ragged(rng, [40] * (2 * TOKENS_AT_ONCE // 40 + 1), 16)
    one, every = Operator(operator="mean"), Operator(operator="mean").search(index, queries, 3)
    alone = one.search(index, queries.slice(20, 21), 3)
    assert [document for document, _ in every.top(20)] == [document for document, _ in alone.top(0)]


def test_weights(index, queries):
    texts = ["word1 shared", "nothing", "word4"]
    own = scored(index, queries, Exhaustive())
    weighted = {}
    for weight in (0.0, 0.25, 1.0):
        ranking = Weighted(weight=weight).search(index, queries, 100, query_texts=texts)
        weighted[weight] = [dict(ranking.top(q)) for q in range(3)]
    assert weighted[0.0] == [{f"d{d}": own[q, d] for d, length in enumerate(LENGTHS) if length} for q in range(3)]
    assert [sorted(each) for each in weighted[1.0]] == [[f"d{i}" for i in range(7)], [], ["d4"]]
    lowest, highest = np.nanmin(own, axis=1, keepdims=True), np.nanmax(own, axis=1, keepdims=True)
    scaled = np.nan_to_num((own - lowest) / (highest - lowest))  # a document without tokens counts as the worst
    for q, bm25 in enumerate(weighted[1.0]):
        for d in range(len(LENGTHS)):
            low, high = (min(bm25.values()), max(bm25.values())) if bm25 else (0.0, 1.0)
            lexical = (bm25.get(f"d{d}", low) - low) / ((high - low) or 1.0)
            assert weighted[0.25][q][f"d{d}"] == pytest.approx(0.75 * scaled[q, d] + 0.25 * lexical, abs=TOLERANCE)


def test_a_subset_is_scaled_within_itself(index, queries):
    found = Weighted(first_stage="mean_vector", weight=0.5).search(index, queries, 9, subset=["d0", "d3", "d4"])
    assert all(len(found.top(q)) == 3 and 0 <= found.top(q)[-1][1] <= found.top(q)[0][1] <= 1 + TOLERANCE for q in range(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"operator": "mean", "n": 3}, "n says how many"),
        ({"operator": "top"}, "n says how many"),
        ({"operator": "first", "specials": "drop"}, "choose one of the two"),
    ],
)
def test_settings_that_would_be_ignored(settings, message):
    with pytest.raises(ValueError, match=message):
        Operator(**settings)


def test_texts_of_two_tokens_keep_them(tmp_path, rng):
    vectors = random_ragged(rng, [2, 1], 16)
    index = build_index(tmp_path / "i", Collection.from_texts(["a b", "c"]), vectors, ExactConfig())
    query = Ragged(vectors.values[:2], np.array([0, 2]))
    assert Operator(specials="drop").search(index, query, 1).top(0)[0][0] == "0"
