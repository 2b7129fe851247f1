"""The contract of the search axis: every member of STRATEGIES passes the same suite."""

import os
from itertools import pairwise

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.codecs import ResidualConfig, TableCodec
from colbert_research.data import Collection
from colbert_research.encoders import HashingConfig
from colbert_research.index import Index, build_index, build_structure
from colbert_research.kernels.cpu.prepare import decoder_of, worst_error
from colbert_research.kernels.cuda import launch
from colbert_research.ragged import Ragged
from colbert_research.search import STRATEGIES, Exhaustive, Trace
from tests.contracts.strategy_cases import CASES, CODECS, DIM, IDS, N_DOCUMENTS, OWN_ORDER, OWN_SCORES, clustered


def oracle(index, queries: Ragged) -> np.ndarray:
    """Scores in float64 of the vectors that the index's codes stand for, without any strategy."""
    return kernels.maxsim(queries, index.vectors_of(index.document_ids), backend="reference")


def tolerance(index, queries: Ragged) -> float:
    """float32 dot products of unit vectors err by at most eps * dim each; a score adds one per query token.

    Codes are scored in integers, which err by what `worst_error` says, times the largest inverse norm. A rotation, of queries,
    centroids and decoded vectors, errs by eps * dim in each of dim coordinates.
    """
    rounded, codec = float(np.finfo(np.float32).eps * DIM * (1 + queries.lengths.max())), index.codec
    if isinstance(codec, TableCodec):
        norm = max(1.0, *(float(segment.codes["inverse_norms"].max()) for segment in index.segments))
        rounded += norm * max(worst_error(codec.rotated(query), decoder_of(codec.table)) for query in queries)
        if codec.rotation is not None:
            rounded += 3 * norm * float(np.finfo(np.float32).eps * DIM * np.sqrt(DIM) * queries.lengths.max())
    return rounded


def test_every_member_is_covered():
    assert {strategy.kind for strategy, _ in CASES} == set(STRATEGIES)


EACH = [
    pytest.param(strategy, codec, parts, id=f"{name}-{parts}")
    for (strategy, codec), name in zip(CASES, IDS, strict=True)
    for parts in ("one", "several")
    if parts == "several" or not strategy.kind.startswith("cuda") or launch.gpu_is_here() or os.environ.get("ALL_TRIALS")
]
"""Every case on an index in one segment and in several; in an emulator, which is slow, in several, the harder of the two."""


@pytest.mark.parametrize(("strategy", "codec", "parts"), EACH)
@pytest.mark.usefixtures("_device")
class TestContract:
    def test_scores_are_maxsim_and_ordered(self, indexes, queries, strategy, codec, parts):
        index = indexes[codec, parts]
        truth = oracle(index, queries)
        ranking = strategy.search(index, queries, 10)
        for q in range(len(queries)):
            found = ranking.top(q)
            assert 0 < len(found) <= 10
            for document, score in found:
                if strategy.kind not in OWN_SCORES:
                    assert score == pytest.approx(truth[q, int(document[1:])], abs=tolerance(index, queries))
            assert all(before[1] >= after[1] for before, after in pairwise(found))

    def test_its_exhaustive_equivalent_finds_the_same(self, indexes, queries, strategy, codec, parts):
        index = indexes[codec, parts]
        truth = oracle(index, queries)
        ranking = strategy.exhaustive_equivalent(index).search(index, queries, N_DOCUMENTS)
        exhaustive = Exhaustive().search(index, queries, N_DOCUMENTS)
        if strategy.kind.startswith("cuda") and codec == "exact":  # floats of a device: the checks below are for them
            assert np.all(np.abs(ranking.scores - exhaustive.scores) <= tolerance(index, queries))
        else:
            assert np.array_equal(ranking.positions, exhaustive.positions)
            assert np.array_equal(ranking.scores, exhaustive.scores)
        for q in range(len(queries)):
            found = ranking.top(q)
            assert sorted(d for d, _ in found) == sorted(index.document_ids)
            in_truth = np.array([truth[q, int(d[1:])] for d, _ in found])
            assert np.all(np.diff(in_truth) <= 2 * tolerance(index, queries))

    def test_k_larger_than_the_collection_returns_what_there_is(self, indexes, queries, strategy, codec, parts):
        index = indexes[codec, parts]
        ranking = strategy.exhaustive_equivalent(index).search(index, queries, 10 * N_DOCUMENTS)
        assert np.all(np.diff(ranking.offsets) == N_DOCUMENTS)

    def test_subset(self, indexes, queries, strategy, codec, parts):
        index = indexes[codec, parts]
        subset = ["d7", "d3", "d50", "d3"]
        ranking = strategy.search(index, queries, 10, subset=subset)
        truth = oracle(index, queries)
        for q in range(len(queries)):
            assert {d for d, _ in ranking.top(q)} == set(subset), "a small subset is scored exactly"
            best = max(set(subset), key=lambda d, q=q: truth[q, int(d[1:])])
            assert ranking.top(q)[0][0] == best or strategy.kind in OWN_ORDER
        empty = strategy.search(index, queries, 10, subset=[])
        assert len(empty) == len(queries)
        assert len(empty.positions) == 0
        with pytest.raises(KeyError, match="nowhere"):
            strategy.search(index, queries, 10, subset=["d1", "nowhere"])

    def test_a_large_subset_finds_only_its_documents(self, indexes, queries, strategy, codec, parts):
        index = indexes[codec, parts]
        subset = [*index.document_ids[::2], "d1", "d3", "d5"]
        ranking = strategy.search(index, queries, 10, subset=subset)
        assert {d for q in range(len(queries)) for d, _ in ranking.top(q)} <= set(subset)

    def test_its_structures_can_be_built_outside(self, indexes, queries, strategy, codec, parts, tmp_path, monkeypatch):
        """In the order in which they are named; a search needs no others, and finds the same."""
        path, done = indexes[codec, parts].path, {}
        for i, structure in enumerate(strategy.structures()):
            build_structure(Index.open(path, structures=done), structure, tmp_path / str(i))
            done[structure] = tmp_path / str(i)
        expected = strategy.search(indexes[codec, parts], queries, 10)
        monkeypatch.setattr("colbert_research.index.structures.add_parts", None)
        opened = Index.open(path, structures=done)
        opened.verify()
        found = strategy.search(opened, queries, 10)
        assert np.array_equal(found.positions, expected.positions)
        assert np.array_equal(found.scores, expected.scores)

    def test_nothing_is_remembered(self, indexes, queries, strategy, codec, parts):
        index = indexes[codec, parts]
        before = strategy.search(index, queries, 10)
        strategy.search(index, queries.slice(1, 2), 1)
        strategy.search(index, queries, 10, subset=["d1"])
        after = strategy.search(index, queries, 10)
        assert np.array_equal(before.positions, after.positions)
        assert np.array_equal(before.scores, after.scores)

    def test_queries_are_independent(self, indexes, queries, strategy, codec, parts):
        index = indexes[codec, parts]
        together = strategy.search(index, queries, 10)
        for q in range(len(queries)):
            alone = strategy.search(index, queries.slice(q, q + 1), 10)
            assert [d for d, _ in alone.top(0)] == [d for d, _ in together.top(q)]

    def test_trace_counts_work(self, indexes, queries, strategy, codec, parts):
        index = indexes[codec, parts]
        trace = Trace()
        strategy.search(index, queries, 10, trace=trace)
        work = trace.work()
        assert trace.queries == len(queries)
        assert any(stage["documents"] > 0 and stage["tokens"] > 0 for stage in work.values())
        assert all(stage["tokens"] <= len(queries) * index.n_tokens for stage in work.values())
        assert all(seconds >= 0 for seconds in trace.seconds().values())
        again = Trace()
        strategy.search(index, queries, 10, trace=again)
        assert again.work() == work

    def test_explain_ends_with_what_search_finds(self, indexes, queries, strategy, codec, parts):
        index, subset = indexes[codec, parts], indexes[codec, parts].document_ids[::2]
        for q, allowed in ((0, None), (2, None), (3, subset)):
            query, trace = queries.slice(q, q + 1), Trace()
            ranking = strategy.search(index, query, 10, subset=allowed, trace=trace)
            explained = strategy.explain(index, query, 10, subset=allowed)
            found = [document for document, _ in ranking.top(0)]
            result = explained.steps[-1]
            assert result.stage == "result"
            assert [index.document_ids[i] for i in sorted(result.positions.tolist(), key=result.rank)] == found
            assert len(explained.steps) > 1, "every strategy names a stage"
            assert {step.stage for step in explained.steps[:-1]} <= set(trace.stages)
            counted = {name: counts["documents"] for name, counts in trace.work().items()}
            assert all(len(step) == counted[step.stage] for step in explained.steps if step.stage in ("candidates", "exact"))
            last = explained.steps[-2]
            assert set(result.positions) <= set(last.positions)
            ranks = explained.table(*found)
            assert ranks.loc["result"].tolist() == [len(found), *range(1, len(found) + 1)]
            assert ranks.iloc[-2, 1:].tolist() == ranks.iloc[-1, 1:].tolist(), "the last scores decide"

    def test_bad_input(self, indexes, queries, strategy, codec, parts):
        index = indexes[codec, parts]
        with pytest.raises(ValueError, match="k must be at least 1"):
            strategy.search(index, queries, 0)
        with pytest.raises(ValueError, match="16 dimensions and the index 32"):
            strategy.search(index, queries.map(lambda v: v[:, :16]), 5)
        with pytest.raises(ValueError, match="not finite"):
            strategy.search(index, queries.map(lambda v: np.where(v > 0.3, np.nan, v)), 5)
        with pytest.raises(ValueError, match="has no token vectors"):
            strategy.search(index, clustered(1, [3, 0]), 5)
        with pytest.raises(ValueError, match="2 query ids"):
            strategy.search(index, queries, 5, query_ids=["a", "b"])


def test_segments_do_not_change_the_result(indexes, queries):
    for codec in CODECS:
        one, several = (Exhaustive().search(indexes[codec, parts], queries, 20) for parts in ("one", "several"))
        assert len(indexes[codec, "several"].segments) > 2
        assert np.array_equal(one.positions, several.positions)
        assert np.array_equal(one.scores, several.scores)


def test_what_an_encoder_gives_is_taken_as_it_is(tmp_path):
    """Token vectors with their ids, where vectors are meant; ids from a generator, which gives them once."""
    texts = ["red apples", "green pears", "a blue boat"]
    encoder, collection = HashingConfig(dim=32).load(), Collection.from_texts(texts)
    index = build_index(tmp_path / "i", collection, encoder.encode_documents(texts), ResidualConfig(nbits=4))
    asked = encoder.encode_queries(["blue boat"])
    assert Exhaustive().search(index, asked, 1).top(0)[0][0] == "2"
    assert Exhaustive().search(index, asked, 9, subset=(each for each in ("0", "1"))).positions.tolist() == [0, 1]
    with pytest.raises(TypeError, match="document ids, which are strings; given 0"):
        Exhaustive().search(index, asked, 9, subset=[0])
    assert [document.id for document in index.documents(each for each in ("1", "0"))] == ["1", "0"]
    assert len(index.vectors_of(each for each in ("1",))) == 1
