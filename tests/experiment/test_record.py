"""Records: what they hold, whose figures they are, and that they vouch for the files beside them."""

import json
import logging
import math
import os

import pandas as pd
import pytest
import yaml

from colbert_research.artifacts import read_json, sha256_file, write_json
from colbert_research.config import load_config
from colbert_research.encoders.anisotropy import anisotropy
from colbert_research.experiment import Experiment, ExperimentConfig, Record, RecordError, Workspace, load_records, summarize
from colbert_research.experiment import workspace as workspace_module
from colbert_research.experiment.stages import latency
from tests.experiment.small import FILES, make


def test_a_record_holds_what_is_needed_to_trace_a_number(cache, folder, tmp_path):
    experiment = make(cache, folder, output=tmp_path / "out")
    experiment.save()
    record = Record.open(tmp_path / "out")
    assert record.id == experiment.id
    assert record.metrics == experiment.metrics
    assert record.dataset["fingerprint"] == experiment.collection.fingerprint()
    assert record.dataset["documents"] == 12
    assert record.encoder == experiment.encoder.fingerprint()
    assert set(record.stages) == set(record.origins) == {"encode documents", "encode queries", "cluster", "index", "rank"}
    assert record.results == {"queries": 3, "fewer_than_k": 0, "shortest": 10}
    assert record.index["bytes"]["total"] == experiment.index.nbytes()["total"]
    assert record.index["code_bytes_per_token"] == 2 + 32 * 4 // 8 + 2
    assert record.index["anisotropy"] == anisotropy(experiment.stored_documents.vectors, seed=experiment.config.seed)
    assert record.latency is None
    assert record.sources == {name: stage.sources["hash"] for name, stage in experiment.stages.items()}
    for origin in (*record.origins.values(), record.recorded):
        assert {"numpy", "torch", "faiss-cpu"} <= set(origin["packages"])
        assert origin["commit"]
        assert origin["host"]["cores"] >= origin["threads"] >= 1
        assert {"processor", "simd", "system", "id"} <= set(origin["host"])
    assert record.differences() == {}
    assert all(seconds >= 0 for seconds in record.measured["seconds"].values())
    assert all(size > 10**6 for size in record.measured["peak_memory_bytes"].values())
    ranking = pd.read_parquet(tmp_path / "out" / "ranking.parquet")
    assert list(ranking.columns) == ["query_id", "rank", "document_id", "score"]
    per_query = pd.read_parquet(tmp_path / "out" / "per_query.parquet")
    mean = per_query[per_query["measure"] == "nDCG@10"]["value"].mean()
    assert mean == pytest.approx(record.metrics["nDCG@10"])
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert Experiment(load_config(ExperimentConfig, None, saved), workspace=Workspace()).id == record.id
    assert sorted(os.listdir(tmp_path / "out")) == sorted(FILES), "no lock, nothing half-written"


def test_the_same_experiment_again_gives_the_same_record(folder, tmp_path):
    records = []
    for i, cache in enumerate(("a", "a", "b")):
        make(tmp_path / cache, folder, output=tmp_path / f"out{i}").save()
        records.append(read_json(tmp_path / f"out{i}" / "record.json"))
    for record in records:
        for name in ("measured", "origins", "recorded", "check"):
            record.pop(name)
    assert records[0] == records[1] == records[2]


def test_each_stage_keeps_its_own_origin(cache, folder, monkeypatch):
    """On a full cache hit the record must not lend today's commit and machine to what was computed before."""
    real, now = workspace_module.origin, {"commit": "first"}
    monkeypatch.setattr(workspace_module, "origin", lambda: {**real(), **now})
    make(cache, folder).run("index")
    now["commit"] = "second"
    record = make(cache, folder).record
    assert {name: origin["commit"] for name, origin in record.origins.items()} == {
        **dict.fromkeys(("encode documents", "encode queries", "cluster", "index"), "first"),
        "rank": "second",
    }
    assert list(record.differences()) == ["commit"]
    assert "first (encode documents, encode queries, cluster, index) / second (rank)" in str(record.table().to_csv())
    now["commit"] = "0123456789ab" + 28 * "c"
    named = make(cache, folder, "search.ncells=2").record.table()["stages differ in commit":]
    assert "0123456789ab (rank)" in named.to_csv() and "abcc" not in named.to_csv(), "a hash is no longer than it need be"
    now["commit"] = "third"
    again = make(cache, folder).record
    assert again.origins == record.origins
    assert again.measured["seconds"] == record.measured["seconds"]


def test_peak_memory_is_that_of_the_stage(cache, folder, monkeypatch):
    from colbert_research.memory import peak_memory

    with peak_memory() as large:
        del (held := bytearray(200_000_000))[:]
        assert len(held) == 0
    with peak_memory() as small:
        pass
    assert large.bytes > small.bytes + 100_000_000


@pytest.mark.parametrize("reset", [True, False])
def test_peak_memory_without_the_kernels_help(monkeypatch, reset):
    from colbert_research import memory

    if not reset:
        monkeypatch.setattr(memory, "_set_back", lambda: False)
    with memory.peak_memory() as peak:
        pass
    assert peak.bytes > 10**6


def test_queries_with_few_results_are_counted(cache, folder):
    record = make(cache, folder, "search={kind: exhaustive} k=20").record
    assert record.results == {"queries": 3, "fewer_than_k": 3, "shortest": 12}
    table = record.table()[record.id]
    assert table["queries with fewer than k=20 results"] == "3"
    assert table["shortest ranking"] == "12"
    assert not any("fewer" in name for name in make(cache, folder).record.table().index)


def test_structures_beside_the_codes_are_counted(cache, folder):
    plain, kept = (make(cache, folder, f"search={{kind: {kind}}}") for kind in ("exhaustive", "warp, nprobe: 8"))
    structures = kept.record.index["structures"]
    assert set(structures) == {"tokens_by_cell"}
    assert structures["tokens_by_cell"]["bytes"] > 0
    assert structures["tokens_by_cell"]["seconds"] > 0
    tokens = kept.record.index["tokens"]
    added = structures["tokens_by_cell"]["bytes"] / tokens
    assert kept.record.bytes_per_token == pytest.approx(plain.record.bytes_per_token + added)
    assert kept.record.table().loc["bytes/token", kept.id] == f"{kept.record.bytes_per_token:.1f}"


def test_records_become_one_table(cache, folder, tmp_path):
    make(cache, folder, output=tmp_path / "runs" / "a").save()
    make(cache, folder, "codec.nbits=1", output=tmp_path / "runs" / "b").save()
    (tmp_path / "runs" / "unfinished").mkdir()
    table = load_records(tmp_path / "runs")
    assert list(table["codec.nbits"]) == [4, 1]
    assert list(table.columns[:3]) == ["id", "folder", "codec.nbits"], "what differs comes first"
    assert {"id", "nDCG@10", "index_bytes", "seconds.rank", "codec.kind", "k"} <= set(table.columns)
    assert list(table["bytes_in_all"]) == [Record.open(tmp_path / "runs" / name).bytes_in_all for name in "ab"]
    assert table["ms_median"].isna().all() and table["ms_p95"].isna().all()
    assert load_records(tmp_path / "runs" / "unfinished").empty


def test_records_tell_what_searching_cost(cache, folder, tmp_path):
    make(cache, folder, output=tmp_path / "runs" / "a").save()
    timed = make(cache, folder, "latency.repeats=2 latency.threads=1", output=tmp_path / "runs" / "b").save()
    table = load_records(tmp_path / "runs")
    assert sorted(table.columns[2:6]) == ["latency", "latency.queries", "latency.repeats", "latency.threads"]
    assert list(table["ms_median"].isna()) == list(table["ms_p95"].isna()) == [True, False]
    assert (table["ms_median"][1], table["ms_p95"][1]) == (timed.query_ms["median"], timed.query_ms["p95"])
    plain = Record.open(tmp_path / "runs" / "a")
    assert list(table["threads"]) == [plain.origins["rank"]["threads"], 1]
    here = timed.origins["latency"]["host"]
    assert list(table["host"]) == [f"{here['processor']} {here['id']}"] * 2
    sizes = plain.index["bytes"]
    assert plain.bytes_in_all == sizes["total"] - sizes["documents"]


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"id": "1"}'])
def test_an_unreadable_record_is_named_and_passed_over(cache, folder, tmp_path, caplog, damage):
    make(cache, folder, output=tmp_path / "runs" / "a").save()
    make(cache, folder, "codec.nbits=1", output=tmp_path / "runs" / "b").save()
    file = tmp_path / "runs" / "a" / "record.json"
    file.write_text(damage)
    with pytest.raises(RecordError, match="run its experiment again"):
        Record.open(file.parent)
    for read in (load_records, summarize):
        assert len(read(tmp_path / "runs")) == 1
        assert str(file) in caplog.text
        caplog.clear()
    make(cache, folder, output=file.parent).save()
    assert len(load_records(tmp_path / "runs")) == 2


def test_a_record_of_the_first_version_opens(tmp_path, cache, folder):
    make(cache, folder, output=tmp_path / "out").save()
    old = read_json(tmp_path / "out" / "record.json")
    del old["check"], old["format"]
    for name in ("latency", "origins", "recorded", "files", "encoder", "results"):
        del old[name]
    old |= {"code": {"commit": "abc", "changes": None}, "environment": {"python": "3.11", "packages": {}}}
    old["index"].pop("structures")
    old["index"].pop("anisotropy")
    old["measured"]["query_ms"] = {"median": 1.0, "p95": 2.0, "mean": 1.5}
    old["stages"]["search"] = old["stages"].pop("rank")
    write_json(tmp_path / "out" / "record.json", old)
    record = Record.open(tmp_path / "out")
    assert record.recorded == {"commit": "abc", "changes": None, "python": "3.11", "packages": {}}
    assert record.query_ms["median"] == 1.0
    assert record.table().loc["ms/query, p95", record.id] == "2.00"
    record.verify(tmp_path / "out")
    assert list(summarize(tmp_path)["ms/query"]) == ["1.0"]
    assert list(load_records(tmp_path)["ms_p95"]) == [2.0]
    assert math.isnan(record.anisotropy) and list(record.index_figures()) == ["bytes/token"]
    assert load_records(tmp_path)["anisotropy"].isna().all() and "anisotropy" not in summarize(tmp_path)
    assert "anisotropy" not in record.table().index
    assert (record.costs()["host"], str(record.costs()["threads"])) == ("", "nan")


@pytest.mark.parametrize("name", FILES[:3])
def test_a_record_vouches_for_the_files_beside_it(cache, folder, tmp_path, name):
    record = make(cache, folder, output=tmp_path / "out").save()
    opened = Record.open(tmp_path / "out")
    opened.verify(tmp_path / "out")
    file = tmp_path / "out" / name
    assert opened.files[name] == {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(RecordError, match=f"{name} is not the file that record.json was written with"):
        opened.verify(tmp_path / "out")
    assert record.files == {}, "what is in memory vouches for nothing"


def test_a_record_vouches_for_itself(cache, folder, tmp_path):
    make(cache, folder, output=tmp_path / "out").save()
    file = tmp_path / "out" / "record.json"
    text = file.read_text()
    file.write_text(text.replace('"RR@10": 1.0', '"RR@10": 0.9'))
    assert file.read_text() != text
    with pytest.raises(RecordError, match="it was changed since it was written"):
        Record.open(tmp_path / "out")


class TestLatency:
    def test_it_is_asked_for(self, cache, folder):
        plain = make(cache, folder)
        timed = make(cache, folder, "latency.repeats=2 latency.threads=1 latency.queries=2")
        assert "latency" not in plain.stages
        assert timed.id != plain.id
        assert timed.stages["rank"] == plain.stages["rank"], "the ranking is the same whoever times it"
        record = timed.record
        assert record.latency["queries"] == 2
        assert (record.latency["threads"], record.latency["repeats"]) == (1, 2)
        assert record.query_ms["median"] > 0
        assert "ms/query, median" in record.table().index
        assert "ms" in timed.work_table().columns
        assert "ms" not in plain.work_table().columns
        assert read_json(timed.run("latency").path / "latency.json")["threads"] == 1

    @pytest.mark.parametrize("change", ["host", "threads"])
    def test_it_is_never_reused_from_elsewhere(self, cache, folder, monkeypatch, change):
        before = make(cache, folder, "latency={}").stages["latency"]
        if change == "host":
            here = latency.host()
            monkeypatch.setattr(latency, "host", lambda: {**here, "id": "another"})
        else:
            monkeypatch.setattr(latency.threads, "count", lambda: 63)
            monkeypatch.setattr(latency.threads, "available", lambda: 64)
        after = make(cache, folder, "latency={}").stages
        assert after["latency"] != before
        assert after["rank"] == before.inputs["ranking"]

    def test_a_strategy_that_ranks_otherwise_one_by_one_is_refused(self, cache, folder, monkeypatch):
        experiment = make(cache, folder, "latency={}")
        strategy = type(experiment.config.search)
        original = strategy.search

        def unsteady(self, index, queries, k, **kwargs):
            return original(self, index, queries, k - (len(queries) == 1), **kwargs)

        monkeypatch.setattr(strategy, "search", unsteady)
        with pytest.raises(ValueError, match="finds something else for one query at a time"):
            experiment.run("latency")

    def test_repeats_must_agree(self, cache, folder, monkeypatch):
        experiment = make(cache, folder, "latency.repeats=2")
        strategy = type(experiment.config.search)
        original, calls = strategy.search, []

        def unsteady(self, index, queries, k, **kwargs):
            calls.append(k)
            return original(self, index, queries, k - (len(calls) > 9), **kwargs)

        monkeypatch.setattr(strategy, "search", unsteady)
        with pytest.raises(RuntimeError, match="not deterministic"):
            experiment.run("latency")

    def test_two_never_time_side_by_side(self, cache, folder, monkeypatch, caplog):
        from colbert_research.evaluation import timing
        from colbert_research.locks import LockedError, locked

        caplog.set_level(logging.INFO, "colbert_research")
        monkeypatch.setenv("COLBERT_RESEARCH_WAIT", "0.2")
        with locked(timing.machine_lock(), "time something else"), pytest.raises(LockedError, match="time searches"):
            make(cache, folder, "latency={}").run("latency")


def test_json_of_a_record_is_one_that_others_read(cache, folder, tmp_path):
    make(cache, folder, output=tmp_path / "out").save()
    text = (tmp_path / "out" / "record.json").read_text()
    assert json.loads(text)["metrics"]
    assert str(tmp_path) not in json.dumps({k: v for k, v in json.loads(text).items() if k != "config"})


def test_a_search_changes_no_artifact(cache, folder):
    """What it lacks beside the codes is built elsewhere in the cache, not into the artifact, whose files are vouched for."""
    from colbert_research import Retriever
    from colbert_research.search import Warp

    artifact = make(cache, folder).run("index")
    retriever = Retriever.open(artifact.path / "index", Warp(nprobe=4, exact_subset=0))
    assert retriever.search("yellow banana", k=1)
    artifact.verify()
    assert [hit.document_id for hit in Retriever.open(artifact.path / "index").search("yellow banana", k=12)]
