"""The stage cache between processes: one computes, others wait and say for whom, and a killed one holds nobody up."""

import logging
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import pytest

from colbert_research.cache import NOTES, StageCache

WORKER = """
import sys, time
from pathlib import Path
from colbert_research.cache import StageCache

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
found, hit = StageCache(root / "stages").run("encode", "a1", compute, resumes=len(sys.argv) > 4)
print(found.notes["by"], hit, found.notes["resumed"])
"""


def worker(root: Path, name: str, behaviour: str, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WORKER, str(root), name, behaviour, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
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
@pytest.mark.parametrize("resumes", [(), ("resumes",)], ids=str)
def test_a_killed_process_frees_its_lease(tmp_path, resumes):
    with worker(tmp_path, "first", "hang", *resumes) as victim:
        end = time.monotonic() + 30
        while not (tmp_path / "hanging").exists() and time.monotonic() < end:
            time.sleep(0.01)
        victim.send_signal(signal.SIGKILL)
        assert victim.wait(timeout=30) == -signal.SIGKILL
    assert not list(tmp_path.rglob(NOTES))
    with worker(tmp_path, "second", "plain", *resumes) as heir:
        try:
            assert heir.communicate(timeout=60)[0].split() == ["second", "False", str(bool(resumes))]
        finally:
            heir.kill()
    assert (tmp_path / "log").read_text().split() == ["first", "second"]
    assert not list((tmp_path / "stages").rglob(".*")), "nothing beside the artifact is left"


def test_who_waits_says_for_whom(tmp_path, caplog):
    caplog.set_level(logging.INFO, "colbert_research")
    with worker(tmp_path, "first", "hang") as other:
        end = time.monotonic() + 30
        while not (tmp_path / "hanging").exists() and time.monotonic() < end:
            time.sleep(0.01)
        Timer(0.5, other.kill).start()
        _, hit = StageCache(tmp_path / "stages").run("encode", "a1", lambda folder: {"by": "waiter"})
        other.wait(timeout=30)
    assert not hit
    assert f"encode a1: waiting for process {other.pid}" in caplog.text
