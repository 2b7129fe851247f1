"""Overlaps with exhaustive search are those of the rankings that they were computed of; summaries survive what they find."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from colbert_research.artifacts import read_json, write_json
from colbert_research.config import content_hash
from colbert_research.experiment import Record, load_records, summarize
from colbert_research.experiment.beside import read_beside, write_beside
from colbert_research.experiment.overlaps import agreement_of, compare_rankings, overlap_of
from tests.experiment.small import make

ODD = [
    *({"index": {}}, {"config": {}}, {"metrics": [1]}, {"dataset": None}, {"stages": {}}, {"dataset": {"fingerprint": []}}),
    *({"config": {"k": 10, "codec": "exact"}}, {"config": {"k": 10, "codec": {"kind": "exact"}, "pooling": None}}),
    {"config": {"k": 1e400}},
]


@pytest.fixture
def runs(cache, folder, tmp_path):
    """Two records, one of them the exact reference of the other."""
    exact = "codec={kind: exact} search={kind: exhaustive}"
    make(cache, folder, exact, output=tmp_path / "runs" / "a").save()
    make(cache, folder, output=tmp_path / "runs" / "b").save()
    compare_rankings(tmp_path / "runs")
    return tmp_path / "runs"


def test_an_overlap_counts_for_the_ranking_that_it_was_computed_of(runs, cache, folder, caplog):
    file, record = runs / "b" / "overlap.json", Record.open(runs / "b")
    assert 0 < overlap_of(runs / "b", record) <= 1
    whole = file.read_text()
    for torn in ("", "{", "[]", '{"overlap@10": 0.5}', '{"overlap@10": "x", "rankings": {"own": 1}}'):
        file.write_text(torn)
        caplog.clear()
        assert overlap_of(runs / "b", record) is None
        assert len(summarize(runs)) == 2
        assert f"passed over: {file}" in caplog.text or "rankings" in torn
    file.write_text(whole)
    (other,) = [name for name in record.files if name == "ranking.parquet"]
    assert overlap_of(runs / "b", replace(record, files={other: {"sha256": "another"}})) is None
    make(cache, folder, output=runs / "b").save()
    assert not file.exists(), "of the ranking before"


def test_a_shallow_ranking_is_no_reference_and_has_none(cache, folder, tmp_path):
    shallow = "k=5 measures=[RR@5]"
    make(cache, folder, f"codec={{kind: exact}} search={{kind: exhaustive}} {shallow}", output=tmp_path / "runs" / "a").save()
    make(cache, folder, output=tmp_path / "runs" / "b").save()
    make(cache, folder, shallow, output=tmp_path / "runs" / "c").save()
    compare_rankings(tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("overlap.json"))


def test_the_reference_is_one_whose_ranking_is_here(runs, caplog):
    """Another folder may hold the same experiment, copied without its ranking."""
    shutil.copytree(runs / "a", runs / "z")
    (runs / "z" / "ranking.parquet").unlink()
    (runs / "b" / "overlap.json").unlink()
    compare_rankings(runs)
    assert overlap_of(runs / "b", Record.open(runs / "b")) is not None
    write_beside(runs / "b" / "overlap.json", {"codes": {"overlap@10": 1.0}})
    assert overlap_of(runs / "b", Record.open(runs / "b")) is None
    assert not caplog.records, "it tells of the codes alone"


def test_a_search_is_compared_with_all_documents_of_its_own_codes_too(runs, cache, folder):
    """The codec disagrees with exact vectors; a search that scores every document agrees with its codes in full."""
    every = "search={kind: plaid, ncells: 8, ndocs: 4096, n_exact: 4096}"
    make(cache, folder, "search={kind: exhaustive}", output=runs / "c").save()
    make(cache, folder, every, output=runs / "d").save()
    make(cache, folder, "search={kind: plaid, ncells: 1, ndocs: 10, n_exact: 10}", output=runs / "e").save()
    compare_rankings(runs)
    figures = {name: agreement_of(runs / name, Record.open(runs / name)) for name in "acde"}
    told = "overlap@10 of the codes"
    assert figures["a"][told] == figures["c"][told] == figures["d"][told] == 1
    assert figures["c"]["overlap@10"] < 1
    assert figures["e"]["RBO(p=0.99) of the codes"] < figures["d"]["RBO(p=0.99) of the codes"] == pytest.approx(1)
    whole = (runs / "b" / "overlap.json").read_text()
    (runs / "c" / "ranking.parquet").unlink()
    compare_rankings(runs)
    assert (runs / "b" / "overlap.json").read_text() == whole, "kept where a ranking is not here"
    known = read_beside(runs / "b" / "overlap.json")
    known["codes"]["rankings"]["own"] = "another"
    write_beside(runs / "b" / "overlap.json", known)
    found = agreement_of(runs / "b", Record.open(runs / "b"))
    assert "overlap@10" in found
    assert told not in found, "of another ranking"


@pytest.mark.parametrize("damage", ODD)
def test_a_record_of_another_shape_is_named_and_passed_over(runs, caplog, damage):
    file = runs / "b" / "record.json"
    data = {name: value for name, value in read_json(file).items() if name != "check"} | damage
    file.write_text(json.dumps(data | {"check": content_hash(data)} if "Infinity" not in json.dumps(data) else data))
    caplog.clear()
    compare_rankings(runs)
    assert len(summarize(runs)) <= 2
    assert len(load_records(runs)) <= 2
    assert "passed over" in caplog.text


def test_a_ranking_that_is_none_is_passed_over(runs, caplog):
    file = runs / "b" / "record.json"
    data = {name: value for name, value in read_json(file).items() if name not in ("check", "files")}
    del data["format"]
    write_json(file, data)  # as the first version did, which vouched for nothing
    (runs / "b" / "ranking.parquet").write_text("garbage")
    caplog.clear()
    compare_rankings(runs)
    assert "passed over" in caplog.text
    assert len(summarize(runs)) == 2


def test_a_changed_ranking_is_not_compared(cache, folder, tmp_path, caplog):
    exact = "codec={kind: exact} search={kind: exhaustive}"
    make(cache, folder, exact, output=tmp_path / "runs" / "a").save()
    make(cache, folder, output=tmp_path / "runs" / "b").save()
    ranking = tmp_path / "runs" / "b" / "ranking.parquet"
    frame = pd.read_parquet(ranking)
    frame["document_id"] = frame["document_id"].to_numpy()[::-1]
    frame.to_parquet(ranking)
    compare_rankings(tmp_path / "runs")
    assert (tmp_path / "runs" / "a" / "overlap.json").is_file()
    assert not (tmp_path / "runs" / "b" / "overlap.json").exists()
    assert f"passed over: {ranking}" in caplog.text


def test_without_queries_there_is_nothing_to_compare(cache, folder, tmp_path):
    """An exact row said overlap 0.000, and its measures nan."""
    shutil.rmtree(folder / "qrels")
    (folder / "queries.jsonl").unlink()
    exact = "codec={kind: exact} search={kind: exhaustive}"
    make(cache, folder, exact, output=tmp_path / "runs" / "a").save()
    compare_rankings(tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("overlap.json"))
    assert "nan" not in summarize(tmp_path / "runs").to_csv()
