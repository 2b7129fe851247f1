"""A sweep that the workers of an executor execute: each is one more `run` over the shared folder."""

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import Literal

import pytest

from colbert_research.cli import main
from colbert_research.config import Config
from colbert_research.executors import EXECUTORS
from colbert_research.settings import ConfigError
from colbert_research.sweep import Sweep
from tests.executors.test_slurm import sbatch as sbatch
from tests.experiment.small import ROOT

NOTEBOOK = str(ROOT / "notebooks" / "evaluate.ipynb")
GRID = {"grid": {"codec.nbits": [1, 4]}, "notebook": NOTEBOOK}


class HereConfig(Config):
    kind: Literal["here"] = "here"

    @contextmanager
    def start(self, shared=()):
        assert len(shared) == 2
        yield self

    def workers(self) -> int:
        return 2

    def map(self, function, items):
        for item in items:
            yield item, function(item)


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(EXECUTORS, "here", HereConfig)


def test_every_worker_takes_what_it_finds(write, tmp_path, here, caplog):
    caplog.set_level("INFO")
    sweep = Sweep.load(write(**GRID), folder=tmp_path / "out")
    table = sweep.run(executor="here", only="codec.nbits=4", look=0.01)
    assert table["state"].tolist() == ["missing", "done"]
    assert set(sweep.run(executor="here", look=0.01)["state"]) == {"done"}
    assert sorted(here) == sorted(run.id for run in sweep.runs), "none is executed twice"
    assert (tmp_path / "out" / "summary.csv").read_text().count("\n") == 3
    assert "2 workers" not in caplog.text, "no more than there are runs"
    assert "1 workers (here) for 1 runs" in caplog.text


def test_those_that_failed(write, tmp_path, here, monkeypatch):
    from colbert_research.experiment import Experiment

    sweep = Sweep.load(write(**GRID), folder=tmp_path / "out")
    real = Experiment.save
    monkeypatch.setattr(Experiment, "save", lambda self: 1 / 0)
    assert set(sweep.run(executor="here", look=0.01)["failure"]) == {"ZeroDivisionError: division by zero"}
    monkeypatch.setattr(Experiment, "save", real)
    assert set(sweep.run(executor="here", look=0.01)["state"]) == {"failed"}
    assert set(sweep.run(executor="here", look=0.01, retry=True)["state"]) == {"done"}


def test_what_is_refused(write, tmp_path):
    path = write(**GRID)
    sweep = Sweep.load(path, folder=tmp_path / "out")
    with pytest.raises(ConfigError, match=r"unknown executor kind 'rai'.*ray"):
        sweep.run(executor="rai workers=2")
    with pytest.raises(ConfigError, match="limit counts the runs of one process"):
        sweep.run(executor="here", limit=1)
    with pytest.raises(ConfigError, match=r"workers read the sweep from its file"):
        Sweep(sweep.config, folder=tmp_path / "out").run(executor="here")
    with pytest.raises(ConfigError, match=r"nobody waits for its jobs; use Sweep.submit"):
        sweep.run(executor="slurm")
    with pytest.raises(ConfigError, match=r"executor here is waited for: use Sweep.run"):
        sweep.submit("here")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a script of a shell")
def test_a_sweep_as_an_array_of_jobs(write, tmp_path, sbatch):
    """What `run --executor slurm` writes is executed; submitted again, nothing is left."""
    from click.testing import CliRunner

    path, out = write(**GRID), tmp_path / "out"
    words = ["run", str(path), "--folder", str(out), "--executor", "slurm workers=2 time=01:00:00"]
    said = CliRunner().invoke(main, words)
    assert said.exit_code == 0, said.output
    assert f"job 4711: 2 workers, which write into {out / 'slurm'}" in said.output
    script = sbatch.read_text().split()[-1]
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "0"}
    job = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, cwd="/", check=False, timeout=300)
    assert job.returncode == 0, job.stderr
    assert set(Sweep.load(path, folder=out).frame()["state"]) == {"done"}
    again = CliRunner().invoke(main, words)
    assert "nothing is left to run" in again.output
    assert not list(out.glob("*/.*"))
