"""Records of a sweep that are damaged, or of a later version: said, computed anew or left alone; never taken for done."""

import pandas as pd
import pytest
from click.testing import CliRunner

from colbert_research.artifacts import read_json, write_json
from colbert_research.cli import main
from colbert_research.experiment import Record, load_records
from colbert_research.experiment.record import FORMAT
from colbert_research.settings import ConfigError
from colbert_research.sweep import State, Sweep
from tests.experiment.small import ROOT, make

NOTEBOOK = str(ROOT / "notebooks" / "evaluate.ipynb")
GRID = {"grid": {"codec.nbits": [1, 2, 4]}, "notebook": NOTEBOOK}


@pytest.fixture
def done(write, tmp_path, here):
    """A sweep of three runs, all done."""
    sweep = Sweep.load(write(**GRID), folder=tmp_path / "out")
    assert set(sweep.run()["state"]) == {"done"}
    here.clear()
    return sweep


def flip(file) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


HARM = {
    "missing": (lambda folder: (folder / "per_query.parquet").unlink(), r"per_query\.parquet is missing"),
    "cut": (
        lambda folder: (folder / "ranking.parquet").write_bytes(b"PAR1"),
        r"ranking\.parquet has 4 bytes, record\.json says",
    ),
    "the record": (
        lambda folder: (folder / "record.json").write_text('{"id": '),
        r"record\.json is no record: JSONDecodeError",
    ),
    "changed": (lambda folder: flip(folder / "record.json"), r"record\.json is no record"),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_run_whose_files_are_damaged_is_not_done(done, here, tmp_path, harm):
    """It is called damaged by `status`, left out by what reads it, and executed again; the others are left alone."""
    hurt, said = HARM[harm]
    run, whole = done.runs[1], (tmp_path / "out" / "summary.csv").read_text()
    hurt(run.folder)
    assert run.state is State.DAMAGED
    assert done.plan().words().startswith("3 runs: 2 done, 1 to run (1 damaged), about ")
    assert pd.Series(run.failure).str.contains(said).all()
    assert done.frame().loc[run.id, "state"] == "damaged"
    shown = CliRunner().invoke(main, ["status", str(tmp_path / "bits.yaml"), "--folder", str(tmp_path / "out")]).output
    assert f"{run.id}  damaged  codec.nbits=2: " in shown
    assert str(run.folder) not in run.failure, "the id names it; a table has no room for both"
    assert list(done.compare()["fruit"].table()["codec.nbits"].unique()) == [1, 4]
    with pytest.raises(ConfigError, match=f"baseline: '{run.id}' is no finished run of this sweep; .*{said}"):
        done.compare(baseline=run.id)
    assert set(done.run()["state"]) == {"done"}
    assert here == [run.id]
    Record.open(run.folder).verify(run.folder)
    assert (tmp_path / "out" / "summary.csv").read_text() == whole


def test_what_only_a_checksum_tells(done, here, caplog):
    """Sizes are as they were: what reads the files, and `run`, compare contents."""
    run = done.runs[0]
    flip(run.folder / "ranking.parquet")
    assert run.state is State.DONE, "at a glance"
    assert run.standing(whole=True).state is State.DAMAGED
    assert list(done.compare()["fruit"].table()["codec.nbits"].unique()) == [2, 4]
    assert f"left out: {run.id} damaged" in caplog.text
    done.run()
    assert here == [run.id]
    assert run.standing(whole=True).state is State.DONE


def newer(folder) -> bytes:
    """As a later version may write it: other entries, among them a format."""
    data = read_json(folder / "record.json")
    changed = {"format": FORMAT + 1, "id": data["id"], "artifacts": data["stages"], "recorded": data["recorded"]}
    write_json(folder / "record.json", changed)
    return (folder / "record.json").read_bytes()


def test_a_record_of_a_later_version_is_left_alone(done, here, tmp_path, caplog, monkeypatch):
    run = done.runs[2]
    before, said = newer(run.folder), f"record.json is a record of format {FORMAT + 1}, written by colbert-research "
    assert run.state is State.NEWER
    assert done.plan().words().startswith("3 runs: 2 done, 1 of a later version of this package, left alone, ")
    assert said in run.failure
    assert f"reads formats up to {FORMAT}: update the package" in run.failure
    assert list(done.compare()["fruit"].table()["codec.nbits"].unique()) == [1, 2]
    for retry in (False, True):
        assert done.run(retry=retry).loc[run.id, "state"] == "newer"
    assert here == []
    assert said in caplog.text
    assert (run.folder / "record.json").read_bytes() == before
    caplog.clear()
    assert len(load_records(tmp_path / "out")) == 2
    assert f"passed over: {run.folder}/{said}" in caplog.text
    with pytest.raises(ConfigError, match=f"is a record of format {FORMAT + 1}.*or choose another output"):
        run.experiment.save()
    words = ["run", str(tmp_path / "bits.yaml"), "--folder", str(tmp_path / "out")]
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 1
    assert "1 record was written by a later version of this package" in shown.output


def test_what_a_record_that_cannot_be_read_names_is_kept(data, tmp_path, caplog):
    """By `cache gc`: a later version, or what is left of a damaged record, still names its artifacts."""
    from colbert_research.cache import StageCache
    from colbert_research.experiment.collect import kept

    cache = tmp_path / "cache"
    for harm in (newer, lambda folder: flip(folder / "record.json")):
        make(cache, data, output=tmp_path / "out").save()
        harm(tmp_path / "out")
        lying = kept(StageCache(cache), [tmp_path / "out"])
        assert [each.records for each in lying] == [("out",)] * 5
        assert "cannot be read, and keeps whatever key stands in it" in caplog.text
        (tmp_path / "out" / "record.json").unlink()
