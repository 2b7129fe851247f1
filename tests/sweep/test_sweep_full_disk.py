"""A sweep on a full disk: nothing that was finished is lost, nothing is taken for done, and it says what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from colbert_research import artifacts
from colbert_research.experiment import Record
from colbert_research.sweep import State, Sweep, tasks
from colbert_research.sweep.engine import WholeFiles
from colbert_research.sweep.full import DiskFullError, is_full
from tests.experiment.small import ROOT
from tests.warm import COMMAND, Program

NOTEBOOK = str(ROOT / "notebooks" / "evaluate.ipynb")
GRID = {"grid": {"codec.nbits": [1, 4]}, "notebook": NOTEBOOK}


def full(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(122, "Disk quota exceeded"), True),
        (RuntimeError("fwrite failed: No space left on device"), True),
        (OSError(2, "No such file or directory"), False),
        (ValueError("28"), False),
    ],
)
def test_which_errors_say_so(error, expected):
    assert is_full(error) is expected
    try:
        try:
            raise error
        except (OSError, RuntimeError, ValueError) as inner:
            raise KeyError("outer") from inner
    except KeyError as outer:
        assert is_full(outer) is expected


def test_a_notebook_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    file, handler = tmp_path / "notebook.ipynb", WholeFiles()
    handler.write("before", str(file))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(artifacts.os, "replace", full)
        handler.write("after", str(file))
    assert file.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["notebook.ipynb"], "and nothing half-written"


@pytest.mark.parametrize("what", ["ranking", "record", "cache"])
def test_a_run_has_not_failed_by_it(write, tmp_path, monkeypatch, here, what):
    """It is begun again without being asked for; the record that was there is there until there is another."""
    sweep = Sweep.load(write(**GRID), folder=tmp_path / "out")
    first, second = sweep.runs
    places = {
        "ranking": ("colbert_research.ranking.Ranking.to_parquet", full),
        "record": ("colbert_research.experiment.record.Record.text", full),
        "cache": ("colbert_research.cache.checksums", full),
    }
    sweep.run(only="codec.nbits=1")
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(*places[what])
        with pytest.raises(OSError, match="No space"):
            sweep.run()
        if what != "cache":
            with pytest.raises(OSError, match="No space"):
                first.experiment.save()
            first.experiment.output.release()
    assert second.state is State.CRASHED
    after = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    assert after == before
    assert Sweep.load(tmp_path / "bits.yaml", folder=tmp_path / "out").run()["state"].tolist() == ["done", "done"]


def test_the_others_are_not_begun(write, tmp_path, monkeypatch):
    """Each would fail the same way; what has begun is waited for."""
    sweep = Sweep.load(write(**GRID), folder=tmp_path / "out")
    statuses = iter([tasks.NO_ROOM])
    begun = []

    class Pool:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def begin(self, task, **_):
            begun.append(task)
            return len(begun)

        def wait(self, seconds):
            return [(len(begun), next(statuses))]

    monkeypatch.setattr("colbert_research.sweep.schedule.Pool", Pool)
    monkeypatch.setattr("colbert_research.sweep.schedule.shared_stages", lambda runs: {})
    with pytest.raises(DiskFullError, match=r"no room is left on a disk .*: 0 runs are done and stay so, 2 are left"):
        sweep.run()
    assert len(begun) == 1
    assert {run.state for run in sweep.runs} == {State.MISSING}


def mount(folder: Path, *options: str) -> bool:
    line = ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)]
    try:
        return subprocess.run(line, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(("what", "size"), [("out", "56k"), *([("cache", "200k")] if os.environ.get("ALL_TRIALS") else [])])
def test_a_disk_that_is_really_full(write, tmp_path, monkeypatch, what, size):
    """A small one, in memory; by papermill, whose notebooks it takes too."""
    place = tmp_path / what
    place.mkdir()
    if sys.platform != "linux" or not mount(place, "-o", f"size={size}"):
        pytest.skip("needs the right to mount a disk in memory")
    try:
        if what == "cache":
            compiled = Path(os.environ["COLBERT_RESEARCH_CACHE"]) / "numba"
            monkeypatch.setenv("COLBERT_RESEARCH_CACHE", str(place))
            if compiled.exists():
                (place / "numba").symlink_to(compiled.resolve(), target_is_directory=True)
        path, folder = write(**GRID), tmp_path / "out"
        ran = Program(COMMAND, "run", path, "--folder", folder)
        said, errors = ran.communicate(timeout=300)
        assert ran.returncode == 1
        assert "no room is left on a disk" in errors, said + errors
        before = {}
        for run in Sweep.load(path, folder=folder).runs:
            assert run.state in (State.DONE, State.CRASHED, State.MISSING)
            if run.state is State.DONE:
                Record.open(run.folder).verify(run.folder)
                before[run.id] = (run.folder / "record.json").read_bytes()
            if (notebook := run.folder / "notebook.ipynb").exists():
                nbformat.validate(nbformat.reads(notebook.read_text(), as_version=4))
        assert len(before) < 2
        assert mount(place, "-o", "remount,size=100m")
        ran = Program(COMMAND, "run", path, "--folder", folder)
        said, errors = ran.communicate(timeout=300)
        assert ran.returncode == 0, said + errors
        sweep = Sweep.load(path, folder=folder)
        assert {run.state for run in sweep.runs} == {State.DONE}
        assert all((folder / id / "record.json").read_bytes() == record for id, record in before.items())
        assert json.loads((sweep.runs[1].folder / "notebook.ipynb").read_text())["cells"][-1]["outputs"]
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)
