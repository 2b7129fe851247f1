"""LADR: against the algorithm by hand, the graphs, and what makes it stop."""

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.index import Scope, build_index
from colbert_research.index.build import BuildConfig
from colbert_research.search import GRAPHS, Ladr, Queries, Trace
from colbert_research.search.first_stages import MeanVectorStage
from colbert_research.search.graphs import Bm25Graph, MeanVectorGraph
from tests.search.conftest import DIM, EPS, WORDS, N, positions_of

SETTINGS = {"first_stage": "mean_vector", "n_seeds": 6, "depth": 3, "graph": {"kind": "mean_vector_graph", "neighbours": 3}}


def rows_of(graph) -> np.ndarray:
    """`(N, neighbours)`: every document's neighbours."""
    return graph.neighbours_of(np.arange(graph.starts[-1]))


def by_hand(seeds, truth, graph, depth, allowed) -> set[int]:
    """Everything scored, following the papers' loop with sets."""
    scored, followed = set(seeds), set()
    while True:
        top = sorted(scored, key=lambda d: (-truth[d], d))[:depth]
        new = {int(n) for d in top if d not in followed for n in graph[d] if n >= 0} - scored
        followed |= set(top)
        new &= set(allowed)
        if not new:
            return scored
        scored |= new


@pytest.mark.parametrize("subset", [None, range(0, N, 2), [*range(20), *range(30, N)]])
@pytest.mark.parametrize("depth", [1, 3, 10])
def test_the_algorithm(index, queries, truth, subset, depth):
    strategy = Ladr(**SETTINGS | {"depth": depth})
    graph = rows_of(index.structure(strategy.graph))
    scope = Scope.all(N) if subset is None else Scope.of(np.array(subset), N)
    ids = None if subset is None else [f"d{i}" for i in subset]
    seeds = MeanVectorStage().candidates(index, Queries(queries, ("a", "b", "c")), 6, scope, Trace())
    trace = Trace()
    ranking = strategy.search(index, queries, N, subset=ids, trace=trace)
    expected = [by_hand(seeds[q].tolist(), truth[q], graph, depth, scope.positions.tolist()) for q in range(len(queries))]
    assert [positions_of(ranking, q) for q in range(len(queries))] == expected
    assert trace.work()["exact"]["documents"] == sum(map(len, expected)), "no document is scored twice"
    assert trace.work()["neighbours"]["documents"] == sum(len(e) - len(s) for e, s in zip(expected, seeds, strict=True))


def test_it_finds_more_than_its_seeds(whole, queries, truth):
    deep = Ladr(**SETTINGS | {"depth": 10, "graph": {"kind": "mean_vector_graph", "neighbours": 8}})
    ranking = deep.search(whole, queries, 1)
    assert [int(ranking.top(q)[0][0][1:]) for q in range(len(queries))] == truth.argmax(axis=1).tolist()
    trace = Trace()
    deep.search(whole, queries, 1, trace=trace)
    assert len(queries) * deep.n_seeds < trace.work()["exact"]["documents"] < len(queries) * N


class TestGraphs:
    @pytest.mark.parametrize("parts", ["index", "whole"])
    def test_mean_vectors(self, request, vectors, parts):
        index = request.getfixturevalue(parts)
        graph = rows_of(index.structure(MeanVectorGraph(neighbours=5)))
        directions = np.stack([d.mean(axis=0) / np.linalg.norm(d.mean(axis=0)) for d in vectors])
        similar = directions @ directions.T
        assert graph.shape == (N, 5)
        for document, nearest in enumerate(graph):
            assert document not in nearest
            start, stop = index.starts[np.searchsorted(index.starts, document, side="right") - 1 :][:2]
            assert np.all((nearest >= start) & (nearest < stop)), "all in the same segment"
            others = np.delete(similar[document], document)[start : stop - 1]
            # ties within rounding may fall either way: compare what is found, not where
            expected = np.sort(others)[::-1][:5]
            assert similar[document, nearest] == pytest.approx(expected, abs=4 * DIM * EPS)

    def test_words(self, whole, collection):
        graph = rows_of(whole.structure(Bm25Graph(neighbours=8, stopwords="none")))
        share = [set(text.split()) - {"note"} for text in collection.document_texts()]
        for document, nearest in enumerate(graph):
            assert document not in nearest
            likely = [n for n in nearest[:4] if n >= 0]
            assert all(share[document] & share[n] for n in likely), f"{WORDS[document % 10]} is rarer than `note`"

    def test_a_document_with_few_relatives(self, tmp_path, vectors):
        texts = ["red apple", "green apple", "blue sky", "red"]
        built = build_index(tmp_path / "i", Collection.from_texts(texts), vectors.slice(0, 4), ExactConfig())
        graph = rows_of(built.structure(Bm25Graph(neighbours=3)))
        assert [set(row.tolist()) - {-1} for row in graph] == [{1, 3}, {0}, set(), {0}]

    @pytest.mark.parametrize("kind", list(GRAPHS))
    def test_the_same_bytes(self, index, kind):
        graph = GRAPHS[kind](neighbours=4)
        (need,) = graph.needs()
        for segment in index.segments:
            needed = {need: need.build(index.codec, segment, {})}
            one, other = (graph.build(index.codec, segment, needed)["neighbours"] for _ in range(2))
            assert np.array_equal(one, other)

    def test_a_segment_without_words(self, tmp_path, vectors):
        build = BuildConfig(segment_tokens=int(vectors.lengths[:2].sum()))
        collection = Collection.from_texts(["red apple", "red", "?", "!"])
        built = build_index(tmp_path / "i", collection, vectors.slice(0, 4), ExactConfig(), build=build)
        assert len(built.segments) > 1
        assert rows_of(built.structure(Bm25Graph(neighbours=1))).tolist() == [[1], [0], [-1], [-1]]

    def test_a_graph_of_words_serves_a_search(self, index, queries):
        strategy = Ladr(n_seeds=3, depth=2, graph={"kind": "bm25_graph", "neighbours": 4})
        texts = ["apple apple", "banana", "zebra"]
        ranking = strategy.search(index, queries, 10, query_texts=texts)
        assert len(ranking.top(0)) > 3
        assert ranking.top(2) == [], "without seeds there is nothing to follow"


def test_what_it_refuses(index, queries):
    most = max(map(len, index.segments)) - 1
    with pytest.raises(ValueError, match=f"graph.neighbours=50, but a document has at most {most} others in its segment"):
        Ladr(**SETTINGS | {"graph": {"kind": "mean_vector_graph", "neighbours": N}}).search(index, queries, 5)
    with pytest.raises(ValueError, match="pass query_texts"):
        Ladr(graph={"kind": "mean_vector_graph", "neighbours": 4}).search(index, queries, 5)
    with pytest.raises(ValueError, match="unknown graph kind 'tree'"):
        Ladr(graph="tree")
