"""Files that are whole or absent, and stages that are computed once, whoever asks and whoever dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from colbert_research.artifacts import (
    CACHE_VARIABLE,
    StageCache,
    atomic_folder,
    folder_bytes,
    read_json,
    sha256_file,
    write_json,
    write_text,
)

WORKER = """
import sys, time
from pathlib import Path
from colbert_research.artifacts import StageCache

root, name, behaviour = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def compute(folder):
    with open(root / "log", "a") as log:
        log.write(name + "\\n")
    if behaviour == "hang":
        (folder / "part").write_text("half")
        (root / "hanging").touch()
        time.sleep(120)
    if behaviour == "pair":  # wait for the other to come to the door, so that only the lock keeps it out
        end = time.monotonic() + 30
        while len(list(root.glob("ready.*"))) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3)
    resumed = (folder / "part").exists()
    (folder / "result").write_text(name)
    return {"by": name, "resumed": resumed}

(root / f"ready.{name}").touch()
found = StageCache(root / "stages").run("encode", {"a": 1}, compute)
print(found.notes["by"], found.hit, found.notes["resumed"])
"""


def worker(root: Path, name: str, behaviour: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", WORKER, str(root), name, behaviour], stdout=subprocess.PIPE, text=True)


def refuse(*_):
    raise OSError("disk full")


def test_json_is_put_in_place_at_once(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"b": "é", "a": [1]})
    assert path.read_text(encoding="utf-8") == '{\n "a": [\n  1\n ],\n "b": "é"\n}\n'
    assert os.listdir(tmp_path) == ["a.json"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="disk full"):
            write_json(path, {"new": 1})
    assert read_json(path) == {"a": [1], "b": "é"}
    assert [p.name for p in tmp_path.glob("[!.]*")] == ["a.json"], "what is left behind is hidden"
    assert list(tmp_path.glob("*.json")) == [path]
    write_text(path, "{}")
    assert read_json(path) == {}


@pytest.mark.parametrize("value", [{"x": float("nan")}, {"x": object()}])
def test_what_is_not_json_changes_nothing(tmp_path, value):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == 1
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "target"
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        (folder / "x").write_text("1")
        raise RuntimeError
    assert os.listdir(target.parent) == []
    with atomic_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "x").write_text("123")
        assert not target.exists()
    assert os.listdir(target.parent) == ["target"]
    assert folder_bytes(target) == 3
    assert sha256_file(target / "sub" / "x") == "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"
    with pytest.raises(OSError), atomic_folder(target) as folder:
        (folder / "y").write_text("2")
    assert os.listdir(target.parent) == ["target"]
    assert os.listdir(target) == ["sub"]


def test_a_stage_is_computed_once(tmp_path):
    cache, calls = StageCache(tmp_path), []

    def compute(folder: Path):
        calls.append(folder)
        assert not (folder / "done.json").exists()
        assert read_json(folder / "depends_on.json") == {"a": 1}
        (folder / "x").write_text("1")
        return {"seconds": 2}

    first, second = (cache.run("encode", {"a": 1}, compute) for _ in range(2))
    assert len(calls) == 1
    assert (first.hit, second.hit) == (False, True)
    assert first.path == second.path == calls[0] == tmp_path / "encode" / cache.key("encode", {"a": 1})
    assert first.notes == second.notes == {"seconds": 2}
    assert cache.has("encode", first.key)
    assert not cache.has("index", first.key)


@pytest.mark.parametrize("crash", [RuntimeError, KeyboardInterrupt])
def test_a_crash_leaves_no_result_and_the_next_run_takes_it_up(tmp_path, crash):
    cache = StageCache(tmp_path)

    def dies(folder: Path):
        (folder / "part").write_text("half")
        raise crash

    with pytest.raises(crash):
        cache.run("encode", 1, dies)
    assert not list(tmp_path.rglob("done.json"))
    assert not cache.has("encode", cache.key("encode", 1))
    found = cache.run("encode", 1, lambda folder: {"part": (folder / "part").read_text()})
    assert (found.hit, found.notes) == (False, {"part": "half"})


def test_notes_that_are_not_json_do_not_finish_a_stage(tmp_path):
    cache = StageCache(tmp_path)
    with pytest.raises(TypeError):
        cache.run("encode", 1, lambda _: {"x": object()})
    assert not cache.has("encode", cache.key("encode", 1))


def test_a_failed_rename_of_done_json_does_not_finish_a_stage(tmp_path, monkeypatch):
    cache, real = StageCache(tmp_path), os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda a, b: refuse() if Path(b).name == "done.json" else real(a, b))
        with pytest.raises(OSError, match="disk full"):
            cache.run("encode", 1, lambda _: {})
    assert not cache.has("encode", cache.key("encode", 1))
    assert cache.run("encode", 1, lambda _: {}).hit is False


def test_the_key_changes_with_every_dependency(tmp_path):
    cache = StageCache(tmp_path)
    base = {"config": {"dim": 2, "kind": "x"}, "version": 1, "input": "abc"}
    others = [
        base | {"version": 2},
        base | {"input": "abd"},
        base | {"config": {"dim": 3, "kind": "x"}},
        base | {"config": {"dim": "2", "kind": "x"}},
        base | {"more": None},
    ]
    keys = [cache.key("encode", value) for value in (base, *others)] + [cache.key("index", base)]
    assert len(set(keys)) == len(keys)
    assert cache.key("encode", {"input": "abc", "version": 1, "config": {"kind": "x", "dim": 2}}) == keys[0]
    assert StageCache(tmp_path / "elsewhere").key("encode", base) == keys[0]


def test_the_default_cache(tmp_path, monkeypatch):
    assert StageCache.default().root == tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, "~/mine")
    assert StageCache.default().root == Path.home() / "mine"
    monkeypatch.setenv(CACHE_VARIABLE, "")
    assert StageCache.default().root == Path.home() / ".cache" / "colbert_research"


def test_two_processes_compute_one_stage_once(tmp_path):
    both = [worker(tmp_path, name, "pair") for name in ("one", "two")]
    try:
        said = [process.communicate(timeout=60)[0].split() for process in both]
    finally:
        for process in both:
            process.kill()
    (winner,) = (tmp_path / "log").read_text().split()
    assert [words[0] for words in said] == [winner, winner]
    assert sorted(words[1] for words in said) == ["False", "True"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_process_frees_its_lease(tmp_path):
    with worker(tmp_path, "first", "hang") as victim:
        end = time.monotonic() + 30
        while not (tmp_path / "hanging").exists() and time.monotonic() < end:
            time.sleep(0.01)
        victim.send_signal(signal.SIGKILL)
        assert victim.wait(timeout=30) == -signal.SIGKILL
    assert not list(tmp_path.rglob("done.json"))
    with worker(tmp_path, "second", "plain") as heir:
        try:
            assert heir.communicate(timeout=60)[0].split() == ["second", "False", "True"]
        finally:
            heir.kill()
    assert (tmp_path / "log").read_text().split() == ["first", "second"]
