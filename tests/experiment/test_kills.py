"""Processes that are killed, or that meet: at any instant a record is whole and its own, and a later run finishes."""

import os
import random
import signal
import sys
import time

import pytest

from colbert_research.experiment import Record, RecordError
from tests.experiment.small import SETTINGS, TINY, make
from tests.warm import Program

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")]
SAVE = """
import sys
from pathlib import Path
from tests.experiment.small import make

experiment = make(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[4], Path(sys.argv[3]))
record = experiment.record
print("ready", flush=True)
while True:
    experiment.output.save(record, ranking=experiment.ranking, per_query=experiment.per_query)
"""
RUN = """
import sys
from colbert_research.experiment import start

experiment = start(sys.argv[1], sys.argv[2], sys.argv[3])
if len(sys.argv) > 4:
    print("ready", flush=True)
    sys.stdin.read(1)
experiment.save()
"""
FILES = {"config.yaml", "ranking.parquet", "per_query.parquet", "record.json"}


def test_killed_while_saving_again(cache, folder, tmp_path):
    """51 of 300 left a valid record beside an unreadable ranking."""
    rng, out, kills = random.Random(5), tmp_path / "out", 300 if os.environ.get("ALL_TRIALS") else 5
    first = make(cache, folder, output=out).save()
    for _ in range(kills):
        with Program(SAVE, cache, folder, out, "") as process:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            time.sleep(rng.uniform(0.0, 0.06))
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=30)
        if (out / "record.json").exists():
            record = Record.open(out)
            record.verify(out)
            assert record.id == first.id
    make(cache, folder, output=out).save()
    Record.open(out).verify(out)
    assert set(os.listdir(out)) == FILES


def test_two_experiments_that_save_into_one_folder_do_not_mix(cache, folder, tmp_path):
    """In 71 of 300 they mixed."""
    for overrides in ("", "codec.nbits=1"):
        make(cache, folder, overrides).run("rank")
    for _ in range(8 if os.environ.get("ALL_TRIALS") else 2):
        out = tmp_path / "out"
        both = [Program(SAVE, cache, folder, out, overrides) for overrides in ("", "codec.nbits=1")]
        for process in both:
            process.stdout.readline()  # one of them may have been refused since
        time.sleep(1.0)
        for process in both:
            process.kill()
        said = [process.communicate(timeout=30)[1] for process in both]
        assert sum("ConfigError" in text or "OutputInUseError" in text for text in said) == 1, said
        if (out / "record.json").exists():
            Record.open(out).verify(out)
        for path in out.iterdir():
            path.unlink()


def test_two_runs_with_one_output(folder, tmp_path):
    """In 8 of 8 a record was lost, with exit status 0: now the second is told, and fails."""
    arguments = (TINY, f"dataset.path={folder} {SETTINGS}", tmp_path / "out")
    with Program(RUN, *arguments, "wait") as first:
        assert first.stdout.readline() == "ready\n" or first.stdout.readline()
        with Program(RUN, *arguments) as second:
            _, said = second.communicate(timeout=120)
            assert second.returncode != 0
            assert f"is being written by process {first.pid}" in said
        _, said = first.communicate("x", timeout=120)
        assert first.returncode == 0, said
    Record.open(tmp_path / "out").verify(tmp_path / "out")


def test_a_run_whose_process_was_killed_frees_its_output(folder, tmp_path):
    arguments = (TINY, f"dataset.path={folder} {SETTINGS}", tmp_path / "out")
    with Program(RUN, *arguments, "wait") as first:
        first.stdout.readline()
        first.kill()
        first.wait(timeout=30)
        with pytest.raises((FileNotFoundError, RecordError)):
            Record.open(tmp_path / "out")
    with Program(RUN, *arguments) as second:
        _, said = second.communicate(timeout=120)
        assert second.returncode == 0, said
    Record.open(tmp_path / "out").verify(tmp_path / "out")
    assert set(os.listdir(tmp_path / "out")) == FILES | {"stdout.log"}


WRITES = """
import os, signal, sys
from pathlib import Path
from tests.experiment.small import make

left = int(sys.argv[3])
def dying(real):
    def call(*arguments, **more):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **more)
    return call
for name in ("rename", "replace", "fsync", "mkdir"):
    setattr(os, name, dying(getattr(os, name)))
experiment = make(Path(sys.argv[1]), Path(sys.argv[2]))
experiment.run("index")
print("finished after", int(sys.argv[3]) - left, "write points")
"""


def test_killed_at_every_write_point_of_the_index_stage(tmp_path, folder):
    """10 of 68 blocked the experiment for good."""
    cache = tmp_path / "stages"
    truth = make(tmp_path / "truth", folder).record
    make(cache, folder).run("cluster")
    point, died = 0, 0
    while True:
        point += 1 if os.environ.get("ALL_TRIALS") else 12
        with Program(WRITES, cache, folder, point) as process:
            said, errors = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        died += 1
        assert make(cache, folder).metrics == truth.metrics
        assert not [p for p in cache.rglob(".*") if ".resumes" not in p.name], f"left after point {point}"
        for kind in ("index", "rank"):
            import shutil

            shutil.rmtree(cache / kind)
    assert died >= (60 if os.environ.get("ALL_TRIALS") else 5), said
