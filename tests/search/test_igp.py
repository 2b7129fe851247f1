"""IGP's candidates beside a plain transcription of the authors' loops, with deleted documents and over several segments."""

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.codecs import CentroidConfig, ExactConfig, ResidualConfig, ResidualProductConfig
from colbert_research.data import Collection
from colbert_research.index import Index, build_index
from colbert_research.index.build import BuildConfig
from colbert_research.ragged import Ragged
from colbert_research.search import Queries, Rerank
from colbert_research.search.first_stages import IgpStage
from tests.search.conftest import EPS, N

K = 12
GRAPH = {"kind": "hnsw", "m": 4, "ef_search": K}
NARROW = {"kind": "hnsw", "m": 4, "ef_search": 1}
CODECS = {
    "residual": ResidualConfig(nbits=4, centroids=K),
    "rotated": ResidualProductConfig(m=8, centroids=K, rotation="opq"),
    "centroid": CentroidConfig(centroids=K),
}


@pytest.fixture(scope="module", params=CODECS)
def index(request, collection, vectors, tmp_path_factory) -> Index:
    """In several segments, every seventh document deleted."""
    path = tmp_path_factory.mktemp("igp") / "index"
    build = BuildConfig(segment_tokens=120, chunk_tokens=50)
    built = build_index(path, collection, vectors, CODECS[request.param], build=build)
    return built.delete([f"d{i}" for i in range(0, N, 7)])


def lists_of(index: Index) -> list[set[int]]:
    """The positions of live documents in each cluster."""
    lists: list[set[int]] = [set() for _ in range(K)]
    for start, segment in zip(index.starts, index.segments, strict=False):
        for i in range(len(segment)):
            if start + i in index.scope().positions:
                for centroid in segment.centroid_ids[i].tolist():
                    lists[centroid].add(int(start) + i)
    return lists


def by_hand(index: Index, query: np.ndarray, nprobe: int) -> dict[int, float]:
    """One cluster after the other for each query token, until as many entries were read as `nprobe` lists have on average."""
    lists, products = lists_of(index), query @ index.codec.centroids.T
    enough = nprobe * sum(map(len, lists)) // K
    scores: dict[int, float] = {}
    for token in products:
        read, visited = 0, set()
        for cluster in np.argsort(-token, kind="stable"):
            if read >= enough:
                break
            read += len(lists[cluster])
            for document in lists[cluster] - visited:
                scores[document] = scores.get(document, 0.0) + float(token[cluster]) + 1
            visited |= lists[cluster]
    return scores


@pytest.mark.parametrize("nprobe", [1, 2, 5, K])
def test_the_authors_loops(index, queries, nprobe):
    asked = Queries.of(queries, None, None, dim=index.dim)
    for q, (positions, scores) in enumerate(IgpStage(nprobe=nprobe).scores(index, asked)):
        expected = by_hand(index, queries[q], nprobe)
        live = np.isin(positions, index.scope().positions)
        assert positions[live].tolist() == sorted(expected)
        bound = EPS * 4 * len(queries[q]) * index.dim
        assert np.allclose(scores[live], [expected[p] for p in sorted(expected)], rtol=0, atol=bound)


def test_every_cluster_opened_is_the_centroid_interaction(index, queries):
    asked = Queries.of(queries, None, None, dim=index.dim)
    for q, (positions, scores) in enumerate(IgpStage(nprobe=K).scores(index, asked)):
        products = kernels.dot_products(queries[q], index.codec.centroids)
        for position, score in zip(positions.tolist(), scores.tolist(), strict=True):
            segment = int(np.searchsorted(index.starts, position, side="right")) - 1
            ids = index.segments[segment].centroid_ids[position - int(index.starts[segment])]
            assert score == pytest.approx(products[:, ids].max(axis=1).sum() + len(products), abs=EPS * 8 * len(products))


@pytest.mark.parametrize("nprobe", [1, 3, K])
def test_a_graph_that_finds_all_changes_nothing(index, queries, nprobe):
    if index.codec.config.kind == "centroid":
        pytest.skip("its centroids have no graph")
    asked = Queries.of(queries, None, None, dim=index.dim)
    both = [IgpStage(nprobe=nprobe, finder=finder).scores(index, asked) for finder in ("exact", GRAPH)]
    for (positions, scores), (others, theirs) in zip(*both, strict=True):
        assert np.array_equal(positions, others)
        assert np.array_equal(scores, theirs)


def test_a_narrow_walk_begins_again_until_enough_was_read(index, queries):
    """It would find one or two clusters, of which all lists are read in the end."""
    if index.codec.config.kind == "centroid":
        pytest.skip("its centroids have no graph")
    asked = Queries.of(queries, None, None, dim=index.dim)
    for positions, _ in IgpStage(nprobe=K, finder=NARROW).scores(index, asked):
        assert set(index.scope().positions) <= set(positions.tolist())


def test_few_documents_among_many_empty_clusters(tmp_path):
    """A narrow walk meets none of those that have documents, unless it passes through all."""
    rng = np.random.default_rng(3)
    values = rng.standard_normal((600, 16)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    collection = Collection.from_texts(["text"] * 200, ids=[f"d{i}" for i in range(200)])
    build = build_index(
        tmp_path / "index", collection, Ragged(values, np.arange(0, 601, 3)), ResidualConfig(nbits=2, centroids=64)
    )
    left = build.delete([f"d{i}" for i in range(2, 200)])
    asked = Queries.of(Ragged(values[100:140], np.arange(41)), None, None, dim=16)
    for positions, scores in IgpStage(nprobe=64, finder=NARROW).scores(left, asked):
        assert set(positions.tolist()) >= {0, 1} and (scores > 0).all()
    none = left.delete(["d0", "d1"])
    assert all(not len(positions) for positions, _ in IgpStage().scores(none, asked))


def test_more_is_read_for_more(index, queries):
    asked = Queries.of(queries, None, None, dim=index.dim)
    found = [[len(positions) for positions, _ in IgpStage(nprobe=n).scores(index, asked)] for n in (1, 3, 6)]
    assert found == sorted(found) and found[0] != found[2]


def test_what_it_cannot_search(collection, vectors, queries, tmp_path):
    exact = build_index(tmp_path / "exact", collection, vectors, ExactConfig())
    with pytest.raises(ValueError, match="first_stage=igp needs an index whose codec has centroids"):
        Rerank(first_stage="igp", depth=5).search(exact, queries, 3)
    bare = build_index(tmp_path / "bare", collection, vectors, CentroidConfig(centroids=K))
    with pytest.raises(ValueError, match="first_stage=igp with finder=hnsw needs an index whose codec has centroids and codes"):
        Rerank(first_stage={"kind": "igp", "finder": "hnsw"}, depth=5).search(bare, queries, 3)
