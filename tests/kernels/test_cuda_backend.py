"""The backend cuda behind `kernels`: NumPy and torch in, the same out, results those of the reference or of the backend cpu.

Emulated, first thread first and last thread first; the same tests run on a GPU where there is one.
"""

from dataclasses import replace
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from colbert_research import kernels
from colbert_research.kernels import cuda_backend
from colbert_research.kernels.cuda import codes, dense, interaction, products, topk
from colbert_research.kernels.cuda.arrays import to_numpy
from colbert_research.ragged import Ragged, offsets_of
from tests.kernels.conftest import HAS_GPU
from tests.kernels.cuda_arenas import arena_of
from tests.kernels.cuda_codes_cases import coded, scores_of_documents

LENGTHS = [7, 0, 1, 33, 3]
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


arena = arena_of([kernel for module in (codes, dense, interaction, products, topk) for kernel in module.KERNELS])


@pytest.fixture(params=["numpy", "torch", *([pytest.param("cupy", marks=pytest.mark.gpu)] if HAS_GPU else [])])
def given(request, arena):
    """What turns a NumPy array into the kind that is tested; results are held to be of that kind, and there."""
    if request.param == "cupy":
        if arena._device is None:
            pytest.skip("arrays of CuPy lie on a GPU")
        return pytest.importorskip("cupy").asarray
    return (lambda array: array) if request.param == "numpy" else arena.tensor


def numpy_of(result, like) -> np.ndarray:
    assert type(result) is type(like)
    if isinstance(result, np.ndarray):
        return result
    assert result.device == like.device
    return to_numpy(result)


@pytest.mark.parametrize(("n_centroids", "ids"), [(0, np.int32), (11, np.int32), (11, np.uint16), (11, np.int64)])
def test_codes(arena, given, n_centroids, ids):
    tokens = coded("residual", 2, 128, n_centroids, LENGTHS, seed=2)
    queries = [np.random.default_rng(n).standard_normal((n, 128)).astype(np.float32) for n in (40, 0, 3)]
    expected = np.stack([scores_of_documents(query, tokens) for query in queries])
    packed = Ragged(given(np.concatenate(queries)), offsets_of([40, 0, 3]))
    stored = replace(
        tokens,
        codes=given(tokens.codes),
        centroid_ids=given(tokens.centroid_ids.astype(ids)) if n_centroids else None,
        inverse_norms=given(tokens.inverse_norms),
    )
    with arena:
        scores = kernels.maxsim_codes(packed, stored, backend="cuda")
        some = kernels.maxsim_codes(packed, stored, only=np.array([4, 0]), backend="cuda")
        near = cuda_backend.maxsim_codes(packed, stored, centroid_scores="float16")
    assert np.array_equal(numpy_of(scores, stored.codes), expected)
    assert np.array_equal(numpy_of(some, stored.codes), expected[:, [4, 0]])
    assert not np.array_equal(numpy_of(near, stored.codes), expected)


def test_interaction(arena, given):
    rng = np.random.default_rng(0)
    scores = rng.uniform(-1, 1, (20, 50)).astype(np.float32)
    tokens = Ragged(rng.integers(0, 50, sum(LENGTHS)).astype(np.int32), offsets_of(LENGTHS))
    kept = np.ones(50, np.bool_)
    expected = kernels.centroid_interaction(scores, tokens, backend="reference")
    stored = tokens.map(given)
    with arena:
        found = kernels.centroid_interaction(given(scores), stored, kept=given(kept), backend="cuda")
        some = kernels.centroid_interaction(given(scores), stored, only=np.array([3, 1]), backend="cuda")
    found = numpy_of(found, stored.values)
    assert np.array_equal(np.isinf(found), np.isinf(expected))
    finite = np.isfinite(expected)
    half_a_unit = float(np.ptp(scores)) / 508  # for each query token, and float32 roundings of sums below 20
    assert np.all(np.abs(found[finite] - expected[finite]) <= 20 * half_a_unit + 20 * 2**-23)
    assert np.array_equal(numpy_of(some, stored.values), found[[3, 1]])


def test_best_and_greatest(arena, given, monkeypatch):
    scores = np.random.default_rng(0).integers(0, 30, (4, 500)).astype(np.float32)
    scores[:, ::3] = -np.inf
    there = given(scores)
    monkeypatch.setattr(kernels, "_on_device", lambda _: True)  # `topk` has no argument for it
    with arena:
        best = numpy_of(kernels.topk(there[0], 20), there)
        everything = numpy_of(kernels.topk(there[0], 500), there)
        greatest = numpy_of(kernels.greatest(there, 7), there)
        with pytest.raises(ValueError, match="not numbers"):
            kernels.topk(given(np.array([1, np.nan], np.float32)), 1)
    monkeypatch.undo()
    assert best.tolist() == kernels.topk(scores[0], 20).tolist()
    assert everything.tolist() == kernels.topk(scores[0], 500).tolist()
    assert greatest.tolist() == kernels.greatest(scores, 7, backend="reference").tolist()


def test_candidates(arena, given):
    """The documents of the cells that are nearest to any query token: three operations, one after the other."""
    rng = np.random.default_rng(0)
    query, centroids = (rng.integers(-4, 5, shape).astype(np.float32) for shape in ((6, 32), (70, 32)))
    lengths = rng.integers(0, 9, 70).tolist()
    lists = Ragged(rng.integers(0, 200, sum(lengths)).astype(np.int32), offsets_of(lengths))

    def candidates(query, centroids, lists, backend):
        scores = kernels.dot_products(query, centroids, backend=backend)
        cells = kernels.greatest(scores, 4, backend=backend)
        return kernels.union(lists, cells.reshape(-1), 200, backend=backend)

    expected = candidates(query, centroids, lists, "reference")
    stored = lists.map(given)
    with arena:
        found = candidates(given(query), given(centroids), stored, "cuda")
        ids = kernels.assign(given(query), given(centroids), backend="cuda")
    assert numpy_of(found, stored.values).tolist() == expected.tolist()
    assert numpy_of(ids, stored.values).tolist() == kernels.assign(query, centroids, backend="reference").tolist()


class TestUnion:
    @few
    @hypothesis.given(lists=st.lists(st.lists(st.integers(0, 99), max_size=30), max_size=8), data=st.data())
    def test_sets(self, arena, given, lists, data):
        """In pieces of any size, that end within lists and between them."""
        chosen = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=12)) if lists else []
        packed = Ragged(np.array([d for documents in lists for d in documents], np.int32), offsets_of([len(d) for d in lists]))
        stored, asked = packed.map(given), given(np.array(chosen, np.int64))
        with pytest.MonkeyPatch.context() as patch, arena:
            patch.setattr(cuda_backend, "PIECE", data.draw(st.integers(1, 40)))
            found = numpy_of(cuda_backend.union(stored, asked, 100), stored.values)
        assert found.dtype == np.int64
        assert found.tolist() == sorted({d for i in chosen for d in lists[i]})

    def test_what_there_is_not_is_left_out(self, arena, given):
        lists = Ragged(np.array([3, -1, 99, 5, 8, 2**31 - 1, -(2**31), 7, 0], np.int32), offsets_of([3, 4, 0, 2])).map(given)
        with arena:
            found = cuda_backend.union(lists, given(np.array([-1, 0, 1, 2, 3, 4, 2**62])), 8)
        assert numpy_of(found, lists.values).tolist() == [0, 3, 5, 7]

    @pytest.mark.parametrize("kind", [np.int64, np.uint16])
    def test_documents_of_another_type(self, rng, arena, given, kind):
        lists = Ragged(rng.integers(0, 300, 60).astype(kind), offsets_of([20, 40])).map(given)
        with arena:
            found = cuda_backend.union(lists, np.array([1]), 300)
        assert numpy_of(found, lists.values).tolist() == sorted({int(d) for d in lists[1]})


def test_auto_goes_by_where_the_arrays_are(monkeypatch):
    """Each operation asks the array that there is most of; the others may lie in the processor's memory."""

    class There:
        device, shape = "cuda:0", (3, 4)

        def __len__(self):
            return 4

    there, here = There(), np.zeros((3, 4), np.float32)
    asked = []

    def backend(name):
        asked.append(name)
        names = ("maxsim_codes", "centroid_interaction", "topk", "greatest", "assign", "dot_products", "union")
        return SimpleNamespace(**dict.fromkeys(names, lambda *arguments: arguments[0]))

    monkeypatch.setattr(kernels, "_backend", backend)
    tokens = replace(coded("residual", 2, 4, 0, [4], seed=0), codes=there)
    packed = Ragged(there, offsets_of([4]))
    kernels.maxsim_codes(Ragged(here, offsets_of([3])), tokens)
    kernels.centroid_interaction(here, packed)
    kernels.topk(there, 2)
    kernels.greatest(there, 2)
    kernels.assign(there, here)
    kernels.dot_products(here, there)
    kernels.union(packed, np.zeros(1, np.int64), 3)
    assert asked == ["cuda"] * 7
    asked.clear()
    kernels.greatest(here, 2)
    kernels.dot_products(here, torch.zeros(3, 4))
    assert asked == ["auto", "auto"]


class TestMaxsim:
    """`kernels.maxsim(..., backend="cuda")` on `Ragged`."""

    SHAPES = (([3, 1, 7], [5, 1, 30, 2], 128), ([4, 0], [9, 0, 20], 50), ([2], [3, 1], 13), ([6], [], 64), ([], [4], 64))

    @pytest.mark.parametrize("kind", ["float32", "float16", "float64"])
    @pytest.mark.parametrize(("query_lengths", "document_lengths", "dim"), SHAPES)
    def test_as_the_reference(self, rng, arena, query_lengths, document_lengths, dim, kind):
        queries = Ragged(rng.integers(-4, 5, (sum(query_lengths), dim)).astype(kind), offsets_of(query_lengths))
        documents = Ragged(rng.integers(-4, 5, (sum(document_lengths), dim)).astype(kind), offsets_of(document_lengths))
        expected = kernels.maxsim(queries, documents, backend="reference")
        with arena:
            got = kernels.maxsim(queries, documents, backend="cuda")
            assert isinstance(got, np.ndarray)
            assert np.array_equal(got, expected)
            assert np.array_equal(kernels.maxsim(queries.map(np.float32), documents, backend="cuda"), expected)
            if document_lengths:
                some = np.array([len(document_lengths) - 1, 0])
                assert np.array_equal(kernels.maxsim(queries, documents, only=some, backend="cuda"), expected[:, some])

    def test_tensors_in_tensors_out(self, rng, arena):
        queries = Ragged(rng.integers(-4, 5, (9, 50)).astype(np.float32), offsets_of([4, 5]))
        documents = Ragged(rng.integers(-4, 5, (30, 50)).astype(np.float32), offsets_of([10, 0, 20]))
        expected = kernels.maxsim(queries, documents, backend="reference")
        for kind in (torch.float16, torch.bfloat16, torch.float32):
            stored = documents.map(lambda values, kind=kind: arena.tensor(values).to(kind))
            with arena:
                got = kernels.maxsim(queries, stored, backend="cuda")
                assert isinstance(got, torch.Tensor)
                assert got.device == stored.values.device
                assert np.array_equal(got.cpu().numpy(), expected)

    def test_offsets_are_sent_once(self, rng, arena, monkeypatch):
        queries, documents = (Ragged(rng.standard_normal((9, 64)).astype(np.float32), offsets_of([4, 5])) for _ in range(2))
        with arena:
            kernels.maxsim(queries, documents, backend="cuda")
            monkeypatch.setattr(cuda_backend, "upload", lambda *_: pytest.fail("sent again"))
            monkeypatch.setattr("colbert_research.kernels.cuda.arrays.upload", lambda array, _: array)
            assert cuda_backend.offsets_at(queries, next(iter(cuda_backend._offsets[queries]))) is not None


def test_auto_goes_by_where_the_documents_are():
    class There:
        device = "cuda:0"

    assert kernels._by_place("auto", There()) == "cuda"
    assert kernels._by_place("torch", There()) == "torch"
    assert kernels._by_place("auto", np.zeros(1)) == "auto"
    assert kernels._by_place("auto", torch.zeros(1)) == "auto"
