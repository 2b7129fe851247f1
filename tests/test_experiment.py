"""Experiments: one config to one record, through stages that are cached by content."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from colbert_research.artifacts import StageCache
from colbert_research.config import ConfigError, config_id, load_config
from colbert_research.experiment import ExperimentConfig, Record, load_records, start
from colbert_research.index import IndexCorruptedError
from colbert_research.kernels.cpu.prepare import decoder_of, worst_error
from tests.small_experiment import TINY, make, states, write_folder

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def cache(tmp_path) -> StageCache:
    return StageCache(tmp_path / "cache")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A BEIR folder of 12 documents about three things, small enough to judge by hand."""
    return write_folder(tmp_path / "fruit", "{subject} note {i}")


def test_metrics_are_right(cache, folder):
    experiment = make(cache, folder)
    assert experiment.metrics["nDCG@10"] == pytest.approx(1.0)
    assert experiment.metrics["RR@10"] == 1.0
    assert experiment.metrics["R@10"] == 1.0


def test_what_a_change_computes_again(cache, folder):
    make(cache, folder).run("search")
    codec = make(cache, folder, "codec.nbits=2")
    codec.run("search")
    cached = dict.fromkeys(("encode documents", "encode queries", "cluster"), "cached")
    expected = cached | {"index": "computed", "search": "computed"}
    assert states(codec) == expected
    clustering = make(cache, folder, "codec.iterations=3")
    clustering.run("search")
    assert states(clustering) == expected | {"cluster": "computed"}
    exact = make(cache, folder, "codec={kind: exact} search={kind: exhaustive}")
    assert "cluster" not in exact.pipeline
    search = make(cache, folder, "search.ncells=2")
    search.run("search")
    assert states(search) == expected | {"index": "cached"}
    reduced = make(cache, folder, "reducer.kind=svd reducer.dim=8")
    reduced.run("search")
    assert states(reduced)["reduce"] == "computed"
    assert states(reduced)["encode documents"] == "cached"
    assert reduced.index.dim == 8
    again = make(cache, folder)
    again.run("search")
    assert set(states(again).values()) == {"cached"}


def test_the_plan_computes_nothing(cache, folder):
    experiment = make(cache, folder)
    assert set(experiment.plan()["state"]) == {"to do"}
    assert not list(cache.root.rglob("*.npy"))
    experiment.run("encode queries")
    assert dict(make(cache, folder).plan()["state"])["encode queries"] == "cached"


def test_artifacts_depend_on_content_not_on_place(cache, folder, tmp_path):
    make(cache, folder).run("search")
    moved = folder.rename(tmp_path / "elsewhere")
    experiment = make(cache, moved)
    experiment.run("search")
    assert set(states(experiment).values()) == {"cached"}
    corpus = moved / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("note 3", "note three"))
    changed = make(cache, moved)
    changed.run("index")
    assert states(changed)["encode documents"] == "computed"


def test_a_record_holds_what_is_needed_to_trace_a_number(cache, folder, tmp_path):
    experiment = make(cache, folder, output=tmp_path / "out")
    experiment.save()
    record = Record.open(tmp_path / "out")
    assert record.id == experiment.id == config_id(experiment.config)
    assert record.metrics == experiment.metrics
    assert record.dataset["fingerprint"] == experiment.collection.fingerprint()
    assert record.dataset["documents"] == 12
    assert set(record.stages) == {"encode documents", "encode queries", "cluster", "index", "search"}
    assert record.index["bytes"]["total"] == experiment.index.nbytes()["total"]
    assert record.index["code_bytes_per_token"] == 2 + 32 * 4 // 8 + 2
    assert {"numpy", "torch", "faiss-cpu"} <= set(record.environment["packages"])
    assert record.code["commit"]
    assert all(seconds >= 0 for seconds in record.measured["seconds"].values())
    assert record.measured["peak_memory_bytes"] > 0
    ranking = pd.read_parquet(tmp_path / "out" / "ranking.parquet")
    assert list(ranking.columns) == ["query_id", "rank", "document_id", "score"]
    per_query = pd.read_parquet(tmp_path / "out" / "per_query.parquet")
    mean = per_query[per_query["measure"] == "nDCG@10"]["value"].mean()
    assert mean == pytest.approx(record.metrics["nDCG@10"])
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert config_id(load_config(ExperimentConfig, None, saved)) == record.id


def test_the_same_experiment_again_gives_the_same_record_but_for_measured(folder, tmp_path):
    records = []
    for i, cache in enumerate((StageCache(tmp_path / "a"), StageCache(tmp_path / "a"), StageCache(tmp_path / "b"))):
        make(cache, folder, output=tmp_path / f"out{i}").save()
        records.append(json.loads((tmp_path / f"out{i}" / "record.json").read_text()))
    for record in records:
        record.pop("measured")
    assert records[0] == records[1] == records[2]
    rankings = [(tmp_path / f"out{i}" / "ranking.parquet").read_bytes() for i in range(3)]
    assert rankings[0] == rankings[1] == rankings[2]


def test_records_become_one_table(cache, folder, tmp_path):
    make(cache, folder, output=tmp_path / "runs" / "a").save()
    make(cache, folder, "codec.nbits=1", output=tmp_path / "runs" / "b").save()
    (tmp_path / "runs" / "unfinished").mkdir()
    table = load_records(tmp_path / "runs")
    assert list(table["codec.nbits"]) == [4, 1]
    assert {"id", "nDCG@10", "index_bytes", "seconds.search"} <= set(table.columns)


def test_a_damaged_index_gives_no_record(cache, folder):
    """One bit of one code, which no shape or range gives away."""
    experiment = make(cache, folder)
    experiment.run("index")
    (file,) = cache.root.glob("index/*/index/segment-000001/residuals.npy")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(IndexCorruptedError, match=r"residuals\.npy is not what the manifest says"):
        make(cache, folder).run("search")


def test_a_strategy_that_cannot_serve_the_index_is_named(cache, folder):
    experiment = make(cache, folder, "codec={kind: exact} search={kind: warp}")
    with pytest.raises(ValueError, match="warp needs an index whose codec has centroids"):
        experiment.run("search")
    assert not list(cache.root.glob("index/*/index/structures")), "nothing was built for it"


def test_exclude_self(cache, folder):
    queries = folder / "queries.jsonl"
    queries.write_text(queries.read_text().replace('"q0"', '"d0"'))
    qrels = folder / "qrels" / "test.tsv"
    rows = [row for row in qrels.read_text().splitlines() if row != "q0\td0\t1"]
    qrels.write_text("\n".join(row.replace("q0\t", "d0\t") for row in rows) + "\n")
    plain, excluding = make(cache, folder), make(cache, folder, "dataset.exclude_self=true")
    assert "d0" in {d for d, _ in plain.ranking.top(0)}
    assert "d0" not in {d for d, _ in excluding.ranking.top(0)}
    assert len(excluding.ranking.top(0)) == 10


def test_repeats_must_agree(cache, folder, monkeypatch):
    assert make(cache, folder, "repeats=3").metrics["RR@10"] == 1.0
    experiment = make(cache, folder, "repeats=2 search.ncells=4")
    strategy = type(experiment.config.search)
    original, calls = strategy.search, []

    def unsteady(self, index, queries, k, **kwargs):
        calls.append(k)
        return original(self, index, queries, k - (len(calls) > 7), **kwargs)  # 4 to warm up, 3 queries, 3 again

    monkeypatch.setattr(strategy, "search", unsteady)
    with pytest.raises(RuntimeError, match="not deterministic"):
        experiment.run("search")


def test_an_interrupted_encoding_is_taken_up_again(cache, folder, monkeypatch):
    experiment = make(cache, folder)
    method = type(experiment.encoder).encode_queries
    monkeypatch.setattr(type(experiment.encoder), "encode_queries", lambda self, texts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        experiment.run("search")
    monkeypatch.setattr(type(experiment.encoder), "encode_queries", method)
    again = make(cache, folder)
    again.run("search")
    assert states(again)["encode documents"] == "cached"
    assert states(again)["encode queries"] == "computed"


def test_one_new_query(cache, folder):
    experiment = make(cache, folder)
    found = experiment.search("yellow banana", k=4)
    assert {int(d[1:]) % 3 for d in found["document_id"]} == {1}
    table = experiment.alignment("yellow banana")
    assert set(table["query_token"]) == set(table["document_token"]) == {"yellow", "banana"}
    query, codec = experiment.encode_query("yellow banana").vectors[0], experiment.index.codec
    # codes are scored in integers; inverse norms of decoded vectors of length about one stay below 2
    rounded = 2 * worst_error(query, decoder_of(codec.table))
    assert table["similarity"].sum() == pytest.approx(found.loc[1, "score"], abs=rounded)
    figure = experiment.plot("yellow banana")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["yellow", "banana"]
    variant = experiment.variant("codec.nbits=1")
    assert variant.config.codec.nbits == 1
    assert variant.id != experiment.id


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("codec.nbit=2", "'nbit'.*did you mean 'nbits'"),
        ("serch.k=2", "'serch'.*did you mean 'search'"),
        ("codec.nbits=3", "1, 2, 4 or 8.*given '3'"),
        ("k=many", "k: .*integer.*given 'many'"),
        ("encoder.kind=hashin", "unknown encoder kind 'hashin'.*did you mean 'hashing'"),
        ("measures=[nDGC@10]", "nDGC@10"),
        ("codec.nbits", "name=value"),
        ("dataset.unknown_judgements=ignore", "'error' or 'drop'"),
    ],
)
def test_a_wrong_setting_stops_before_anything_is_written(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        start(str(TINY), overrides, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_output_is_not_overwritten_by_another_experiment(cache, folder, tmp_path):
    make(cache, folder, output=tmp_path / "out").save()
    with pytest.raises(ConfigError, match="holds the record of experiment"):
        start(str(TINY), f"dataset.path={folder}", str(tmp_path / "out"))


def test_all_configs_are_valid():
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        config = load_config(ExperimentConfig, path)
        assert load_config(ExperimentConfig, None, config.model_dump(mode="json")) == config


def test_ids_do_not_change_by_accident(folder):
    """Records in README are named by id: a change of this one changes them all, so change it knowingly."""
    plain = load_config(ExperimentConfig, TINY)
    assert config_id(plain) == config_id(load_config(ExperimentConfig, TINY, "codec.nbits=4 k=50"))
    assert config_id(plain) != config_id(load_config(ExperimentConfig, TINY, "seed=1"))


def test_token_vectors_can_be_kept_in_half_precision(cache, folder):
    experiment = make(cache, folder, "vectors=float16")
    assert experiment.documents.vectors.values.dtype == np.float16
    assert experiment.metrics["RR@10"] == 1.0


def test_strategies_that_look_at_words_get_them(cache, folder):
    words = "search={kind: rerank, first_stage: {kind: bm25}, depth: 4} k=4"
    experiment = make(cache, folder).variant(words)
    assert experiment.config.search.kind == "rerank"
    for query in range(3):
        assert {int(d[1:]) % 3 for d, _ in experiment.ranking.top(query)} == {query}
    assert set(experiment.search("banana", k=4)["document_id"]) == {"d1", "d4", "d7", "d10"}
    assert experiment.results["search"].notes["auxiliary_bytes"] > 0
