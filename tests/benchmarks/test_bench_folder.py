"""Bench folders: what other engines read is what we wrote, and what is called exact is exact."""

import json
from typing import Literal

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.artifacts import folder_bytes
from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.config import load_config
from colbert_research.data import Collection
from colbert_research.experiment import Experiment, ExperimentConfig
from colbert_research.index import SegmentStructure, build_index
from colbert_research.index.damage import open_array
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import Exhaustive
from colbert_research.settings import ConfigError


class Numbers(SegmentStructure):
    """A structure beside the codes."""

    kind: Literal["numbers"] = "numbers"

    def build(self, codec, segment, needed):
        return {"numbers": np.arange(1000)}

    def read(self, folder, codec, segment):
        return {"numbers": open_array(folder / "numbers.npy", np.dtype(np.int64), (1000,))}

    def open(self, codec, segments, arrays):
        return arrays


class WithNumbers(Exhaustive):
    """A strategy that keeps one."""

    def _structures(self):
        return (Numbers(),)


def test_exact_is_by_float64_of_the_rounded_vectors(scripts, vectors, tmp_path):
    documents, queries, ids = vectors
    folder = scripts("bench_folder").write_bench_folder(tmp_path / "bench", documents, queries, **ids)
    rounded = [part.map(lambda v: v.astype(np.float16).astype(np.float64)) for part in (queries, documents)]
    truth = kernels.maxsim(*rounded, backend="reference")
    # float32 products of 16 terms of L2-normalised vectors, summed over 4 tokens
    tolerance = np.finfo(np.float32).eps * 16 * 4
    for scores, positions in zip(truth, folder.exact, strict=True):
        assert len(set(positions.tolist())) == 100
        assert np.all(np.diff(scores[positions]) <= 2 * tolerance)
        left_out = np.setdiff1d(np.arange(120), positions)
        assert scores[left_out].max() <= scores[positions].min() + 2 * tolerance


def test_it_is_read_with_numpy_and_json_alone(scripts, vectors, tmp_path):
    documents, queries, ids = vectors
    written = scripts("bench_folder").write_bench_folder(tmp_path / "bench", documents, queries, **ids)
    load = {name: np.load(tmp_path / "bench" / f"{name}.npy") for name in ("docs", "doclens", "queries", "qlens", "exact")}
    assert load["docs"].dtype == load["queries"].dtype == np.float16
    assert np.array_equal(load["docs"], documents.values.astype(np.float16))
    assert np.array_equal(offsets_of(load["doclens"]), documents.offsets)
    assert np.array_equal(load["qlens"], queries.lengths)
    assert load["exact"].shape == (6, 100)
    found = json.loads((tmp_path / "bench" / "ids.json").read_text())
    assert found == {"docs": ids["document_ids"], "queries": ids["query_ids"], "qrels": ids["qrels"]}
    assert written.collection().document_ids == tuple(ids["document_ids"])


def test_what_is_no_bench_folder(scripts, vectors, tmp_path):
    module = scripts("bench_folder")
    documents, queries, ids = vectors
    with pytest.raises(FileNotFoundError, match=r"lacks docs.npy, .*make one with prepare.py"):
        module.BenchFolder.open(tmp_path)
    with pytest.raises(FileExistsError, match="choose another folder"):
        module.write_bench_folder(tmp_path, documents, queries, **ids)
    with pytest.raises(ValueError, match="needs 100 documents and a query; given 99 and 6"):
        module.write_bench_folder(tmp_path / "few", documents.slice(0, 99), queries, **ids)
    hole = Ragged(documents.values, np.concatenate([[0], documents.offsets]))
    with pytest.raises(ValueError, match="some texts have no token vectors"):
        module.write_bench_folder(tmp_path / "hole", hole, queries, **ids)
    assert not list(tmp_path.iterdir())


class TestPrepare:
    @pytest.fixture
    def experiment(self):
        return Experiment(load_config(ExperimentConfig, "configs/tiny.yaml", "reducer.kind=svd reducer.dim=16"))

    @pytest.mark.slow
    def test_vectors_are_those_of_the_experiment_after_its_reducer(self, scripts, experiment, tmp_path):
        folder = scripts("prepare").prepare(experiment, tmp_path / "bench")
        assert "index" not in experiment.results, "no index is needed"
        assert folder.documents.dim == 16
        assert list(folder.document_ids) == list(experiment.collection.document_ids)
        assert np.array_equal(folder.queries.values, experiment.query_vectors.values.astype(np.float16))
        exact = experiment.variant("codec.kind=exact codec.dtype=float16 search.kind=exhaustive")
        assert np.array_equal(folder.documents.values, exact.index.segments[0].codes["vectors"])

    @pytest.mark.slow
    def test_a_part_keeps_the_queries_that_it_answers(self, scripts, experiment, tmp_path):
        folder = scripts("prepare").prepare(experiment, tmp_path / "bench", documents=150, queries=7)
        assert (len(folder.documents), len(folder.queries)) == (150, 7)
        for query in folder.query_ids:
            relevant = {d for d, grade in folder.qrels[query].items() if grade > 0}
            assert relevant
            assert set(folder.qrels[query]) <= set(folder.document_ids)

    @pytest.mark.slow
    def test_queries_that_are_documents_have_no_judgements(self, scripts, experiment, tmp_path):
        folder = scripts("prepare").prepare(experiment.variant("dataset.exclude_self=true"), tmp_path / "bench")
        assert folder.qrels == {}
        assert len(folder.queries) == len(experiment.collection.query_ids)


class TestBuild:
    @pytest.mark.parametrize("codec", [ResidualConfig(nbits=2, centroids=8), ExactConfig()])
    def test_it_is_the_same_index_and_the_parts_add_up(self, scripts, vectors, tmp_path, codec):
        documents, _, ids = vectors
        collection = Collection.from_texts([""] * 120, ids=ids["document_ids"])
        index, parts = scripts("bench_build").build_in_parts(tmp_path / "parts", collection, documents, codec, seed=3)
        plain = build_index(tmp_path / "plain", collection, documents, codec, seed=3)
        assert index.manifest == plain.manifest
        assert sum(seconds for name, seconds in parts.items() if name != "total") == pytest.approx(parts["total"])
        clustered = {"cluster", "invert"} if isinstance(codec, ResidualConfig) else set()
        assert set(parts) == {"fit", "encode", "write", "total"} | clustered
        assert min(parts["fit"], parts["encode"]) > 0

    def test_what_a_strategy_keeps_beside_the_codes_is_counted(self, scripts, vectors, tmp_path):
        documents, _, ids = vectors
        collection = Collection.from_texts([""] * 120, ids=ids["document_ids"])
        index = build_index(tmp_path / "index", collection, documents, ExactConfig())
        seconds, size = scripts("bench_build").open_structures(index, WithNumbers())
        assert seconds > 0
        assert size == np.arange(1000).nbytes + 128  # the header of one array
        assert folder_bytes(index.path / "structures") == size
        assert scripts("bench_build").open_structures(index, WithNumbers())[1] == size
        assert scripts("bench_build").open_structures(index, Exhaustive())[1] == 0

    @pytest.mark.parametrize(
        ("text", "message"), [("residul", "did you mean 'residual'"), ("residual nbit=4", "did you mean 'nbits'")]
    )
    def test_a_line_that_is_no_codec(self, scripts, text, message):
        with pytest.raises(ConfigError, match=message):
            scripts("bench_build").codec_of(text)
        assert scripts("bench_build").codec_of("residual nbits=2") == ResidualConfig(nbits=2)
