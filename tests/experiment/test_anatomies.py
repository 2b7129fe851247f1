"""Figures of clusters beside records are those of the index that the record names, counted again from its codes and tokens."""

import numpy as np
import pytest

from colbert_research.artifacts import write_json
from colbert_research.cache import StageCache
from colbert_research.encoders.stored import open_stored
from colbert_research.evaluation.clusters import anatomy
from colbert_research.experiment import Record
from colbert_research.experiment.anatomies import QUERIES, clusters_of, measure_clusters
from colbert_research.experiment.beside import read_beside, write_beside
from colbert_research.index import Index
from tests.experiment.small import make


@pytest.fixture
def run(cache, folder, tmp_path):
    make(cache, folder, output=tmp_path / "runs" / "a").save()
    make(cache, folder, "codec={kind: exact} search={kind: exhaustive}", output=tmp_path / "runs" / "exact").save()
    measure_clusters(tmp_path / "runs", cache=StageCache(cache))
    return tmp_path / "runs" / "a"


@pytest.mark.slow
def test_the_figures_are_those_of_the_codes(run, cache):
    record = Record.open(run)
    found = clusters_of(run, record)
    index = Index.open(StageCache(cache).path("index", record.stages["index"]) / "index")
    tokens = open_stored(StageCache(cache).path("encode", record.stages["encode documents"])).tokens.token_ids.values
    centroids = np.concatenate([segment.codes["centroid_ids"] for segment in index.segments])
    expected = anatomy(tokens, centroids)
    assert found["median cluster purity"] == expected.figures()["median cluster purity"]
    assert found["clusters of at most 16 tokens"] == np.mean(expected.distinct_tokens <= 16)
    assert found["clusters of at most 2 tokens, shuffled"] <= found["clusters of at most 2 tokens"]
    scores = [found[f"centroids scoring up to {s / 10:g}"] for s in range(-2, 11)]
    assert scores == sorted(scores)
    assert QUERIES > 0
    assert not (run.parent / "exact" / "anatomy.json").exists()


@pytest.mark.slow
def test_they_count_for_no_other_index_and_are_computed_once(run, cache, caplog):
    file, record = run / "anatomy.json", Record.open(run)
    write_beside(file, {**read_beside(file), "figures": {"kept": 1.0}})
    measure_clusters(run, cache=StageCache(cache))
    assert clusters_of(run, record) == {"kept": 1.0}
    write_beside(file, {**read_beside(file), "index": "another"})
    assert clusters_of(run, record) == {}
    for torn in ("", "[]", "{"):
        file.write_text(torn)
        assert clusters_of(run, record) == {}
    measure_clusters(run, cache=StageCache(cache))
    assert len(clusters_of(run, record)) > 20


@pytest.mark.slow
def test_those_of_an_earlier_format_are_read_and_computed_anew_where_they_can_be(run, cache, tmp_path):
    file, record = run / "anatomy.json", Record.open(run)
    write_json(file, {"figures": {"median cluster purity": 0.5}, "index": record.stages["index"]})
    measure_clusters(run, cache=StageCache(tmp_path / "empty"))
    assert clusters_of(run, record) == {"median cluster purity": 0.5}
    measure_clusters(run, cache=StageCache(cache))
    assert 0 <= clusters_of(run, record)["homogeneity"] <= 1


def test_without_artifacts_nothing_is_said(run, tmp_path, caplog):
    (run / "anatomy.json").unlink()
    measure_clusters(run, cache=StageCache(tmp_path / "empty"))
    assert not (run / "anatomy.json").exists()
    assert "not in the cache" in caplog.text
