"""WARP's cells found through a graph: where the graph finds them all, nothing else changes, not a bit."""

import numpy as np
import pytest

from colbert_research.codecs import ResidualConfig, ResidualProductConfig
from colbert_research.index import build_index
from colbert_research.index.build import BuildConfig
from colbert_research.search import Trace, Warp, finders
from colbert_research.search.ann import HnswAnn
from colbert_research.search.cells import TokensByCell
from colbert_research.settings import ConfigError
from tests.search.conftest import N

K = 12
RULES = [{"kind": "none"}, {"kind": "constant", "value": 0.25}, {"kind": "mean"}, {"kind": "top_k", "k_tokens": 9}]
ALL = {"kind": "hnsw", "m": 4, "ef_search": K}


@pytest.fixture(scope="module", params=["residual", "rotated"])
def coded(request, collection, vectors, tmp_path_factory):
    codec = {
        "residual": ResidualConfig(nbits=4, centroids=K),
        "rotated": ResidualProductConfig(m=8, centroids=K, rotation="opq"),
    }
    build = BuildConfig(segment_tokens=120, chunk_tokens=50)
    return build_index(tmp_path_factory.mktemp("found") / "index", collection, vectors, codec[request.param], build=build)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["kind"])
@pytest.mark.parametrize("nprobe", [1, 4, K])
def test_cells_that_are_found_are_scored_as_ever(coded, queries, rule, nprobe):
    exact, found = (Warp(nprobe=nprobe, imputation=rule, exact_subset=3, finder=finder) for finder in ("exact", ALL))
    for subset in (None, [f"d{i}" for i in range(0, N, 3)]):
        traces = Trace(), Trace()
        one, other = (
            strategy.search(coded, queries, 10, subset=subset, trace=trace)
            for strategy, trace in zip((exact, found), traces, strict=True)
        )
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.scores, other.scores)
        assert traces[0].work() == traces[1].work()


def test_a_cell_that_is_not_found_is_not_probed(coded, queries, monkeypatch):
    monkeypatch.setattr(
        "colbert_research.search.warp.found_cells", lambda index, finder, query, n: np.array([[3, -1, 5]] * len(query))
    )
    trace = Trace()
    Warp(nprobe=3, imputation="mean", finder=ALL).search(coded, queries, 5, trace=trace)
    sizes = sum(cells.sizes for cells in coded.structure(TokensByCell()))
    assert trace.work()["probe"]["centroids"] == 2 * len(queries)
    assert trace.work()["scan"]["tokens"] == (sizes[3] + sizes[5]) * len(queries)


def test_some_cells_alone(coded):
    cells = coded.structure(TokensByCell())[1]
    some, none = cells.only(np.array([5, 0, 9])), cells.only(np.array([], np.int64))
    starts = cells.tokens.offsets
    rows = np.concatenate([np.arange(starts[c], starts[c + 1]) for c in (5, 0, 9)])
    assert some.sizes.tolist() == cells.sizes[[5, 0, 9]].tolist()
    assert np.array_equal(some.documents, cells.documents[rows])
    assert np.array_equal(some.tokens.decode(), cells.tokens.decode()[rows])
    assert len(none.documents) == len(none.sizes) == 0


def test_the_same_centroids_give_the_same_graph(coded):
    graph = finders.neighbours_of(HnswAnn(m=4))
    assert np.array_equal(graph.build(coded.codec)["faiss"], graph.build(coded.codec)["faiss"])


def test_settings_that_do_not_fit(coded, queries):
    with pytest.raises(ValueError, match="warpselect needs the scores of all centroids"):
        Warp(finder="hnsw")
    with pytest.raises(ValueError, match="ef_search=4 is less than the 5"):
        Warp(nprobe=5, imputation="mean", finder={"kind": "hnsw", "ef_search": 4}).search(coded, queries, 3)
    with pytest.raises((ValueError, ConfigError), match="unknown finder kind 'hnws'"):
        Warp(finder="hnws")
