"""Search on a CUDA device against the processor's: the same rankings, resident or streamed, on arrays of any framework."""

import gc
import weakref

import numpy as np
import pytest

from colbert_research.codecs import CentroidConfig, ExactConfig, ProductConfig, ResidualConfig, ScalarConfig
from colbert_research.data import Collection
from colbert_research.index import Index, build_index
from colbert_research.index.build import BuildConfig
from colbert_research.kernels.cuda import launch
from colbert_research.kernels.cuda.arrays import Place, to_numpy
from colbert_research.kernels.cuda.topk import BINS
from colbert_research.search import CudaExhaustive, CudaPlaid, Exhaustive, Plaid, Trace, device_copy, on_device
from colbert_research.search.device_copy import copy_of
from colbert_research.search.found import NOTHING
from colbert_research.search.on_device import DeviceEngine
from colbert_research.search.probe import nearest_cells
from tests.conftest import random_ragged
from tests.kernels.conftest import HAS_GPU
from tests.kernels.conftest import device as device

N, DIM = 50, 32
CODES = {"residual": ResidualConfig(nbits=4, centroids=16), "centroid": CentroidConfig(centroids=16), "scalar": ScalarConfig()}
KNOBS = [
    {"ncells": 2, "ndocs": 30, "n_exact": 12},
    {"ncells": 5, "ndocs": 25, "n_exact": 11, "centroid_score_threshold": {"quantile": 0.6}},
    {"ncells": 5, "ndocs": 25, "n_exact": 11, "cell_score_threshold": {"value": 0.1}},
    {"ncells": 16, "ndocs": 50, "n_exact": 50},
]


def built(path, codec, *, dim=DIM, segment_tokens=150) -> Index:
    """Documents of 0 to 19 tokens; in several segments."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 20, N)
    lengths[[0, 17, 49]] = 0
    collection = Collection.from_texts([f"text {i}" for i in range(N)], ids=[f"d{i}" for i in range(N)])
    build = BuildConfig(segment_tokens=segment_tokens, chunk_tokens=64)
    return build_index(path, collection, random_ragged(rng, lengths, dim), codec, build=build)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuda_search")
    for name, codec in CODES.items():
        built(folder / name, codec)
    return folder


@pytest.fixture
def index(folders):
    return Index.open(folders / "residual")


@pytest.fixture(scope="module")
def queries():
    return random_ragged(np.random.default_rng(4), [4, 1, 35, 6], DIM)


@pytest.fixture
def computing(device):
    with device():
        yield


def same(found, expected) -> None:
    assert np.array_equal(found.positions, expected.positions)
    assert np.array_equal(found.offsets, expected.offsets)
    assert np.array_equal(found.scores, expected.scores)


SUBSETS = [None, ["d3"], ["d49", "d48", "d2"], [f"d{i}" for i in range(0, N, 3)], ["d0", "d17"]]


@pytest.mark.usefixtures("computing")
class TestExhaustive:
    @pytest.mark.parametrize("subset", SUBSETS)
    @pytest.mark.parametrize("name", sorted(CODES))
    def test_shards_change_nothing(self, folders, queries, name, subset):
        index, little = Index.open(folders / name), 1e-6 if name == "centroid" else 5e-6
        for k in (1, 7, 1000):
            expected = Exhaustive().search(index, queries, k, subset=subset)
            for memory_gb in (None, 1.0, little):
                same(CudaExhaustive(memory_gb=memory_gb).search(index, queries, k, subset=subset), expected)
        shards = copy_of(index, little).shards
        assert shards.resident is None
        assert len(shards) > 2

    def test_work_is_counted_as_on_the_processor(self, index, queries):
        for subset in (None, ["d4", "d9", "d30"]):
            counted = Trace()
            Exhaustive().search(index, queries, 5, subset=subset, trace=counted)
            for memory_gb in (None, 5e-6):
                trace = Trace()
                CudaExhaustive(memory_gb=memory_gb).search(index, queries, 5, subset=subset, trace=trace)
                assert trace.work()["score"] == counted.work()["score"]

    def test_after_an_error_amid_the_shards(self, index, queries, monkeypatch):
        """Its buffers are free again, also while somebody keeps the traceback."""
        calls = iter([NOTHING] * 3)
        with monkeypatch.context() as patched, pytest.raises(StopIteration) as kept:
            patched.setattr(DeviceEngine, "best", lambda _, __, scores, k: [next(calls) for _ in scores.values])
            CudaExhaustive(memory_gb=5e-6).search(index, queries, 3)
        same(CudaExhaustive(memory_gb=5e-6).search(index, queries, 3), Exhaustive().search(index, queries, 3))
        assert kept.traceback

    def test_more_than_the_device_chooses(self, index, queries, monkeypatch):
        monkeypatch.setattr(on_device, "CHOSEN_THERE", 4)
        same(CudaExhaustive().search(index, queries, 9), Exhaustive().search(index, queries, 9))
        for knobs in KNOBS:
            same(CudaPlaid(**knobs).search(index, queries, 9), Plaid(**knobs).search(index, queries, 9))

    def test_queries_come_in_blocks(self, index, queries, monkeypatch):
        monkeypatch.setattr(device_copy, "SCORES_HELD", 2 * BINS + 1)  # a query has more counts than scores
        blocks, score = [], DeviceEngine.score
        monkeypatch.setattr(DeviceEngine, "score", lambda *a, **b: blocks.append(len(a[1])) or score(*a, **b))
        same(CudaExhaustive().search(index, queries, 9), Exhaustive().search(index, queries, 9))
        assert blocks == [2, 2]

    def test_centroid_scores_in_float16(self, index, queries):
        """Other scores, within the bound that `maxsim_codes` states; float32's rounding is far below its slack."""
        found, expected = (CudaExhaustive(centroid_scores=kind).search(index, queries, N) for kind in ("float16", "float32"))
        assert not np.array_equal(found.scores, expected.scores)
        tokens = copy_of(index, None).shards.resident.tokens
        table, norm = tokens.table, to_numpy(tokens.inverse_norms).max()
        rows = table.centroids + table.scales * table.levels.min()
        for i, query in enumerate(queries.map(index.codec.rotated)):
            own, others = dict(found.top(i)), dict(expected.top(i))
            assert set(own) == set(others)
            bound = 2**-11 * np.abs(query @ rows.T).max(axis=1).sum() * norm
            assert max(abs(own[name] - others[name]) for name in own) <= bound

    def test_float16_centroid_scores_of_codes_that_have_none(self, folders, queries):
        with pytest.raises(
            ValueError, match=r"search.centroid_scores=float16 is for codes .* those of CentroidCodec have none"
        ):
            CudaExhaustive(centroid_scores="float16").search(Index.open(folders / "centroid"), queries, 3)

    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    @pytest.mark.parametrize("dim", [24, 48])
    def test_exact_vectors(self, tmp_path, dtype, dim):
        """Widths that are no multiple of 16 as well; shards change no bit, and scores are near the processor's."""
        index = built(tmp_path / "exact", ExactConfig(dtype=dtype), dim=dim)
        asked = random_ragged(np.random.default_rng(5), [4, 3], dim)
        rounded = asked.map(lambda values: values.astype(dtype).astype(np.float32))
        expected = Exhaustive().search(index, rounded, N)
        resident = CudaExhaustive().search(index, asked, N)
        same(CudaExhaustive(memory_gb=2e-5).search(index, asked, N), resident)
        assert len(copy_of(index, 2e-5).shards) > 3
        bound = 4 * (3 * dim + 6) * 2.0**-23 + 4 * dim * 2.0**-23  # of dense.py, and of sums in float32
        found, truth = ({(q, d): s for q in range(2) for d, s in ranking.top(q)} for ranking in (resident, expected))
        assert found.keys() == truth.keys()
        assert max(abs(found[pair] - truth[pair]) for pair in found) <= bound

    def test_product_codes(self, tmp_path, queries):
        index = built(tmp_path / "product", ProductConfig(m=8))
        for memory_gb in (None, 3e-6):
            same(CudaExhaustive(memory_gb=memory_gb).search(index, queries, 9), Exhaustive().search(index, queries, 9))

    def test_a_document_that_does_not_fit_twice(self, index, queries):
        longest = max(int(np.diff(segment.offsets).max()) for segment in index.segments)
        # codes of 2 + 16 + 2 bytes, twice, in three quarters of the memory
        least = 2 * longest * 20 / 0.75 / 1e9
        with pytest.raises(ValueError, match=f"a document of {longest} tokens.*raise search.memory_gb to at least {least:.3g}"):
            CudaExhaustive(memory_gb=0.9 * least).search(index, queries, 5)
        same(CudaExhaustive(memory_gb=1.01 * least).search(index, queries, 5), Exhaustive().search(index, queries, 5))


@pytest.mark.usefixtures("computing")
class TestPlaid:
    @pytest.mark.parametrize("subset", SUBSETS)
    @pytest.mark.parametrize("knobs", KNOBS)
    @pytest.mark.parametrize("name", ["residual", "centroid"])
    def test_it_finds_and_counts_what_plaid_does(self, folders, queries, name, knobs, subset):
        index, counted, trace = Index.open(folders / name), Trace(), Trace()
        expected = Plaid(**knobs).search(index, queries, 10, subset=subset, trace=counted)
        same(CudaPlaid(**knobs).search(index, queries, 10, subset=subset, trace=trace), expected)
        assert trace.work() == counted.work()

    def test_cells_that_no_document_is_in(self, index, queries):
        knobs = {"cell_score_threshold": {"value": 9.0}, "ncells": 2}
        assert len(Plaid(**knobs).search(index, queries, 5).positions) == 0
        assert len(CudaPlaid(**knobs).search(index, queries, 5).positions) == 0

    def test_it_does_not_stream(self, index, queries):
        with pytest.raises(
            ValueError, match=r"do not fit into search.memory_gb=5e-06; raise it, or choose search.kind=cuda_exh"
        ):
            CudaPlaid(ncells=2, memory_gb=5e-6).search(index, queries, 5)

    def test_it_asks_before_it_copies(self, index, queries):
        for streamed_before in (False, True):
            if streamed_before:
                CudaExhaustive(memory_gb=5e-6).search(index, queries, 5)
            with pytest.raises(ValueError, match="do not fit into"):
                CudaPlaid(ncells=2, memory_gb=5e-6).search(index, queries, 5)
            assert (index in device_copy._copies) == streamed_before

    def test_lists_of_all_segments(self, index):
        assert len(index.segments) > 2
        lists = copy_of(index, None).inverted
        for centroid in range(16):
            expected = [s.inverted.documents_of(np.array([centroid]), len(s)) for s in index.segments]
            expected = np.concatenate([start + found for start, found in zip(index.starts, expected, strict=False)])
            assert np.array_equal(to_numpy(lists[centroid]), expected)


@pytest.mark.usefixtures("computing")
class TestTheCopy:
    def test_it_is_made_once_and_freed_with_the_index(self, folders, queries):
        index = Index.open(folders / "residual")
        CudaExhaustive().search(index, queries, 3)
        CudaPlaid(ncells=2).search(index, queries, 3)
        there = copy_of(index, None)
        assert copy_of(index, None) is there
        gone = weakref.ref(there), weakref.ref(there.shards.resident)
        del there, index
        gc.collect()
        assert [ref() for ref in gone] == [None, None]

    def test_another_limit_makes_another(self, index):
        first = weakref.ref(copy_of(index, None))
        second = copy_of(index, 5e-6)
        gc.collect()
        assert first() is None
        assert second.shards.resident is None

    def test_nothing_for_no_queries(self, index, queries):
        assert len(CudaExhaustive().search(index, queries.slice(0, 0), 5)) == 0
        assert index not in device_copy._copies

    def test_a_codec_without_a_kernel(self, folders, queries, monkeypatch):
        index = Index.open(folders / "scalar")
        own = type("OwnCodec", (), {"layout": index.codec.layout, "centroids": None, "dim": DIM})()
        other = Index(index.path, index.manifest, own, index.contents)
        with pytest.raises(ValueError, match=r"no CUDA kernel scores the codes of OwnCodec; choose search.kind=exhaustive"):
            CudaExhaustive().search(other, queries, 5)


@pytest.mark.skipif(HAS_GPU, reason="where there is a GPU, both frameworks are on it")
def test_arrays_of_torch(index, queries, device, monkeypatch):
    monkeypatch.setattr(device_copy, "home", lambda given: Place("torch", None))
    with device():
        for memory_gb in (None, 5e-6):
            found = CudaExhaustive(memory_gb=memory_gb).search(index, queries, 9, subset=[f"d{i}" for i in range(5, 40)])
            same(found, Exhaustive().search(index, queries, 9, subset=[f"d{i}" for i in range(5, 40)]))
            assert copy_of(index, memory_gb).place.framework == "torch"
        for knobs in KNOBS:
            same(CudaPlaid(**knobs).search(index, queries, 9), Plaid(**knobs).search(index, queries, 9))


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_cells_that_no_document_is_in_are_not_probed(index, queries, device, monkeypatch, framework):
    if not HAS_GPU:
        monkeypatch.setattr(device_copy, "home", lambda given: Place(framework, None))
    with device():
        engine = DeviceEngine(copy_of(index, None))
        engine.there.empty_cells = np.array([2, 3, 11])
        for query in queries:
            products = engine.products(query)
            before = to_numpy(products)
            for n in (1, 4, 15):
                nearest = nearest_cells(before, n, engine.there.empty_cells)
                assert np.array_equal(engine.cells(products, n), np.unique(nearest[nearest >= 0]))
            assert np.array_equal(to_numpy(products), before)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device, torch for CUDA, and CuPy")
def test_more_than_the_buffers_hold_on_a_gpu(tmp_path, queries):
    """Shards of some megabytes, so that copies do run beside work; ten times the same ranking."""
    rng = np.random.default_rng(6)
    lengths = rng.integers(1, 200, 5_000)
    collection = Collection.from_texts([f"text {i}" for i in range(len(lengths))])
    index = build_index(tmp_path / "large", collection, random_ragged(rng, lengths, DIM), ScalarConfig(bits=8))
    expected = Exhaustive().search(index, queries, 100)
    same(CudaExhaustive().search(index, queries, 100), expected)
    for _ in range(10):
        same(CudaExhaustive(memory_gb=0.006).search(index, queries, 100), expected)
    assert len(copy_of(index, 0.006).shards) > 5


@pytest.mark.skipif(HAS_GPU, reason="there is a device here")
@pytest.mark.parametrize(("strategy", "instead"), [(CudaExhaustive(), "exhaustive"), (CudaPlaid(ncells=2), "plaid")])
def test_no_device(index, queries, strategy, instead, monkeypatch):
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=f"search.kind={strategy.kind} searches on a CUDA device, and here CuPy is not inst"):
        strategy.search(index, queries, 5)
    monkeypatch.setattr(launch, "find_spec", lambda name: name)
    monkeypatch.setattr(launch, "gpu_is_here", lambda: False)
    message = rf"here CuPy finds no CUDA device; choose search.kind={instead}, or pip install 'colbert-research\[cuda13\]'"
    with pytest.raises(RuntimeError, match=message):
        strategy.search(index, queries, 5)
