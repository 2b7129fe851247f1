"""A sweep that is killed anywhere, or executed by several at once, loses no run, takes none for done, and ends the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from colbert_research import threads
from colbert_research.experiment import Record, RecordError
from colbert_research.locks import Lock
from colbert_research.sweep import Sweep
from tests.experiment.small import ROOT
from tests.warm import COMMAND, Program

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")]
NOTEBOOK = str(ROOT / "notebooks" / "evaluate.ipynb")
GRID = {"grid": {"codec.nbits": [1, 4]}, "notebook": NOTEBOOK}
ROUNDS, KILLS = (34, 3) if os.environ.get("ALL_TRIALS") else (1, 1)
RUNS, JOBS = 2, min(2, threads.available())


STARTED = "import sys; from colbert_research.cli import main; main(sys.argv[1:])"
"""The command, whose servers are started as they are started by users."""


def command(sweep: Path, folder: Path, jobs: int = JOBS, source: str = COMMAND) -> Program:
    return Program(source, "run", sweep, "--folder", folder, "--jobs", jobs)


def finished(folder: Path) -> dict[str, bytes]:
    """The records that are there; each is whole, and that of its folder."""
    found = {}
    for file in folder.glob("*/record.json"):
        try:
            record = Record.open(file.parent)
        except (FileNotFoundError, RecordError) as error:
            raise AssertionError(f"{file} is taken for done: {error}") from error
        record.verify(file.parent)
        assert record.id == file.parent.name
        found[record.id] = file.read_bytes()
    return found


def kill_one(process: Program, rng: random.Random) -> str:
    """Kill the command, its server or one that executes a notebook; says which."""
    try:
        main = psutil.Process(process.pid)
        descendants = main.children(recursive=True)
        victim = rng.choice([main, *descendants])
        victim.kill()
        return "command" if victim is main else "server" if victim.parent() == main else "worker"
    except psutil.NoSuchProcess:
        return "nobody"


def two_at_once_share_the_work(path: Path, out: Path) -> None:
    """No run is executed twice, as the log of each says, and both commands end with all of it."""
    both = [command(path, out, jobs=1) for _ in range(2)]
    for process in both:
        said = "\n".join(process.communicate(timeout=300))
        assert process.returncode == 0, said
    assert len(finished(out)) == RUNS
    for folder in out.glob("*/"):
        log = (folder / "stdout.log").read_text()
        assert log.count("rank/") == 1, log
        assert json.loads((folder / "record.json").read_text())["metrics"]


def test_killed_at_random_moments(write, tmp_path):
    """The same summary as of two left alone, after every round; what was recorded stays, and is whole."""
    rng, path = random.Random(7), write(**GRID)
    two_at_once_share_the_work(path, tmp_path / "whole")
    expected = (tmp_path / "whole" / "summary.csv").read_text()
    for number in range(ROUNDS):
        out, victims = tmp_path / f"round{number}", []
        for _ in range(KILLS):
            before = finished(out)
            process = command(path, out)
            time.sleep(rng.uniform(0.5, 4))
            victims.append(kill_one(process, rng))
            process.communicate(timeout=300)
            assert before.items() <= finished(out).items(), victims
        before, last = finished(out), command(path, out)
        said = "\n".join(last.communicate(timeout=300))
        assert last.returncode == 0, f"{victims}: {said}"
        assert before.items() <= finished(out).items(), victims
        assert len(finished(out)) == RUNS
        assert (out / "summary.csv").read_text() == expected, victims
        assert not list(out.glob("*/.*")), "nothing is left behind"


def test_the_command_is_interrupted(write, tmp_path):
    path, out = write(**GRID), tmp_path / "out"
    held = Sweep.load(path, folder=out).runs[1].folder
    held.mkdir(parents=True)
    lock = Lock(held / ".run.lock", "hold")
    assert lock.try_acquire(), "so that it cannot end before it is interrupted"
    process = command(path, out)
    deadline = time.monotonic() + 120
    while not list(out.glob("*/stdout.log")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = "\n".join(process.communicate(timeout=120))
    lock.release()
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "The same command continues" in said
    before = finished(out)
    again = command(path, out)
    said = "\n".join(again.communicate(timeout=300))
    assert again.returncode == 0, said
    assert before.items() <= finished(out).items()


def test_what_another_process_had_is_taken_over_when_it_dies(write, tmp_path):
    """A run whose lock a live process holds is waited for; when that dies without a record, it is executed."""
    sweep = Sweep.load(write(grid={"codec.nbits": [2]}, notebook=NOTEBOOK), folder=tmp_path / "out")
    (run,) = sweep.runs
    hold = (
        "import sys, time; from pathlib import Path; from colbert_research.locks import Lock\n"
        "lock = Lock(Path(sys.argv[1]), 'hold'); assert lock.try_acquire(); print('held', flush=True); time.sleep(100)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", hold, str(run.folder / ".run.lock")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=env) as other:
        assert other.stdout.readline() == "held\n"
        assert sweep.plan().words().startswith("1 run: 1 running")
        process = command(tmp_path / "bits.yaml", tmp_path / "out")
        time.sleep(4)
        assert process.poll() is None, "it waits"
        other.kill()
        said = "\n".join(process.communicate(timeout=120))
        assert process.returncode == 0, said
    assert set(finished(tmp_path / "out")) == {run.id}


def test_the_server_is_killed(write, tmp_path):
    """While it imports, and while a worker of its is under way: a new one is started, and what a worker continues is waited
    for. The command hung in 10 of 10."""
    path, out = write(**GRID), tmp_path / "out"
    process = command(path, out, jobs=1, source=STARTED)
    for begun in (False, True):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            servers = psutil.Process(process.pid).children()
            if servers and (not begun or servers[0].children()):
                break
            time.sleep(0.05)
        servers[0].kill()
        time.sleep(0.5)
    said = "\n".join(process.communicate(timeout=300))
    assert process.returncode == 0, said
    assert len(finished(out)) == RUNS


@pytest.mark.usefixtures("warm_server")
def test_a_base_that_is_edited_meanwhile(write, tmp_path):
    """Its runs would be other experiments under these ids."""
    path, out = write(grid={"codec.nbits": [2]}, notebook=NOTEBOOK), tmp_path / "out"
    sweep = Sweep.load(path, folder=out)
    (run,) = sweep.runs
    base = (tmp_path / "base.yaml").read_text()
    (tmp_path / "base.yaml").write_text(f"{base}seed: 7\n")
    table = sweep.run(look=0.05)
    assert "were changed since the sweep was planned" in table["failure"].iloc[0]
    assert not (run.folder / "record.json").exists()
    (tmp_path / "base.yaml").write_text(base)
    assert sweep.run(look=0.05, retry=True)["state"].tolist() == ["done"]
