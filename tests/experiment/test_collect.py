"""What lies in the cache, and what of it is removed: nothing that a record names, that is young, or that a process has open."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from colbert_research.cache import StageCache
from colbert_research.cli import main
from colbert_research.experiment.collect import kept, remove, table, unneeded
from colbert_research.index.structures import OUTSIDE
from tests.experiment.small import make


@pytest.fixture
def filled(cache, folder, tmp_path):
    """Two experiments, of which one has a record; all artifacts were last used ten days ago."""
    make(cache, folder, "codec.nbits=2", tmp_path / "experiments" / "a").save()
    make(cache, folder, "codec.nbits=1").run("rank")
    found = StageCache(cache)
    for path in cache.glob("*/*"):
        os.utime(path, (time.time() - 10 * 86_400,) * 2)
    return found


def names(artifacts) -> list[str]:
    return [each.artifact.kind for each in artifacts]


def test_what_lies_there(filled, tmp_path):
    lying = kept(filled, [tmp_path / "experiments"])
    assert names(lying) == ["encode", "encode", "cluster", "index", "index", "rank", "rank"]
    shown = table(lying)
    assert shown["artifacts"].to_dict() == {"encode": 2, "cluster": 1, "index": 2, "rank": 2}
    assert shown["in records"].to_dict() == {"encode": 2, "cluster": 1, "index": 1, "rank": 1}
    assert shown["oldest, days"].tolist() == pytest.approx([10] * 4, abs=0.2)
    assert sum(each.bytes for each in lying) == sum(p.stat().st_size for e in lying for p in e.artifact.path.rglob("*.*"))


def test_structures_of_read_only_indexes(filled, tmp_path):
    """They lie in the cache under a kind of their own; they are listed, and removed as what no record names is."""

    def fill(folder):
        (folder / "a.npy").write_bytes(bytes(1000))
        return {}

    path = filled.put(OUTSIDE, "0123", fill).path
    lying = kept(filled, [])
    assert names(lying)[-1] == OUTSIDE
    assert table(lying).loc[OUTSIDE, ["artifacts", "in records"]].tolist() == [1, 0]
    assert OUTSIDE not in names(unneeded(lying, days=7)), "it is young"
    os.utime(path, (time.time() - 10 * 86_400,) * 2)
    with open(path / "a.npy", "rb"):
        assert OUTSIDE not in names(unneeded(kept(filled, []), days=7)), "somebody has it open"
    old = [each for each in unneeded(kept(filled, []), days=7) if each.artifact.kind == OUTSIDE]
    assert remove(filled, old) >= 1000
    assert not path.exists()


def test_what_was_found_is_young(filled, cache, folder, tmp_path):
    make(cache, folder, "codec.nbits=1").run("rank")
    assert not unneeded(kept(filled, [tmp_path / "experiments"]), days=7)


def test_what_records_name_stays(filled, cache, folder, tmp_path):
    old = unneeded(kept(filled, []), days=7)
    assert names(old) == ["index", "rank"], "wherever the record was saved"
    assert not unneeded(kept(filled, [tmp_path / "experiments"]), days=11)
    assert remove(filled, old) == sum(each.bytes for each in old)
    assert names(kept(filled, [tmp_path / "experiments"])) == ["encode", "encode", "cluster", "index", "rank"]
    assert set(make(cache, folder, "codec.nbits=2").plan()["state"]) == {"cached"}


def test_what_is_used_while_somebody_is_asked_stays(filled, cache, folder, tmp_path):
    old = unneeded(kept(filled, []), days=7)
    make(cache, folder, "codec.nbits=1").run("rank")
    assert remove(filled, old) == 0


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system tells of open files through /proc")
def test_what_a_process_has_open_stays(filled, tmp_path):
    (index,) = [e for e in unneeded(kept(filled, [tmp_path / "experiments"]), days=7) if e.artifact.kind == "index"]
    mapped = next(index.artifact.path.rglob("residuals.npy"))
    hold = "import sys, numpy as np; a = np.load(sys.argv[1], mmap_mode='r'); print('open', flush=True); sys.stdin.read()"
    line = [sys.executable, "-c", hold, str(mapped)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        assert names(unneeded(kept(filled, [tmp_path / "experiments"]), days=7)) == ["rank"]
        other.communicate("")
    assert names(unneeded(kept(filled, [tmp_path / "experiments"]), days=7)) == ["index", "rank"]


def test_from_the_shell(filled, tmp_path, monkeypatch):
    monkeypatch.setenv("COLBERT_RESEARCH_CACHE", str(filled.root))
    monkeypatch.chdir(tmp_path)
    run = CliRunner()
    assert "encode" in run.invoke(main, ["cache", "list"]).output
    said = run.invoke(main, ["cache", "gc"], input="n\n").output
    assert "Remove these 2 artifacts, 0.00 GB, which no record names?" in said
    assert said.endswith("nothing is removed\n")
    assert "removed 0.00 GB" in run.invoke(main, ["cache", "gc", "--yes"]).output
    assert len(kept(filled, [])) == 5
    refused = run.invoke(main, ["cache", "gc", "--records", "nowhere", "--yes"])
    assert refused.exit_code == 1
    assert "no folder 'nowhere', where records are looked for" in refused.output
