"""Sweeps over the small collection of the experiments' tests."""

import subprocess
from pathlib import Path

import pytest
import yaml

from colbert_research.settings import merge, parse_overrides
from colbert_research.sweep import sweep as sweep_module
from tests.experiment.small import SETTINGS, TINY, write_folder
from tests.warm import Program


@pytest.fixture
def data(tmp_path) -> Path:
    return write_folder(tmp_path / "fruit")


@pytest.fixture
def write(tmp_path, data):
    """Writes the file of a sweep over the small collection, with what is given beside its base; gives its path."""

    def written(name: str = "bits", **given) -> Path:
        settings = merge(parse_overrides(SETTINGS), {"dataset": {"path": str(data)}})
        (tmp_path / "base.yaml").write_text(yaml.safe_dump({"extends": str(TINY), **settings}))
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"base": "base.yaml", **(given or {"grid": {"codec.nbits": [1, 2, 4]}})}))
        return path

    return written


class Warm:
    """What `pool` asks of `subprocess`; a sweep's server is a fork of a process that has imported everything already."""

    PIPE = subprocess.PIPE

    @staticmethod
    def Popen(command, **more):
        if command[-1] == "colbert_research.sweep.server":
            return Program("from colbert_research.sweep.server import serve; serve()", stderr=None)
        return subprocess.Popen(command, **more)


@pytest.fixture
def warm_server(monkeypatch):
    monkeypatch.setattr("colbert_research.sweep.pool.subprocess", Warm)


@pytest.fixture
def here(monkeypatch):
    """Runs are executed in this process, without notebooks; a list of those that were, as they are."""
    executed = []

    def execute(runs, *, ended, **_):
        for run in runs:
            sweep_module._execute_here(run)
            executed.append(run.id)
            ended(run, run.state)

    monkeypatch.setattr(sweep_module, "execute", execute)
    return executed
