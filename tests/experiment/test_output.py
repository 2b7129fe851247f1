"""The folder of a record: who may write into it, and what stays in it when saving fails."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from colbert_research.cache import StageCache
from colbert_research.experiment import Record, load_records, output, start
from colbert_research.experiment import stage as stage_module
from colbert_research.experiment.collect import kept
from colbert_research.experiment.output import OutputInUseError
from colbert_research.settings import ConfigError
from tests.experiment.small import FILES, SETTINGS, TINY, make


def test_on_a_full_disk_the_record_before_stays(cache, folder, tmp_path, monkeypatch):
    make(cache, folder, output=tmp_path / "out").save()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        make(cache, folder, output=tmp_path / "out").save()
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name != ".lock"} == before


def test_starting_again_changes_nothing_that_a_record_vouches_for(folder, tmp_path):
    settings = f"dataset.path={folder} {SETTINGS}"
    start(str(TINY), settings, str(tmp_path / "out")).save()
    written = (tmp_path / "out" / "config.yaml").stat()
    start(str(TINY), settings, str(tmp_path / "out"))
    assert (tmp_path / "out" / "config.yaml").stat() == written
    Record.open(tmp_path / "out").verify(tmp_path / "out")


def test_an_output_that_is_a_file(cache, folder, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConfigError, match="is a file; expected a folder"):
        make(cache, folder, output=tmp_path / "out").save()
    assert (tmp_path / "out").read_text() == "mine"


def test_an_output_that_cannot_be_written_to(cache, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(ConfigError, match=r"output .*out' cannot be written to .*Permission denied.*choose another output"):
        make(cache, folder, output=tmp_path / "out").output.claim()


def test_an_output_below_home(cache, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    make(cache, folder, output="~/out").save()
    assert (tmp_path / "home" / "out" / "record.json").is_file()


def test_an_output_is_where_it_was_when_it_was_named(cache, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = make(cache, folder, output="out")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    experiment.save()
    assert (tmp_path / "out" / "record.json").is_file()


def test_within_a_process_the_last_to_claim_a_folder_has_it(cache, folder, tmp_path):
    first, second = (make(cache, folder, f"codec.nbits={n}", output=tmp_path / "out") for n in (1, 2))
    first.output.claim()
    second.output.claim()
    with pytest.raises(OutputInUseError, match=f"taken over by experiment {second.id} of this process"):
        first.save()
    first.output.claim()
    with pytest.raises(OutputInUseError, match=f"taken over by experiment {first.id} of this process.*output.claim"):
        second.save()
    second.output.claim()
    assert second.save().id == Record.open(tmp_path / "out").id == second.id


def test_threads_that_save_into_one_folder_take_turns(cache, folder, tmp_path):
    made = [make(cache, folder, f"codec.nbits={n}", output=tmp_path / "out") for n in (1, 2)]
    for each in made:
        _ = each.record
    with ThreadPoolExecutor(2) as pool:
        errors = [error for each in [pool.submit(each.save) for each in made] if (error := each.exception())]
    assert all(isinstance(error, ConfigError) for error in errors) and len(errors) == 1
    Record.open(tmp_path / "out").verify(tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_process_that_was_forked_off_has_no_claim(cache, folder, tmp_path):
    experiment = make(cache, folder, output=tmp_path / "out")
    experiment.output.claim()

    def refused() -> None:
        try:
            experiment.output.claim()
        except OutputInUseError:
            os._exit(7)
        os._exit(0)

    child = os.fork()
    if child == 0:
        refused()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    experiment.save()


def test_another_experiments_record_is_kept(cache, folder, tmp_path):
    first = make(cache, folder, output=tmp_path / "out").save()
    with pytest.raises(ConfigError, match=f"holds the record of experiment {first.id}"):
        make(cache, folder, "codec.nbits=1", output=tmp_path / "out").save()
    assert Record.open(tmp_path / "out") == Record.open(tmp_path / "out")
    assert Record.open(tmp_path / "out").id == first.id


def test_a_record_that_another_process_finishes_while_the_folder_is_claimed(cache, folder, tmp_path, monkeypatch):
    """It was replaced where it appeared between the look for one and the lock, and said to be missing where it went."""
    other = make(cache, folder, "codec.nbits=1", tmp_path / "other")
    other.save()
    files = os.listdir(tmp_path / "other")
    taken = output.Lock.try_acquire

    def take(lock):
        os.rename(tmp_path / "other", tmp_path / "out")
        return taken(lock)

    monkeypatch.setattr(output.Lock, "try_acquire", take)
    with pytest.raises(ConfigError, match=f"holds the record of experiment {other.id}"):
        make(cache, folder, output=tmp_path / "out").output.claim()
    assert sorted(os.listdir(tmp_path / "out")) == sorted(files)
    monkeypatch.undo()

    opened = Record.open

    def vanish(place):
        if not (tmp_path / "replaced").exists():
            os.rename(tmp_path / "out", tmp_path / "replaced")
        return opened(place)

    monkeypatch.setattr(Record, "open", vanish)
    make(cache, folder, output=tmp_path / "out").output.claim()


def test_a_record_that_is_replaced_while_a_folder_is_read(cache, folder, tmp_path, monkeypatch):
    make(cache, folder, output=tmp_path / "out").save()

    def vanish(place):
        raise FileNotFoundError(place)

    monkeypatch.setattr(Record, "open", vanish)
    assert load_records(tmp_path).empty
    assert len(kept(StageCache(cache), [tmp_path])) == 5


def test_a_folder_that_was_removed_meanwhile(cache, folder, tmp_path):
    experiment = make(cache, folder, output=tmp_path / "out")
    experiment.output.claim()
    (tmp_path / "out" / ".lock").unlink()
    with pytest.raises(OutputInUseError, match="was removed or taken over while experiment"):
        experiment.save()
    assert not (tmp_path / "out" / "record.json").exists()
    experiment.save()
    Record.open(tmp_path / "out").verify(tmp_path / "out")


def test_leftovers_are_collected_by_the_next_writer(cache, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in (".record.json.0123.tmp", ".ranking.parquet.99.tmp", ".lock"):
        (out / name).write_text("half")
    make(cache, folder, output=out).save()
    assert sorted(os.listdir(out)) == sorted(FILES)


@pytest.mark.parametrize("name", ["config.yaml", "ranking.parquet", "per_query.parquet", "record.json"])
def test_a_save_that_dies_leaves_no_record_beside_other_files(cache, folder, tmp_path, monkeypatch, name):
    experiment = make(cache, folder, output=tmp_path / "out")
    experiment.save()
    real = os.replace

    def refuse(a, b):
        if Path(b).name == name:
            raise OSError("disk full")
        real(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="disk full"):
            make(cache, folder, output=tmp_path / "out").save()
    assert not (tmp_path / "out" / "record.json").exists()
    make(cache, folder, output=tmp_path / "out").save()
    Record.open(tmp_path / "out").verify(tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == sorted(FILES)


def test_who_replaces_a_record_of_other_code_says_so(cache, folder, tmp_path, caplog, monkeypatch):
    make(cache, folder, output=tmp_path / "out").save()
    make(cache, folder, output=tmp_path / "out").save()
    assert "is replaced" not in caplog.text
    real = stage_module.sources_of
    monkeypatch.setattr(stage_module, "sources_of", lambda kind, settings: {**real(kind, settings), "hash": "other"})
    make(cache, folder, output=tmp_path / "out").save()
    assert "a record of the same settings and other code (of encode documents, " in caplog.text
    assert "nDCG@10 1.0000 -> 1.0000" in caplog.text
