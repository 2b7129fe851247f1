"""Every member of STRATEGIES, searched over shards: the ranking of one machine, or one with more candidates, or a refusal."""

import os
from itertools import pairwise

import numpy as np
import pytest

from colbert_research.encoders import HashingConfig, TextPipeline
from colbert_research.kernels.cuda import launch
from colbert_research.ranking import Ranking
from colbert_research.search import Auto, Plaid, Queries, Retriever, StanfordPlaid, Trace
from colbert_research.search.decoded import token_offsets
from colbert_research.serving.placing import cut
from colbert_research.serving.shards import Shards
from colbert_research.serving.shards_checks import check_strategy
from colbert_research.serving.shards_search import Part
from colbert_research.settings import ConfigError
from tests.contracts.strategy_cases import CASES, DIM, IDS

OWN_CUTOFFS = {"emvb", "token_ann", "muvera", "ladr", "cuda_plaid"}
"""Strategies that apply their cutoffs shard by shard."""
REFUSED = {"weighted", "warp-mean", "warp-top_k"}
EACH = [
    pytest.param(strategy, codec, id=name)
    for (strategy, codec), name in zip(CASES, IDS, strict=True)
    if os.environ.get("ALL_TRIALS")
    or (
        (launch.gpu_is_here() or not strategy.kind.startswith("cuda")) and codec not in ("product", "opq", "rabitq")
    )  # which other contracts hold to the same scores
]


def over(index, strategy, n, **more):
    pipeline = TextPipeline.of(HashingConfig(dim=DIM))
    return Shards.start(Retriever(index, pipeline, strategy), "inline", shards=n, **more)


def name_of(strategy) -> str:
    return f"warp-{strategy.imputation.kind}" if strategy.kind == "warp" else strategy.kind


def same(one: Ranking, other: Ranking) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("offsets", "positions", "scores"))


@pytest.mark.parametrize(("strategy", "codec"), EACH)
@pytest.mark.usefixtures("_device")
def test_the_ranking_of_one_machine(indexes, queries, strategy, codec):
    few, half = {"subset": ["d7", "d3"]}, {"subset": indexes[codec, "one"].document_ids[::2]}
    for parts, n, each in (("several", 3, ({}, half, few)), ("one", 2, ({},))):
        index = indexes[codec, parts]
        if name_of(strategy) in REFUSED:
            with pytest.raises(ConfigError, match="which no shard knows; search it in one process"):
                check_strategy(strategy)
            continue
        with over(index, strategy, n) as shards:
            assert len(shards.shards) == n
            for asked in each:
                whole = strategy.search(index, queries, 10, **asked)
                found = shards.search(queries, 10, **asked)
                assert (found.answered, found.why) == (1.0, "")
                if strategy.kind in OWN_CUTOFFS:
                    assert_more(whole, found.ranking, shards, index, queries, asked)
                else:
                    assert same(found.ranking, whole)


def assert_more(whole, found, shards, index, queries, asked):
    """It is the merged ranking of searches that find the documents of one shard each; nothing is scored otherwise than in one
    process, and behind one cutoff nothing worse is found."""
    strategy, scope = shards.retriever.strategy, index.scope(asked.get("subset"))
    rankings, given = [], Queries.of(queries, None, None, dim=DIM)
    for start, stop in shards.shards:
        part = Part.of_shard(scope, start, stop)
        if len(part.positions):
            each = strategy.fitted(index)[0]._search(index, given, 10, part, Trace())
            rankings.append(Ranking.of(each, query_ids=whole.query_ids, document_ids=whole.document_ids))
    assert same(found, Ranking.merge(rankings, 10)) if rankings else not len(found.positions)
    for query in range(len(queries)):
        before, now = whole.top(query), found.top(query)
        scores = dict(before)
        assert all(scores.get(document, score) == score for document, score in now)
        if strategy.kind in ("muvera", "token_ann"):
            assert all(new[1] >= old[1] for old, new in zip(before, now, strict=False))
            assert len(now) >= len(before)


def test_every_strategy_is_named():
    assert {name_of(strategy) for strategy, _ in CASES} >= REFUSED
    assert {strategy.kind for strategy, _ in CASES} >= OWN_CUTOFFS


@pytest.mark.parametrize(
    "strategy",
    [
        Plaid(ncells=4, ndocs=7, n_exact=4, centroid_score_threshold={"quantile": 0.9}),
        Plaid(ncells=2, ndocs=5, n_exact=5, cell_score_threshold={"quantile": 0.6}),
        StanfordPlaid(ncells=5, centroid_score_threshold=0.3, ndocs=16),
        Auto(exhaustive_tokens=0, ncells=1, n_exact=4),
    ],
    ids=repr,
)
def test_cutoffs_that_leave_little(indexes, documents, strategy):
    """So little that shards have to be asked again, and that `auto` has to open more cells."""
    index, queries = indexes["residual-4", "several"], documents.slice(0, 25)
    queries = queries.take(np.flatnonzero(queries.lengths > 0))
    for n, k in ((2, 3), (9, 4)):
        with over(index, strategy, n) as shards:
            assert same(shards.search(queries, k).ranking, strategy.search(index, queries, k))


def test_what_one_machine_refuses(indexes, queries):
    index = indexes["residual-4", "several"]
    with over(index, Plaid(ncells=2, ndocs=60, n_exact=60), 3) as shards:
        for k, given, error, said in (
            (0, {}, ValueError, "k must be at least 1"),
            (5, {"subset": ["d1", "nowhere"]}, KeyError, "nowhere"),
            (5, {"query_ids": ["a"]}, ValueError, "4 queries, but 1 query ids"),
            (5, {"filter": {"year": 3}}, ValueError, "no document has"),
            (5, {"deadline": -1}, ValueError, "deadline is a number of seconds from 0; given -1"),
        ):
            with pytest.raises(error, match=said):
                shards.search(queries, k, **given)
        assert shards.search(queries.slice(0, 0), 5).ranking.query_ids == ()


def test_shards_that_cannot_be(indexes):
    index = indexes["residual-4", "several"]
    for given, said in (
        ({"n": 61}, "shards=61: an index of 60 documents is cut into 1 to 60"),
        ({"n": 2, "replicas": 2}, "replicas=2 of a shard are on as many workers, and there is room for 1"),
        ({"n": 2, "replicas": 0}, "replicas is a whole number from 1; given 0"),
    ):
        with pytest.raises(ConfigError, match=said), over(index, Auto(), **given):
            pass
    with pytest.raises(ValueError, match=r"hedge is a quantile .* between 0 and 1; given 95"), over(index, Auto(), 2, hedge=95):
        pass


def test_shards_are_whole_segments_of_about_one_size(indexes):
    index = indexes["residual-4", "several"]
    tokens, segments = token_offsets(index), len(index.segments)
    for n in range(1, index.n_positions + 1):
        shards = cut(index, n)
        assert shards[0][0] == 0 and shards[-1][1] == index.n_positions
        assert all(before[1] == after[0] for before, after in pairwise(shards))
        assert all(start < stop for start, stop in shards)
        if n <= segments:
            assert {start for start, _ in shards} <= set(index.starts.tolist())
        largest = max(np.diff(index.starts)) if n <= segments else 1
        sizes = [tokens[stop] - tokens[start] for start, stop in shards]
        assert max(sizes) <= tokens[-1] / n + 2 * 30 * largest
