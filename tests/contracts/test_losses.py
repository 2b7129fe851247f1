"""Where searches lose documents: for every member of STRATEGIES, the stage and the settings that are named are the true ones.

Opening those settings lets the document pass the stage, and opening every setting of the later stages does not.
"""

from collections.abc import Iterable

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.data import Collection
from colbert_research.index import build_index
from colbert_research.index.build import BuildConfig
from colbert_research.kernels import maxsim
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import (
    STRATEGIES,
    UNSEEN,
    Auto,
    CudaExhaustive,
    CudaPlaid,
    Emvb,
    Exhaustive,
    FastPlaid,
    Ladr,
    LossFinder,
    Muvera,
    NextPlaid,
    Operator,
    Plaid,
    Rerank,
    StanfordPlaid,
    TokenAnn,
    Warp,
    Weighted,
)
from colbert_research.search.cell_ranks import cell_ranks, cells_of
from colbert_research.search.losses import FOUND, MISRANKED, words
from tests.contracts.strategy_cases import DIM, N_DOCUMENTS

K, WANTED = 5, 15
MEAN = {"first_stage": "mean_vector"}
IVF = {"kind": "ivf", "nlist": 16, "nprobe": 1}
HNSW = {"kind": "hnsw", "m": 2, "ef_construction": 4, "ef_search": 3}
TIGHT = {"ncells": 1, "centroid_score_threshold": {"quantile": 0.95}, "ndocs": 12, "n_exact": 6}
# settings so tight that documents are lost, an index, and the stages and settings that must be among those named
CASES = [
    (Exhaustive(), "residual-1", set()),
    (Plaid(ncells=1, ndocs=8, n_exact=6), "residual-1", {(UNSEEN, "ncells"), ("interaction", "n_exact")}),
    (
        Plaid(**TIGHT),
        "residual-1",
        {(UNSEEN, "ncells"), ("pruned interaction", "ndocs"), ("pruned interaction", "centroid_score_threshold or ndocs")},
    ),
    (
        Plaid(ncells=3, cell_score_threshold={"quantile": 0.9}, ndocs=8, n_exact=6),
        "residual-4",
        {(UNSEEN, "ncells"), ("probe", "cell_score_threshold"), ("interaction", "n_exact")},
    ),
    (
        StanfordPlaid(ncells=1, centroid_score_threshold=0.5, ndocs=28),
        "residual-1",
        {(UNSEEN, "ncells"), ("interaction", "ndocs")},
    ),
    (FastPlaid(n_ivf_probe=1, n_full_scores=24), "residual-1", {(UNSEEN, "n_ivf_probe"), ("interaction", "n_full_scores")}),
    (
        NextPlaid(n_ivf_probe=4, n_full_scores=24, centroid_score_threshold=0.35),
        "residual-4",
        {(UNSEEN, "n_ivf_probe"), ("probe", "centroid_score_threshold"), ("interaction", "n_full_scores")},
    ),
    (Auto(exhaustive_tokens=0, ncells=1, n_exact=20), "residual-1", {(UNSEEN, "ncells")}),
    (TokenAnn(ann="flat", k_tokens=4, n_exact=6), "residual-1", {(UNSEEN, "k_tokens"), ("neighbours", "n_exact")}),
    (TokenAnn(ann=IVF, k_tokens=12), "residual-1", {(UNSEEN, "k_tokens")}),
    (TokenAnn(ann=HNSW, k_tokens=3), "exact", {(UNSEEN, "ann and k_tokens")}),
    (Muvera(repetitions=1, k_sim=2, d_proj=4, n_candidates=6), "residual-1", {("fde", "n_candidates")}),
    (Rerank(**MEAN, depth=6), "residual-1", {("first stage", "depth")}),
    (
        Rerank(first_stage={"kind": "lemur", "width": 16, "epochs": 0, "sample": 90}, depth=6),
        "residual-1",
        {("first stage", "depth")},
    ),
    (Ladr(**MEAN, n_seeds=5, depth=1, graph={"neighbours": 1}), "residual-1", {("first stage", "n_seeds")}),
    (Warp(nprobe=1), "residual-1", {(UNSEEN, "nprobe"), ("impute", "nprobe")}),
    (Warp(nprobe=2, imputation={"kind": "top_k", "k_tokens": 3}), "residual-1", {(UNSEEN, "nprobe"), ("impute", "nprobe")}),
    (
        Warp(nprobe=1, imputation="mean", finder={"kind": "hnsw", "m": 2, "ef_construction": 2, "ef_search": 1}),
        "residual-4",
        {(UNSEEN, "nprobe and finder")},
    ),
    (
        Emvb(ncells=1, bit_threshold={"quantile": 0.9}, n_filtered=12, n_exact=6, term_threshold={"quantile": 0.9}),
        "residual-4",
        {(UNSEEN, "ncells"), ("bit vectors", "n_filtered"), ("interaction", "n_exact")},
    ),
    (Emvb(ncells=8, term_threshold={"quantile": 0.95}), "residual-4", {("exact", "term_threshold")}),
    (Weighted(**MEAN, weight=0.9), "residual-4", {("sum", "weight")}),
    (Weighted(**MEAN, weight=1), "residual-4", {("first stage", "weight")}),
    (Operator(operator="mean"), "exact", {("score", "operator")}),
    (Operator(operator="top", n=2, specials="drop"), "exact", {("score", "operator and specials")}),
    (CudaExhaustive(), "residual-1", set()),
    (CudaPlaid(**TIGHT), "residual-1", {(UNSEEN, "ncells"), ("pruned interaction", "ndocs")}),
]


def unit_vectors(seed: int, lengths) -> Ragged:
    """In all directions, so that documents lie in many cells, and short ones in few."""
    values = np.random.default_rng(seed).standard_normal((int(np.sum(lengths)), DIM))
    return Ragged((values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32), offsets_of(lengths))


@pytest.fixture(scope="module")
def documents() -> Ragged:
    return unit_vectors(1, np.random.default_rng(2).integers(1, 8, N_DOCUMENTS))


@pytest.fixture(scope="module")
def queries() -> Ragged:
    return unit_vectors(3, [4, 2, 7, 3])


@pytest.fixture(scope="module")
def indexes(documents, tmp_path_factory):
    folder, ids = tmp_path_factory.mktemp("losses"), [f"d{i}" for i in range(N_DOCUMENTS)]
    collection = Collection.from_texts([f"text {i}" for i in ids], ids=ids)
    build = BuildConfig(segment_tokens=90, chunk_tokens=32)
    codecs = {"exact": ExactConfig()} | {f"residual-{nbits}": ResidualConfig(nbits=nbits, centroids=24) for nbits in (1, 4)}
    return {
        name: build_index(folder / name, collection, documents, codec, seed=5, build=build) for name, codec in codecs.items()
    }


@pytest.fixture(scope="module")
def exact(indexes, queries):
    """Exhaustive search of the vectors themselves."""
    return Exhaustive().search(indexes["exact"], queries, N_DOCUMENTS)


def finders(strategy, index, queries) -> list[LossFinder]:
    ids = [str(q) for q in range(len(queries))]
    return [
        LossFinder(strategy, index, queries.slice(q, q + 1), K, {"query_ids": [query_id]}) for q, query_id in enumerate(ids)
    ]


def losses(strategy, index, queries, exact) -> list:
    return [
        (finder, finder.loss(document, exact_rank=rank, exact_score=score))
        for q, finder in enumerate(finders(strategy, index, queries))
        for rank, (document, score) in enumerate(exact.top(q)[:WANTED], 1)
    ]


class LastSeen:
    """The last stage that looks at a document with some settings as the exhaustive equivalent has them; each searched once."""

    def __init__(self) -> None:
        self.known: dict = {}

    def __call__(self, finder, document: str, settings: Iterable[str]) -> str:
        key = (id(finder), frozenset(settings))
        if key not in self.known:
            opened = finder.strategy.exhaustive_equivalent(finder.index)
            strategy = finder.strategy.model_copy(update={name: getattr(opened, name) for name in key[1]})
            self.known[key] = strategy.explain(finder.index, finder.query, K, **finder.names).documents()
        return next((stage for stage in reversed(self.known[key]) if document in self.known[key][stage]), UNSEEN)


def test_every_member_is_covered():
    assert {strategy.kind for strategy, _, _ in CASES} == set(STRATEGIES)
    for strategy, _, expected in CASES:
        assert {stage for stage, _ in expected} <= {*strategy.opens}


@pytest.mark.parametrize(
    ("strategy", "codec", "expected"), CASES, ids=[f"{strategy.kind}{i}" for i, (strategy, *_) in enumerate(CASES)]
)
@pytest.mark.usefixtures("_device")
def test_the_stage_and_the_settings_that_are_named_are_the_true_ones(indexes, queries, exact, strategy, codec, expected):
    index = indexes[codec]
    truth = Exhaustive().search(index, queries, N_DOCUMENTS)
    found, last_seen = losses(strategy, index, queries, exact), LastSeen()
    results = strategy.search(index, queries, K)
    named = {(loss.stage, loss.settings) for _, loss in found if loss.lost}
    assert expected <= named, named
    for finder, loss in found:
        document, q = loss.document_id, int(loss.query_id)
        in_ranking = document in [d for d, _ in results.top(q)]
        by_codes = [d for d, _ in truth.top(q)].index(document) + 1
        assert loss.coded_rank == by_codes
        assert loss.coded_score == dict(truth.top(q))[document]
        assert (loss.cause == FOUND) == in_ranking == (not loss.lost)
        own, stages = strategy.opens.get(loss.stage, ()), [*strategy.opens]
        later = [n for stage in stages[stages.index(loss.stage) + 1 :] for n in strategy.opens[stage]] if own else []
        if loss.cause in (FOUND, MISRANKED):
            assert loss.opened_by == ()
            assert (by_codes > K) == (loss.cause == MISRANKED) or loss.cause == FOUND
        else:
            assert loss.opened_by, "the settings that decide it are known"
            assert last_seen(finder, document, ()) == loss.stage
            assert last_seen(finder, document, {*later} - {*own}) == loss.stage
            for together in loss.opened_by:
                assert last_seen(finder, document, together) not in (UNSEEN, loss.stage)
                if len(together) > 1:
                    continue
                everything = last_seen(finder, document, {*together, *own, *later})
                assert by_codes > K or everything == "result"


@pytest.mark.parametrize(("strategy", "codec", "expected"), [case for case in CASES if UNSEEN in dict(case[2])])
@pytest.mark.usefixtures("_device")
def test_the_rank_of_its_nearest_cell_is_how_many_must_be_probed(indexes, queries, exact, strategy, codec, expected):
    name = strategy.opens[UNSEEN][0]
    if name not in ("ncells", "nprobe", "n_ivf_probe") or strategy.kind == "auto" or hasattr(strategy, "finder"):
        pytest.skip("it probes no cells, or more or others than its setting says")
    at: dict[int, list[LossFinder]] = {}
    for _, loss in losses(strategy, indexes[codec], queries, exact):
        for ncells in range(max(1, loss.cell_rank - 1), loss.cell_rank + 1):
            if ncells not in at:
                at[ncells] = finders(strategy.model_copy(update={name: ncells}), indexes[codec], queries)
            again = at[ncells][int(loss.query_id)].loss(loss.document_id)
            assert (again.stage == UNSEEN) == (ncells < loss.cell_rank)


def test_cells_of_a_document(indexes, queries):
    """Against scores by hand, over an index in several segments."""
    index = indexes["residual-4"]
    for position in (0, 31, N_DOCUMENTS - 1):
        (codes,) = (index.codec.encode(index.vectors_of([f"d{position}"]).values)["centroid_ids"],)
        assert len(cells_of(index, position)) == len(codes)
        cells, ranks = cell_ranks(index, queries.slice(0, 1), position)
        assert set(cells.tolist()) == set(cells_of(index, position).tolist())
        scores = queries[0] @ index.codec.centroids.T
        scores[:, index.empty_cells] = -np.inf
        assert np.array_equal(ranks, 1 + np.array([[(row > row[cell]).sum() for cell in cells] for row in scores]))
    with pytest.raises(ValueError, match="needs an index whose codec has centroids"):
        cell_ranks(indexes["exact"], queries.slice(0, 1), 0)


def test_scores_by_vectors_and_by_codes(indexes, queries, documents, exact):
    found = [loss for _, loss in losses(Exhaustive(), indexes["residual-1"], queries, exact)]
    by_hand = maxsim(queries, documents, backend="reference")
    for loss in found:
        truth = by_hand[int(loss.query_id), int(loss.document_id[1:])]
        assert loss.exact_score == pytest.approx(truth, abs=1e-4)
        assert loss.cause == (FOUND if loss.coded_rank <= K else MISRANKED)
    misranked = next(loss for loss in found if loss.lost)
    assert misranked.words().endswith(
        f"its score by the codes is {misranked.coded_score:.3f}, by exact vectors {misranked.exact_score:.3f}"
    )


def test_words(indexes, queries, exact):
    found = [loss for _, loss in losses(Plaid(ncells=1, ndocs=8, n_exact=6), indexes["residual-1"], queries, exact)]
    said = words(found)
    assert said.startswith(f"of {WANTED * len(queries)} documents, {sum(loss.lost for loss in found)} were lost: ")
    assert "not among the documents of stage 'candidates' (ncells)" in said
    assert sum(int(part.split()[0]) for part in said.split(": ", 1)[1].split(", ")) == sum(loss.lost for loss in found)
    assert words([]) == "of 0 documents, 0 were lost"
    cut = next(loss for loss in found if loss.stage == "interaction" and loss.lost)
    assert cut.words().endswith(f"where it stood at rank {cut.rank} of {cut.of}; n_exact would let it pass")
    unseen = next(loss for loss in found if loss.stage == UNSEEN)
    assert f"the nearest of its cells is number {unseen.cell_rank} of a query token's" in unseen.words()
