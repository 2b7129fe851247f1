"""A sweep on two hosts with one shared folder: no run is executed twice, and a host that died is not waited for."""

import json
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from colbert_research.experiment import Record
from tests.experiment.small import ROOT
from tests.warm import COMMAND, Program

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")]
NOTEBOOK = str(ROOT / "notebooks" / "evaluate.ipynb")
GRID = {"grid": {"codec.nbits": [1, 4]}, "notebook": NOTEBOOK}
RUNS = 2
HOST = "import platform\nplatform.node = lambda: {!r}\n"
"""What makes all processes of a command believe that they are on another machine."""


def command(sweep: Path, folder: Path, jobs: int = 1, host: str = "one") -> Program:
    words = ["run", str(sweep), "--folder", str(folder), "--jobs", str(jobs)]
    return Program(HOST.format(host) + COMMAND, *words)


def finished(folder: Path) -> dict[str, bytes]:
    """The records that are there, each whole."""
    for file in folder.glob("*/record.json"):
        Record.open(file.parent).verify(file.parent)
    return {file.parent.name: file.read_bytes() for file in folder.glob("*/record.json")}


def test_two_hosts_share_the_work(write, tmp_path):
    """No run is executed twice, as the log of each says, and both end with all of it."""
    path, out = write(**GRID), tmp_path / "out"
    both = [command(path, out, jobs=1, host=host) for host in ("one", "another")]
    for process in both:
        said = "\n".join(process.communicate(timeout=300))
        assert process.returncode == 0, said
    assert len(finished(out)) == RUNS
    for folder in out.glob("*/"):
        log = (folder / "stdout.log").read_text()
        assert log.count("rank/") == 1, log
        assert json.loads((folder / "record.json").read_text())["metrics"]
    assert sorted(pd.read_csv(out / "summary.csv")["run"]) == sorted(finished(out))


def test_a_host_that_died_is_not_waited_for(write, tmp_path):
    """Its lock names a process that nobody here can ask after; that it can be taken tells that it is nobody's."""
    path, out = write(**GRID), tmp_path / "out"
    process, deadline = command(path, out, jobs=1, host="one"), time.monotonic() + 200
    while not (locks := list(out.glob("*/.run.lock"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    main = psutil.Process(process.pid)
    for victim in [main, *main.children(recursive=True)]:
        victim.suspend()
    for victim in [*main.children(recursive=True), main]:
        victim.kill()
    process.communicate(timeout=60)
    assert json.loads(locks[0].read_text())["host"] == "one"
    before = finished(out)
    again = command(path, out, host="another")
    said = "\n".join(again.communicate(timeout=300))
    assert again.returncode == 0, said
    assert len(finished(out)) == RUNS
    assert before.items() <= finished(out).items()
    assert not list(out.glob("*/.*"))
