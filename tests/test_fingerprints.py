"""Hashes of files that are remembered for as long as the files are the same."""

import os
import time

import pytest

from colbert_research import fingerprints
from colbert_research.artifacts import cache_root
from colbert_research.fingerprints import files_hash, remembered


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch, tmp_path):
    monkeypatch.setenv("COLBERT_RESEARCH_CACHE", str(tmp_path / "cache"))  # other tests remember, too
    monkeypatch.setattr(fingerprints, "_known", {})


@pytest.fixture
def _later(monkeypatch):
    """A clock that is a minute ahead: files that were just written have settled."""
    monkeypatch.setattr(fingerprints.time, "time_ns", lambda now=time.time_ns: now() + 60 * 10**9)


def aged(path, text: str, *, seconds: float):
    path.write_text(text)
    past = path.stat().st_mtime - seconds
    os.utime(path, (past, past))
    return path


@pytest.mark.usefixtures("_later")
def test_an_answer_is_computed_once_for_the_same_files(tmp_path, monkeypatch):
    file, calls = aged(tmp_path / "a", "1", seconds=10), []

    def ask(question="size/1", settings=None):
        return remembered(question, settings, [file], lambda: calls.append(1) or {"size": file.stat().st_size})

    assert ask() == ask() == {"size": 1}
    monkeypatch.setattr(fingerprints, "_known", {})  # another process
    assert ask() == {"size": 1}
    assert len(calls) == 1
    ask(settings={"a": 1})
    ask("size/2")
    assert len(calls) == 3
    aged(file, "22", seconds=5)
    assert ask() == {"size": 2}
    aged(file, "33", seconds=4)  # the same size
    ask()
    assert len(calls) == 5


@pytest.mark.parametrize("seconds", [0, 10], ids=["just written", "time of change set back"])
def test_a_file_that_just_changed_is_not_remembered(tmp_path, seconds):
    file, calls = aged(tmp_path / "a", "1", seconds=seconds), []
    for _ in range(2):
        remembered("size/1", None, [file], lambda: calls.append(1))
    assert len(calls) == 2


@pytest.mark.usefixtures("_later")
def test_a_change_that_keeps_size_and_time_of_change_is_seen(tmp_path):
    file = aged(tmp_path / "a", "1", seconds=10)
    remembered("text/1", None, [file], file.read_text)
    times = file.stat()
    file.write_text("2")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert remembered("text/1", None, [file], file.read_text) == "2"


@pytest.mark.usefixtures("_later")
@pytest.mark.parametrize("damage", ["", "{", "[]", '{"files": []}', '{"answer": 3, "check": "e3b0c44298fc"}'])
def test_a_damaged_answer_is_computed_again(tmp_path, monkeypatch, damage):
    file = aged(tmp_path / "a", "1", seconds=10)
    assert remembered("size/1", None, [file], lambda: 1) == 1
    monkeypatch.setattr(fingerprints, "_known", {})
    (answer,) = (cache_root() / "fingerprints").glob("size-*.json")
    answer.write_text(damage)
    assert remembered("size/1", None, [file], lambda: 2) == 2


def test_without_a_cache_that_can_be_written_an_answer_is_still_given(tmp_path, monkeypatch):
    file = aged(tmp_path / "a", "1", seconds=10)
    monkeypatch.setenv("COLBERT_RESEARCH_CACHE", str(file))  # no folder can be made there
    assert remembered("size/1", None, [file], lambda: 1) == 1


def test_a_hash_of_files_depends_on_names_and_contents(tmp_path):
    one, two = aged(tmp_path / "a", "1", seconds=10), aged(tmp_path / "b", "2", seconds=10)
    before = files_hash(tmp_path, [one, two])
    assert before == files_hash(tmp_path, [two, one])
    assert before != files_hash(tmp_path, [one])
    two.rename(tmp_path / "c")
    assert before != files_hash(tmp_path, [one, tmp_path / "c"])
    aged(tmp_path / "c", "3", seconds=9).rename(two)
    assert before != files_hash(tmp_path, [one, two])
