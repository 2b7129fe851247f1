"""The contract of engines: on the host and on a device, resident or streamed, each step gives and counts the same."""

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.codecs import CentroidConfig, ResidualConfig
from colbert_research.data import Collection
from colbert_research.index import Index, Scope, build_index
from colbert_research.index.build import BuildConfig
from colbert_research.kernels.cuda.arrays import to_numpy
from colbert_research.ragged import Ragged
from colbert_research.search import Trace
from colbert_research.search.device_copy import copy_of
from colbert_research.search.exhaustive import best_of_all
from colbert_research.search.on_device import DeviceEngine
from colbert_research.search.on_host import HostEngine
from tests.conftest import random_ragged

N, DIM, K = 30, 16, 8
CODECS = {"residual": ResidualConfig(nbits=2, centroids=K), "centroid": CentroidConfig(centroids=K)}
LITTLE = {"residual": 1e-6, "centroid": 2e-7}  # a few documents at a time
SCOPES = {
    "all": Scope.all(N),
    "every": Scope.of(np.arange(N), N),
    "some": Scope.of(np.arange(1, N, 3), N),
    "last": Scope.of(np.array([N - 1]), N),
}


@pytest.fixture(scope="module", params=sorted(CODECS))
def index(request, tmp_path_factory) -> Index:
    """Documents of 0 to 11 tokens, in several segments."""
    rng = np.random.default_rng(8)
    lengths = rng.integers(1, 12, N)
    lengths[[0, 14, N - 1]] = 0
    collection = Collection.from_texts([f"text {i}" for i in range(N)])
    vectors, build = random_ragged(rng, lengths, DIM), BuildConfig(segment_tokens=60, chunk_tokens=16)
    return build_index(tmp_path_factory.mktemp("engines") / "index", collection, vectors, CODECS[request.param], build=build)


@pytest.fixture(scope="module")
def queries() -> Ragged:
    return random_ragged(np.random.default_rng(9), [5, 1, 9], DIM)


@pytest.fixture(params=["host", "cuda_resident"])
def engine(request, index, _device):
    """An engine on which all steps can be taken."""
    return HostEngine(index) if request.param == "host" else DeviceEngine(copy_of(index, None))


@pytest.fixture(params=["host", "cuda_resident", "cuda_streamed"])
def scoring(request, index, _device):
    """An engine that scores all documents."""
    if request.param == "host":
        return HostEngine(index)
    streamed = request.param == "cuda_streamed"
    there = copy_of(index, LITTLE[index.codec.config.kind] if streamed else None)
    assert len(there.shards) > 2 if streamed else len(there.shards) == 1
    return DeviceEngine(there)


def centroid_ids(index: Index) -> Ragged:
    return Ragged.concat([segment.centroid_ids for segment in index.segments])


def maxsim(index: Index, queries: Ragged) -> np.ndarray:
    return np.hstack([index.codec.maxsim(queries, s.codes, s.offsets) for s in index.segments])


def positions_of(engine, documents) -> np.ndarray:
    """The positions of documents that an engine holds, ascending."""
    return documents if isinstance(documents, np.ndarray) else to_numpy(documents.local) + documents.shard.start


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_all_documents_are_scored_once(index, scoring, queries, scope):
    truth, trace, chosen = maxsim(index, queries), Trace(), SCOPES[scope].positions
    for k in (1, 5, N + 1):
        found = best_of_all(scoring, queries, k, SCOPES[scope], trace, stage="score")
        for row, (positions, scores) in zip(truth, found, strict=True):
            expected = chosen[kernels.topk(row[chosen], k)]
            assert np.array_equal(positions, expected)
            assert np.array_equal(scores, row[expected])
    tokens = 3 * len(queries) * int(centroid_ids(index).lengths[chosen].sum())
    work = {"centroids": 0, "documents": 3 * len(queries) * len(chosen), "tokens": tokens}
    assert trace.work()["score"] == work | {"bytes": tokens * index.bytes_per_token}


def test_the_nearest_cells(index, engine, queries):
    for query in queries:
        products = engine.products(query)
        expected = kernels.dot_products(query, index.codec.centroids)
        assert np.array_equal(to_numpy(products), expected)
        assert np.array_equal(engine.highest(products), expected.max(axis=0))
        for n in (1, 3, K):
            nearest = np.argsort(-expected, axis=1, kind="stable")[:, :n]
            assert np.array_equal(engine.cells(products, n), np.unique(nearest))


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_candidates(index, engine, scope):
    documents = [set(ids.tolist()) for ids in centroid_ids(index)]
    for cells in ([], [2], [0, 3, 7], list(range(K))):
        found = engine.candidates(np.array(cells, np.int64), SCOPES[scope])
        expected = [i for i in SCOPES[scope].positions if documents[i] & set(cells)]
        assert len(found) == len(expected)
        assert positions_of(engine, found).tolist() == expected


@pytest.mark.parametrize("kept", [None, np.arange(K) % 3 == 0], ids=["all centroids", "some centroids"])
@pytest.mark.parametrize("scope", ["all", "some"])
def test_interaction_narrows_what_is_scored(index, engine, queries, scope, kept):
    cells, trace, ids = np.array([0, 2, 5], np.int64), Trace(), centroid_ids(index)
    for i, query in enumerate(queries):
        products, documents = engine.products(query), engine.candidates(cells, SCOPES[scope])
        before = positions_of(engine, documents)
        scores = engine.interaction(products, documents, trace, stage="interaction", kept=kept)
        row = kernels.centroid_interaction(kernels.dot_products(query, index.codec.centroids), ids, kept=kept, only=before)
        for size in (1, 4, N):
            narrowed = engine.narrow(documents, scores, size)
            after = before[kernels.among_best(row, size)]
            assert np.array_equal(positions_of(engine, narrowed), after)
        one = queries.slice(i, i + 1)
        ((positions, final),) = engine.best(narrowed, engine.score(one, narrowed, trace, stage="exact"), 3)
        truth = maxsim(index, one)[0][after]
        assert np.array_equal(positions, after[kernels.topk(truth, 3)])
        assert np.array_equal(final, truth[kernels.topk(truth, 3)])
    tokens, size = len(queries) * int(ids.lengths[before].sum()), index.codec.layout["centroid_ids"][0].itemsize
    counts = {"centroids": 0, "documents": len(queries) * len(before), "tokens": tokens, "bytes": tokens * size}
    assert trace.work()["interaction"] == counts
