"""The contract of the search axis: every member of STRATEGIES passes the same suite."""

from itertools import pairwise

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.codecs import ExactConfig, ResidualConfig, ResidualProductConfig, TableCodec
from colbert_research.data import Collection
from colbert_research.encoders import HashingConfig
from colbert_research.index import Index, build_index, build_structure
from colbert_research.index.build import BuildConfig
from colbert_research.kernels.cpu.prepare import decoder_of, worst_error
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import (
    STRATEGIES,
    Auto,
    CudaExhaustive,
    CudaPlaid,
    Emvb,
    Exhaustive,
    FastPlaid,
    Ladr,
    Muvera,
    NextPlaid,
    Plaid,
    Rerank,
    StanfordPlaid,
    TokenAnn,
    Trace,
    Warp,
)

N_DOCUMENTS, DIM = 60, 32
CODECS = {
    "exact": ExactConfig(),
    "residual-4": ResidualConfig(nbits=4, centroids=16),
    "residual-1": ResidualConfig(nbits=1, centroids=8),
    "product": ResidualProductConfig(m=8, centroids=16),
    "opq": ResidualProductConfig(m=16, centroids=8, rotation="opq"),
}
# one or more settings of every member; those that need centroids name the codecs they run on
CASES = [
    *((Exhaustive(), codec) for codec in CODECS),
    (Plaid(ncells=2, ndocs=60, n_exact=60), "residual-4"),
    (Plaid(ncells=3, ndocs=40, n_exact=20, centroid_score_threshold={"quantile": 0.5}), "residual-4"),
    (Plaid(ncells=1, ndocs=30, n_exact=30, centroid_score_threshold={"value": 0.1}), "residual-1"),
    (Plaid(ncells=3, ndocs=40, n_exact=20, cell_score_threshold={"quantile": 0.5}), "residual-4"),
    (StanfordPlaid(), "residual-4"),
    (StanfordPlaid(ncells=3, centroid_score_threshold=0.1, ndocs=80), "residual-1"),
    (FastPlaid(n_ivf_probe=3, n_full_scores=160), "residual-4"),
    (NextPlaid(n_ivf_probe=3, n_full_scores=40, centroid_score_threshold=0.2), "residual-4"),
    *((Auto(), codec) for codec in CODECS),
    (Auto(exhaustive_tokens=0, ncells=2, n_exact=20), "residual-4"),
    (TokenAnn(ann="flat", k_tokens=20), "exact"),
    (TokenAnn(ann={"kind": "ivf", "nlist": 16, "nprobe": 3}, k_tokens=40, n_exact=15), "residual-4"),
    (TokenAnn(ann={"kind": "ivfpq", "nlist": 4, "nprobe": 2, "m": 8}, k_tokens=40), "residual-1"),
    (TokenAnn(ann={"kind": "hnsw", "m": 8, "ef_search": 40}, k_tokens=40, n_exact=15, deduplicate=False), "exact"),
    (Muvera(repetitions=4, k_sim=3, d_proj=8, n_candidates=20), "residual-4"),
    (Muvera(repetitions=2, k_sim=2, d_proj=None, d_final=64, storage="float16", n_candidates=15), "exact"),
    (Rerank(first_stage="mean_vector", depth=20), "residual-4"),
    (Ladr(first_stage="mean_vector", n_seeds=8, depth=5, graph={"neighbours": 4}), "residual-4"),
    (Warp(nprobe=4, exact_subset=20), "residual-4"),
    (Warp(nprobe=2, imputation={"kind": "top_k", "k_tokens": 30}, exact_subset=20), "residual-1"),
    *((Warp(nprobe=3, imputation=rule, exact_subset=20), "residual-4") for rule in ("none", "constant", "mean")),
    (Warp(nprobe=3, imputation="mean", exact_subset=20, finder={"kind": "hnsw", "m": 4, "ef_search": 6}), "residual-4"),
    (Emvb(ncells=3, n_filtered=40, n_exact=20), "residual-4"),
    (
        Emvb(ncells=2, bit_threshold={"quantile": 0.7}, n_filtered=25, n_exact=15, term_threshold={"quantile": 0.6}),
        "residual-1",
    ),
]
CASES += [
    (strategy, codec)
    for codec in ("product", "opq")
    for strategy in (
        Plaid(ncells=3, ndocs=40, n_exact=20),
        Warp(nprobe=4, exact_subset=20),
        Warp(nprobe=2, imputation={"kind": "top_k", "k_tokens": 30}, exact_subset=20),
        Emvb(ncells=3, n_filtered=40, n_exact=20),
        Emvb(ncells=2, bit_threshold={"quantile": 0.7}, n_filtered=25, n_exact=15, term_threshold=None),
    )
]
ON_DEVICE = {"exhaustive": CudaExhaustive, "plaid": CudaPlaid}
CASES += [
    (ON_DEVICE[strategy.kind](**strategy.model_dump(exclude={"kind"})), codec)
    for strategy, codec in CASES
    if strategy.kind in ON_DEVICE
]
CASES.append((CudaExhaustive(memory_gb=9e-6), "residual-4"))  # about fifteen documents at a time
OWN_SCORES = {"warp", "emvb"}
"""Strategies whose scores are MaxSim only in their exhaustive equivalent; their own tests say what they are otherwise."""
IDS = [f"{strategy.kind}{i}-{codec}" for i, (strategy, codec) in enumerate(CASES)]


def clustered(seed: int, lengths) -> Ragged:
    """Unit vectors around 12 directions, so that centroids mean something."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).standard_normal((12, DIM))
    n = int(np.sum(lengths))
    values = directions[rng.integers(0, 12, n)] + 0.6 * rng.standard_normal((n, DIM))
    return Ragged((values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32), offsets_of(lengths))


@pytest.fixture(scope="module")
def documents() -> Ragged:
    return clustered(1, np.random.default_rng(2).integers(1, 30, N_DOCUMENTS))


@pytest.fixture(scope="module")
def queries() -> Ragged:
    return clustered(3, [5, 1, 12, 7])


@pytest.fixture(scope="module")
def indexes(documents, tmp_path_factory):
    """Each codec's index, in one segment and in several."""
    folder = tmp_path_factory.mktemp("indexes")
    collection = Collection.from_texts([f"text {i}" for i in range(N_DOCUMENTS)], ids=[f"d{i}" for i in range(N_DOCUMENTS)])
    several = BuildConfig(segment_tokens=300, chunk_tokens=64)
    return {
        (name, parts): build_index(folder / f"{name}-{parts}", collection, documents, codec, seed=5, build=build)
        for name, codec in CODECS.items()
        for parts, build in (("one", None), ("several", several))
    }


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


@pytest.mark.parametrize("parts", ["one", "several"])
@pytest.mark.parametrize(("strategy", "codec"), CASES, ids=IDS)
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
            assert ranking.top(q)[0][0] == best
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


class TestPlaid:
    @pytest.mark.parametrize("parts", ["one", "several"])
    def test_each_stage_looks_at_what_the_one_before_it_left(self, indexes, queries, parts):
        """The candidates by hand, then the best of each stage's own scores, as many as its setting says."""
        index, threshold = indexes["residual-4", parts], {"quantile": 0.5}
        plaid = Plaid(ncells=2, ndocs=16, n_exact=8, centroid_score_threshold=threshold)
        query = queries.slice(3, 4)
        trace = Trace()
        ranking = plaid.search(index, query, 5, trace=trace)
        explained = plaid.explain(index, query, 5)
        names = ["candidates", "pruned interaction", "interaction", "exact", "result"]
        assert [step.stage for step in explained.steps] == names
        cells = set(np.argsort(-(query[0] @ index.codec.centroids.T), axis=1, kind="stable")[:, :2].ravel().tolist())
        ids = [set(each.tolist()) for segment in index.segments for each in segment.centroid_ids]
        candidates, *later = explained.steps
        assert candidates.positions.tolist() == [i for i, own in enumerate(ids) if own & cells]
        assert later[0].positions.tolist() == candidates.positions.tolist()
        for before, after, size in zip(later, later[1:], (16, 8, 5), strict=False):
            best = sorted(before.positions.tolist(), key=before.rank)[:size]
            assert after.positions.tolist() == sorted(best)
        assert set(ranking.positions) <= set.intersection(*(set(step.positions.tolist()) for step in explained.steps))
        assert [len(step) for step in later[:-1]] == [trace.work()[name]["documents"] for name in names[1:-1]]

    def test_where_a_document_was_lost(self, indexes, queries):
        index = indexes["residual-4", "one"]
        explained = Plaid(ncells=1, ndocs=16, n_exact=8).explain(index, queries.slice(1, 2), 5)
        candidates, interaction, *_ = explained.steps
        last = max(interaction.positions.tolist(), key=interaction.rank)
        never = next(i for i in range(N_DOCUMENTS) if i not in candidates)
        table = explained.table(f"d{last}", f"d{never}")
        assert table[f"rank of d{last}"].tolist() == ["in", len(interaction), "-", "-"]
        assert table[f"rank of d{never}"].tolist() == ["-"] * 4
        assert f"d{last}" in explained.documents()["interaction"]
        with pytest.raises(ValueError, match=r"no document 'nowhere' in the index; its ids are like 'd0'"):
            explained.table("d1", "nowhere")
        with pytest.raises(ValueError, match="one query is explained at a time; given 4"):
            Plaid(ncells=2, ndocs=16, n_exact=8).explain(index, queries, 5)

    def test_it_prunes(self, indexes, queries):
        index = indexes["residual-4", "one"]
        narrow, wide = Trace(), Trace()
        Plaid(ncells=1, ndocs=12, n_exact=10).search(index, queries, 10, trace=narrow)
        Plaid(ncells=16, ndocs=60, n_exact=60).search(index, queries, 10, trace=wide)
        assert narrow.work()["exact"]["documents"] == 10 * len(queries)
        assert narrow.work()["exact"]["tokens"] < wide.work()["exact"]["tokens"]

    def test_the_threshold_leaves_tokens_out(self, indexes, queries):
        index = indexes["residual-4", "one"]
        everything = {"quantile": 0.0}
        settings = {"ncells": 16, "ndocs": 30, "n_exact": 30}
        plain = Plaid(**settings).search(index, queries, 10)
        same = Plaid(**settings, centroid_score_threshold=everything).search(index, queries, 10)
        assert np.array_equal(plain.positions, same.positions)
        pruned = Plaid(**settings, centroid_score_threshold={"quantile": 1.0})
        trace = Trace()
        pruned.search(index, queries, 10, trace=trace)
        assert "pruned interaction" in trace.work()

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"ndocs": 10, "n_exact": 20}, "n_exact=20 is more than the ndocs=10"),
            ({"ncells": 0}, "greater than or equal to 1"),
            ({"centroid_score_threshold": {"value": 0.4, "quantile": 0.5}}, "either a value or a quantile"),
            ({"centroid_score_threshold": {"quantile": 1.5}}, "less than or equal to 1"),
        ],
    )
    def test_bad_settings(self, settings, message):
        with pytest.raises(ValueError, match=message):
            Plaid(**settings)

    def test_settings_that_cannot_serve_the_index(self, indexes, queries):
        with pytest.raises(ValueError, match="needs an index whose codec has centroids"):
            Plaid().search(indexes["exact", "one"], queries, 5)
        with pytest.raises(ValueError, match="ncells=17, but the index has 16"):
            Plaid(ncells=17).search(indexes["residual-4", "one"], queries, 5)
        with pytest.raises(ValueError, match="k=50 results cannot come from n_exact=20"):
            Plaid(ncells=2, ndocs=20, n_exact=20).search(indexes["residual-4", "one"], queries, 50)


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
