"""Where a sweep's paths lead, from whichever folder it is started, and whose a folder of records is."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from colbert_research.artifacts import cache_root
from colbert_research.settings import ConfigError, merge, parse_overrides
from colbert_research.sweep import Sweep
from tests.experiment.small import ROOT, SETTINGS, TINY, write_folder

NOTEBOOK = str(ROOT / "notebooks" / "evaluate.ipynb")


@pytest.fixture
def project(tmp_path):
    """A project with a sweep whose paths are seen from the sweep's file and from the project's root."""
    root = tmp_path / "project"
    for folder in ("configs/sweeps", "notebooks", "data"):
        (root / folder).mkdir(parents=True)
    (root / "pyproject.toml").touch()
    write_folder(root / "data" / "fruit")
    settings = merge(parse_overrides(SETTINGS), {"extends": str(TINY), "dataset": {"path": "data/nowhere"}})
    (root / "configs" / "base.yaml").write_text(yaml.safe_dump(settings))
    sweep = {"base": "../base.yaml", "grid": {"dataset.path": ["data/fruit"], "codec.nbits": [1, 2]}, "notebook": NOTEBOOK}
    (root / "configs" / "sweeps" / "bits.yaml").write_text(yaml.safe_dump(sweep))
    (tmp_path / "elsewhere").mkdir()
    return root


def test_it_does_not_matter_where_it_is_started(project, here, monkeypatch):
    """The same experiments, in the same folder: what was done from one working folder is done from another."""
    ids = []
    for cwd in (project, project / "notebooks", project.parent / "elsewhere"):
        monkeypatch.chdir(cwd)
        sweep = Sweep.load(os.path.relpath(project / "configs" / "sweeps" / "bits.yaml"))
        assert sweep.folder.resolve() == project / "experiments" / "bits"
        assert set(sweep.run()["state"]) == {"done"}
        ids.append([run.id for run in sweep.runs])
        summary = pd.read_csv(project / "experiments" / "bits" / "summary.csv")
        assert summary["run"].tolist() == ids[0]
        assert os.path.isabs(sweep.runs[0].task.config)
    assert here == ids[0]
    assert ids == [ids[0]] * 3


def test_the_working_folder_may_change_after_it_was_loaded(project, monkeypatch):
    monkeypatch.chdir(project)
    sweep, given = (Sweep.load("configs/sweeps/bits.yaml", folder=folder) for folder in (None, "records"))
    monkeypatch.setenv("COLBERT_RESEARCH_CACHE", "cache")
    cache = cache_root()
    monkeypatch.chdir(project.parent / "elsewhere")
    assert (sweep.folder, given.folder, cache) == (project / "experiments" / "bits", project / "records", project / "cache")
    assert {run.folder.parent for run in sweep.runs} == {project / "experiments" / "bits"}


@pytest.mark.parametrize("name", ["beside", "project", "working"])
def test_what_is_found_first_counts(project, monkeypatch, name):
    """Beside the file, then in the project, then in the working folder; the table has paths as they are written."""
    places = {"beside": project / "configs" / "sweeps", "project": project, "working": project.parent / "elsewhere"}
    monkeypatch.chdir(places["working"])
    (project / "data" / "fruit").rename(project / "data" / "away")
    for folder in list(places.values())[list(places).index(name) :]:
        write_folder(folder / "data" / "fruit", f"{{subject}} {folder.name} {{i}}")
    sweep = Sweep.load(project / "configs" / "sweeps" / "bits.yaml")
    found = {run.experiment.config.dataset.path for run in sweep.runs}
    assert found == {str(places[name] / "data" / "fruit") if name != "working" else "data/fruit"}
    assert {run.settings["dataset.path"] for run in sweep.runs} == {"data/fruit"}


def test_a_path_that_leads_nowhere_is_refused_with_what_it_was_taken_for(project, monkeypatch):
    monkeypatch.chdir(project.parent / "elsewhere")
    path = project / "configs" / "sweeps" / "bits.yaml"
    (project / "data" / "fruit").rename(project / "data" / "away")
    tried = [project / "configs" / "sweeps", project, project.parent / "elsewhere"]
    with pytest.raises(ConfigError, match=r"dataset\.path=data/fruit: there is no folder") as error:
        Sweep.load(path).plan()
    assert all(str(folder / "data" / "fruit") in str(error.value) for folder in tried)
    path.write_text(yaml.safe_dump({"base": "../bass.yaml", "grid": {"k": [5]}, "notebook": NOTEBOOK}))
    with pytest.raises(ConfigError, match=r"no base config '../bass.yaml': .*did you mean '.*base.yaml'") as error:
        Sweep.load(path).plan()
    assert str(project / "configs" / "bass.yaml") in str(error.value)


def test_paths_that_stand_for_no_folder_are_left_alone(write, tmp_path):
    sweep = Sweep.load(write(grid={"dataset.path": ["bundled"]}, notebook=NOTEBOOK), folder=tmp_path / "out")
    assert sweep.runs[0].experiment.config.dataset.path == "bundled"


@pytest.mark.slow
def test_by_papermill_from_the_folder_of_notebooks(project):
    """Where notebooks move to the project's root, and what is relative would lead elsewhere."""
    line = [sys.executable, "-m", "colbert_research", "run", "../configs/sweeps/bits.yaml", "--limit", "1"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=project / "notebooks", env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((project / "experiments" / "bits").glob("*/record.json"))) == 1
    assert not list((project / "notebooks").iterdir())


def test_a_folder_holds_the_records_of_one_sweep(write, tmp_path, here):
    """Another one's would overwrite its summary, whose rows are others."""
    grid = {"grid": {"codec.nbits": [1]}, "notebook": NOTEBOOK}
    first, out = write("bits", **grid), tmp_path / "out"
    Sweep.load(first, folder=out).run()
    summary = (out / "summary.csv").read_text()
    second = Sweep.load(write("more", grid={"codec.nbits": [2]}, notebook=NOTEBOOK), folder=out)
    for what in (second.run, second.report):
        with pytest.raises(
            ConfigError, match=rf"out holds the records and the summary of {first}; choose another --folder for"
        ):
            what()
    assert (out / "summary.csv").read_text() == summary
    assert len(here) == 1
    (tmp_path / "moved").mkdir()
    moved = first.rename(tmp_path / "moved" / "renamed.yaml")
    (tmp_path / "base.yaml").rename(tmp_path / "moved" / "base.yaml")
    assert set(Sweep.load(moved, folder=out).run()["state"]) == {"done"}, "a file that was renamed is the same sweep"
    assert json.loads((out / "sweep.json").read_text()) == {"name": "renamed", "file": str(moved)}


def test_two_sweeps_of_one_name_without_a_file(write, tmp_path, here):
    """As of Python, where the name is all that tells them."""
    sweep = Sweep.load(write(grid={"codec.nbits": [1]}, notebook=NOTEBOOK))
    out = tmp_path / "out"
    config = sweep.config.model_copy(update={"base": (str(tmp_path / "base.yaml"),)})
    Sweep(config, name="a", folder=out).run()
    Sweep(config, name="a", folder=out).run()
    with pytest.raises(ConfigError, match=r"out holds the records and the summary of the sweep 'a'; .* for b:"):
        Sweep(config, name="b", folder=out).run()
