"""Structures that are built segment by segment: a search over several segments finds what it finds over one."""

import numpy as np
import pytest

from colbert_research.codecs import ResidualConfig
from colbert_research.index import build_index
from colbert_research.index.build import BuildConfig
from colbert_research.search import Muvera, Rerank, TokenAnn, Warp
from colbert_research.search.ann import FlatAnn, HnswAnn, IvfAnn, IvfPqAnn, build_faiss, training_rows
from colbert_research.search.neighbours import Neighbours
from colbert_research.search.token_ann import TokenNeighbours
from tests.search.conftest import DIM, N

TEXTS = ("apple, Banana and apple", "the unheard of zebra", "note 7 of the grape")
SUBSETS = [None, [f"d{i}" for i in range(0, N, 2)]]
HNSW = {"kind": "hnsw", "m": 4, "ef_search": 12}


@pytest.fixture(scope="module")
def parts(collection, vectors, tmp_path_factory):
    """Residual codes in one segment and in several; the last one is small."""
    folder = tmp_path_factory.mktemp("segments")
    codec = ResidualConfig(nbits=4, centroids=12)
    several = build_index(folder / "several", collection, vectors, codec, build=BuildConfig(segment_tokens=120))
    assert len(several.segments) > 2
    return build_index(folder / "one", collection, vectors, codec), several


@pytest.mark.parametrize("subset", SUBSETS, ids=["all", "half"])
@pytest.mark.parametrize(
    "strategy",
    [
        *(Warp(nprobe=3, exact_subset=5, imputation=rule) for rule in ("none", "constant", "mean", "warpselect")),
        Warp(nprobe=3, exact_subset=5, imputation={"kind": "top_k", "k_tokens": 20}),
        Warp(nprobe=3, exact_subset=5, imputation="mean", finder=HNSW),
        TokenAnn(ann="flat", k_tokens=15),
        TokenAnn(ann="flat", k_tokens=15, n_exact=6),
        Muvera(repetitions=3, k_sim=2, d_proj=4, n_candidates=12),
        Muvera(repetitions=3, k_sim=2, d_proj=4, storage="float16", n_candidates=12),
        Rerank(first_stage="bm25", depth=12),
        Rerank(first_stage="mean_vector", depth=12),
    ],
    ids=lambda strategy: strategy.kind,
)
def test_segments_change_nothing(parts, queries, strategy, subset):
    one, other = (strategy.search(each, queries, 6, query_texts=TEXTS, subset=subset) for each in parts)
    assert np.array_equal(one.offsets, other.offsets)
    assert np.array_equal(one.positions, other.positions)
    assert np.array_equal(one.scores, other.scores)


class TestNeighbours:
    def test_equal_products_come_by_row(self):
        arrays = [faiss_of(np.repeat(np.eye(2, 4, dtype=np.float32), n, axis=0)) for n in (2, 3, 1)]
        neighbours = Neighbours.of(arrays, [4, 6, 2], 4)
        query = np.array([[1, 0, 0, 0]], np.float32)
        assert neighbours.search(query, 5)[0].tolist() == [0, 1, 4, 5, 6]
        allowed = np.ones(12, np.bool_)
        allowed[[0, 5]] = False
        assert neighbours.search(query, 5, FlatAnn(), allowed)[0].tolist() == [1, 4, 6, 10, 2]
        assert neighbours.search(query, 99)[0].shape == (12,)
        assert neighbours.search(query, 99, FlatAnn(), np.zeros(12, np.bool_))[0].tolist() == [-1] * 12

    @pytest.mark.parametrize("ann", [IvfAnn(nlist=30, nprobe=2), IvfPqAnn(nlist=4, nprobe=2, m=8), HnswAnn(m=4, ef_search=40)])
    def test_a_part_too_small_to_be_trained_is_flat(self, rng, ann):
        """300 vectors are trained on, 20 are not: among these the nearest ones are found whatever is probed."""
        structure = ann.structure(3)
        large, small = (rng.standard_normal((n, DIM)).astype(np.float32) for n in (300, 20))
        neighbours = Neighbours.of([faiss_of(large, structure), faiss_of(small, structure)], [300, 20], DIM)
        query = rng.standard_normal((2, DIM)).astype(np.float32)
        allowed = np.arange(320) >= 300
        expected = 300 + np.argsort(-(query @ small.T), axis=1)[:, :5]
        assert np.array_equal(neighbours.search(query, 5, ann, allowed), expected)

    def test_the_largest_segment_decides_what_is_refused(self, parts, queries):
        """An `ann` that no segment is large enough for would be ignored everywhere."""
        _, several = parts
        most = max(int(segment.offsets[-1]) for segment in several.segments)
        fits = TokenAnn(ann={"kind": "ivf", "nlist": most, "nprobe": 1}, k_tokens=40)
        assert len(fits.search(several, queries, 5).positions)
        with pytest.raises(ValueError, match=f"nlist={most + 1} cells need at least as many vectors; there are {most}"):
            TokenAnn(ann={"kind": "ivf", "nlist": most + 1, "nprobe": 1}).search(several, queries, 5)

    def test_its_exhaustive_equivalent_finds_the_same(self, parts, queries):
        structure = TokenNeighbours(structure=IvfAnn(nlist=8, nprobe=1).structure(1))
        one, several = (each.structure(structure) for each in parts)
        assert len(one.parts) == 1
        assert len(several.parts) == len(parts[1].segments)
        n = parts[0].n_tokens
        for each in (one, several):
            rows = each.search(queries.values, n, IvfAnn(nlist=8, nprobe=8))
            assert np.array_equal(np.sort(rows, axis=1), np.tile(np.arange(n), (len(queries.values), 1)))


def faiss_of(vectors: np.ndarray, structure=None) -> np.ndarray:
    structure = structure or FlatAnn().structure(1)
    sample = vectors[training_rows(len(vectors), structure)]
    return build_faiss(structure, vectors.shape[1], sample=sample, blocks=[vectors])
