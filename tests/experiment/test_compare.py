"""Records are compared by query, called by what differs, and refused where they cannot be compared."""

import re
import shutil

import pandas as pd
import pytest

from colbert_research.artifacts import read_json, write_json
from colbert_research.config import content_hash
from colbert_research.evaluation import overlap
from colbert_research.evaluation.significance import randomization_test
from colbert_research.experiment import Record, RecordError, compare_records
from colbert_research.experiment.rankings import rankings_beside
from colbert_research.settings import ConfigError
from tests.experiment.small import make, write_folder

EXACT = "codec={kind: exact} search={kind: exhaustive}"
POOR = "codec.nbits=1 reducer={kind: random_projection, dim: 2}"
NAMES = {
    "exact": "reducer.kind=identity codec.kind=exact search.kind=exhaustive",
    "four": "reducer.kind=identity codec.kind=residual codec.nbits=4 search.kind=plaid",
    "poor": "reducer.kind=random_projection codec.kind=residual codec.nbits=1 search.kind=plaid",
}
"""What the records are called where all three are compared."""


@pytest.fixture
def runs(cache, folder, tmp_path):
    """Three records: exact search, residuals of 4 bits, and of 1 bit in two dimensions, which finds less."""
    for name, overrides in (("exact", EXACT), ("four", ""), ("poor", POOR)):
        make(cache, folder, overrides, output=tmp_path / "runs" / name).save()
    return tmp_path / "runs"


def rewrite(path, **changes) -> None:
    """Another record in place of one, as if it had been written so."""
    data = {name: value for name, value in read_json(path / "record.json").items() if name != "check"}
    write_json(path / "record.json", data | changes | {"check": content_hash(data | changes)})


class TestCompared:
    def test_values_are_those_of_the_records(self, runs):
        found = compare_records(runs, baseline=runs / "exact", measures=["nDCG@10", "AP"])
        assert found.baseline == NAMES["exact"]
        assert [row.system for row in found.rows] == [NAMES["four"], NAMES["poor"]] * 2
        assert list(found.values) == ["nDCG@10", "AP"]
        for row, name in zip(found.rows[:2], ("four", "poor"), strict=True):
            assert row.mean == pytest.approx(Record.open(runs / name).metrics["nDCG@10"])
            own, base = (pd.read_parquet(runs / n / "per_query.parquet") for n in (name, "exact"))
            chosen = own["measure"] == "nDCG@10"
            assert row.p == randomization_test(own["value"][chosen] - base["value"][chosen]).p
        assert found.rows[1].delta < 0
        assert list(compare_records(runs, baseline=runs / "poor").values) == ["nDCG@10", "R@10", "RR@10", "AP"]

    def test_every_setting_that_differs_and_every_cost_is_a_column(self, runs):
        records = {name: Record.open(runs / name) for name in NAMES}
        table = compare_records(runs, baseline=runs / "exact", measures=["AP"]).table().droplevel("measure")
        assert list(table.index) == list(NAMES.values())
        assert list(table["record"]) == [record.id for record in records.values()]
        assert list(table["codec.kind"]) == ["exact", "residual", "residual"]
        assert list(table["codec.nbits"].dropna()) == [4, 1]
        assert {"search.ncells", "codec.centroids", "reducer.dim"} <= set(table.columns), "which some lack"
        assert not {"k", "seed", "measures", "encoder.kind"} & set(table.columns), "which all share"
        assert list(table["bytes_in_all"]) == [record.bytes_in_all for record in records.values()]
        assert list(table["threads"]) == [record.origins["rank"]["threads"] for record in records.values()]
        assert (table["host"] != "").all()
        assert "ms_median" not in table.columns, "none was timed"

    def test_agreement_with_an_oracle(self, runs):
        found = compare_records([runs / "four", runs / "poor"], baseline=runs / "four", oracle=runs / "exact", measures=["AP"])
        assert list(found.values) == ["AP", "overlap@10", "RBO(p=0.9)"]
        four, poor = ("reducer.kind=identity codec.nbits=4", "reducer.kind=random_projection codec.nbits=1")
        exact, *others = rankings_beside(*(runs / name for name in NAMES))
        values = found.values["overlap@10"]
        assert list(values.columns) == [four, poor]
        assert [values[name].mean() for name in (four, poor)] == pytest.approx([overlap(each, exact, 10) for each in others])
        losers = found.biggest_losers(poor, measure="overlap@10")
        assert set(losers["query_id"]) == set(values.index[values[poor] < values[four]])

    def test_records_by_id(self, runs):
        exact, poor = (Record.open(runs / name).id for name in ("exact", "poor"))
        found = compare_records([poor, poor, exact], baseline=exact, below=runs, measures=["AP"])
        assert list(found.facts) == [NAMES["exact"], NAMES["poor"].replace("codec.nbits=1 ", "")]
        again = compare_records(runs, baseline=poor, oracle=exact)
        assert again.baseline == NAMES["poor"], "an id among those in the folders that are named"

    def test_records_that_only_their_folders_tell_apart(self, runs):
        shutil.copytree(runs / "four", runs / "again")
        identity = Record.open(runs / "four").id
        found = compare_records([runs / "four", runs / "again"], baseline=runs / "four", measures=["AP"])
        assert list(found.facts) == [f"{identity} ({runs / name})" for name in ("four", "again")]
        with pytest.raises(ConfigError, match=rf"the baseline '{identity}' is 2 records \({runs / 'again'}, {runs / 'four'}\)"):
            compare_records(runs, baseline=identity, below=runs)

    def test_the_place_of_a_collection_is_no_setting(self, cache, tmp_path, runs):
        elsewhere = write_folder(tmp_path / "elsewhere")
        make(cache, elsewhere, "codec.nbits=2", output=runs / "two").save()
        found = compare_records([runs / "two"], baseline=runs / "four", measures=["AP"])
        assert list(found.facts) == ["codec.nbits=4", "codec.nbits=2"]

    def test_times_of_other_machines_are_noted(self, cache, folder, runs):
        for name, overrides in (("a", "codec.nbits=2"), ("b", "codec.nbits=8")):
            make(cache, folder, f"{overrides} latency.repeats=1 latency.threads=1", output=runs / name).save()
        timed = compare_records([runs / "a", runs / "b"], baseline=runs / "exact", measures=["AP"])
        assert list(timed.table()["ms_median"].isna()) == [True, False, False]
        assert timed.notes == ()
        data = read_json(runs / "b" / "record.json")
        data["origins"]["latency"]["host"]["id"] = "another"
        rewrite(runs / "b", origins=data["origins"])
        (note,) = compare_records([runs / "a", runs / "b"], baseline=runs / "exact", measures=["AP"]).notes
        assert note.startswith("Times cannot be compared: they are of ") and "another (threads=1)" in note


class TestRefused:
    def test_another_collection(self, cache, tmp_path, runs):
        other = write_folder(tmp_path / "vegetables", "{subject} page {i}")
        make(cache, other, output=runs / "other").save()
        one, two = (Record.open(runs / name) for name in ("exact", "other"))
        prints = [r.dataset["fingerprint"][:12] for r in (one, two)]
        assert prints[0] != prints[1]
        says = (
            rf"record {one.id} is of fruit \({prints[0]}\) and record {two.id} is of vegetables \({prints[1]}\); "
            "only records of one collection can be compared"
        )
        with pytest.raises(ValueError, match=says):
            compare_records(runs / "other", baseline=runs / "exact")
        with pytest.raises(ValueError, match=says):
            compare_records(runs / "four", baseline=runs / "exact", oracle=runs / "other")

    def test_other_queries(self, runs):
        file = runs / "poor" / "per_query.parquet"
        values = pd.read_parquet(file)
        values[values["query_id"] != "q1"].to_parquet(file, index=False)
        rewrite(runs / "poor", files={})
        exact, poor = NAMES["exact"], NAMES["poor"].replace("codec.nbits=1 ", "")
        with pytest.raises(ValueError, match=rf"'{exact}' and '{poor}' cannot be compared by AP.*alone \('q1'\)"):
            compare_records(runs / "poor", baseline=runs / "exact", measures=["AP"])

    @pytest.mark.parametrize("name", ["per_query.parquet", "ranking.parquet"])
    def test_files_that_are_not_those_of_the_record(self, runs, name):
        shutil.copy(runs / "poor" / name, runs / "four" / name)
        with pytest.raises(RecordError, match=r"is not the file that record\.json was written with"):
            compare_records(runs, baseline=runs / "exact", oracle=runs / "exact")
        (runs / "four" / name).unlink()
        with pytest.raises(RecordError, match=f"four/{re.escape(name)} is not there, as beside records that are committed"):
            compare_records(runs, baseline=runs / "exact", oracle=runs / "exact")

    def test_a_ranking_that_is_too_short(self, cache, folder, runs):
        make(cache, folder, "k=5 measures=[AP]", output=runs / "short").save()
        with pytest.raises(ValueError, match=r"ranks k=5 documents; agreement with an oracle needs 10 at least"):
            compare_records(runs / "short", baseline=runs / "exact", oracle=runs / "exact", measures=["AP"])
        assert compare_records(runs / "short", baseline=runs / "exact", measures=["AP"]).rows

    def test_what_names_no_record(self, runs, tmp_path):
        identity = Record.open(runs / "four").id
        with pytest.raises(ConfigError, match=rf"neither a folder nor the id of a record.*did you mean '{identity}'"):
            compare_records(identity[:-1] + "x", baseline=runs / "exact", below=runs)
        (tmp_path / "empty").mkdir()
        with pytest.raises(ConfigError, match=r"no finished record in .*empty or below it"):
            compare_records(tmp_path / "empty", baseline=runs / "exact")
        with pytest.raises(ConfigError, match="there are no records"):
            compare_records("abc", baseline=runs / "exact", below=tmp_path / "empty")
        with pytest.raises(ValueError, match="alone; give the values of another system"):
            compare_records(runs / "exact", baseline=runs / "exact")
        with pytest.raises(ConfigError, match=r"the oracle .* is 3 records"):
            compare_records(runs, baseline=runs / "exact", oracle=runs)
