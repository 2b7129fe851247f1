"""A sweep from its file to its table: planned, executed, resumed, read."""

import html
import json
import shutil
import sys

import nbformat
import pandas as pd
import pytest

from colbert_research import threads
from colbert_research.experiment import Record
from colbert_research.experiment.inspecting import inspect_command
from colbert_research.locks import Lock
from colbert_research.settings import ConfigError
from colbert_research.sweep import State, Sweep
from tests.experiment.small import ROOT
from tests.warm import PAPERMILL, Program

NOTEBOOK = str(ROOT / "notebooks" / "evaluate.ipynb")
GRID = {"grid": {"codec.nbits": [1, 2, 4]}, "notebook": NOTEBOOK}
pytestmark = pytest.mark.usefixtures("warm_server")  # test_sweep_kills.py starts servers as they are started


@pytest.fixture
def sweep(write, tmp_path):
    return lambda name="bits", **given: Sweep.load(write(name, **(given or GRID)), folder=tmp_path / "out")


def test_the_plan_says_what_is_left(sweep):
    planned = sweep().plan()
    assert planned.words() == (
        "3 runs: 3 to run (2 encodes, 1 clustering, 3 indexes), time not known before the first is done, 0.0 GB of cache"
    )
    table = planned.table()
    assert table["codec.nbits"].tolist() == [1, 2, 4]
    assert set(table["state"]) == {"missing"}
    assert set(table["needs"]) == {"encode documents, encode queries, cluster, index, rank"}
    assert "failure" not in table


@pytest.mark.slow
def test_from_the_file_to_the_table(sweep, tmp_path):
    made = sweep()
    table = made.run(jobs=min(2, threads.available()), look=0.05)
    assert table["state"].tolist() == ["done"] * 3
    assert table["codec.nbits"].tolist() == [1, 2, 4]
    for run in made.runs:
        record = Record.open(run.folder)
        record.verify(run.folder)
        assert record.id == run.id
        assert table.loc[run.id, "nDCG@10"] == record.metrics["nDCG@10"]
        notebook = nbformat.read(run.folder / "notebook.ipynb", as_version=4)
        assert "nDCG@10" in notebook.cells[-1].outputs[-1].data["text/plain"]
        assert "rank" in (run.folder / "stdout.log").read_text()
        assert sorted(path.name for path in run.folder.iterdir()) == [
            "config.yaml", "notebook.ipynb", "per_query.parquet", "ranking.parquet", "record.json", "stdout.log",
        ]  # fmt: skip
    # what two of them share was computed once, by itself, and found by all
    cached = [set(Record.open(run.folder).measured["cached"]) for run in made.runs]
    assert all({"encode documents", "encode queries", "cluster"} <= each for each in cached)
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert summary["codec.nbits"].tolist() == [1, 2, 4]
    assert summary["anisotropy"].tolist() == made.frame()["anisotropy"].tolist() == summary["anisotropy"].tolist()[:1] * 3
    assert not any("ms" in name or "seconds" in name for name in summary)

    # once more: nothing is executed; what was deleted is executed again, from the cache
    before = {run.id: (run.folder / "record.json").stat().st_mtime_ns for run in made.runs}
    shutil.rmtree(made.runs[1].folder)
    again = sweep()
    assert again.plan().words().startswith("3 runs: 2 done, 1 to run, about ")
    again.run(look=0.05)
    changed = [run.id for run in again.runs if (run.folder / "record.json").stat().st_mtime_ns != before[run.id]]
    assert changed == [made.runs[1].id]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "summary.csv"), summary)

    compared = again.compare(measures=["nDCG@10"])
    assert list(compared) == ["fruit"]
    assert compared["fruit"].table()["codec.nbits"].tolist() == [1, 2, 4]
    with pytest.raises(ConfigError, match="baseline: 'nobody' is no finished run of this sweep"):
        again.compare(baseline="nobody")
    page = again.report(baseline=made.runs[2].id)
    text = page.read_text()
    assert all(run.id in text for run in made.runs)
    assert "Against codec.nbits=4" in text
    assert "NaN" not in text and "NA&gt;" not in text
    comparison = again.compare(baseline=made.runs[2].id)["fruit"]
    for run in made.runs[:2]:
        (system,) = (name for name, facts in comparison.facts.items() if facts["record"] == run.id)
        for query_id in comparison.biggest_losers(system, 5)["query_id"]:
            assert html.escape(inspect_command(run.folder, query_id)) in text
    assert {path.suffix for path in page.parent.iterdir()} == {".html", ".csv", ".md", ".tex"}

    shutil.rmtree(page.parent)
    words = [ROOT / "notebooks" / "compare.ipynb", tmp_path / "compared.ipynb", "-p", "records", tmp_path / "out"]
    process = Program(PAPERMILL, *words, "-p", "baseline", made.runs[2].id, cwd=ROOT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    shown = nbformat.read(tmp_path / "compared.ipynb", as_version=4).cells
    assert "Against codec.nbits=4" in "".join(str(cell.get("outputs")) for cell in shown)


def test_points_that_are_one_experiment_are_one_run(sweep, caplog):
    caplog.set_level("INFO", "colbert_research")
    made = sweep(grid={"codec.nbits": [4, "4"], "seed": [42]}, notebook=NOTEBOOK)
    assert len(made.runs) == 1
    assert "is the experiment" in caplog.text


@pytest.mark.slow
def test_a_run_that_fails_is_a_row_with_its_last_line(sweep, tmp_path, write):
    """It is left alone until it is asked for, and the others are not kept from running."""
    (tmp_path / "own.py").write_text(
        "from typing import Literal\nfrom pathlib import Path\nfrom colbert_research.codecs import ExactConfig\n\n\n"
        "class Broken(ExactConfig):\n    kind: Literal['own:Broken'] = 'own:Broken'\n\n"
        "    def fit(self, *given, **more):\n"
        f"        if not Path({str(tmp_path / 'mended')!r}).exists():\n            raise RuntimeError('it broke')\n"
        "        return super().fit(*given, **more)\n"
    )
    given = {
        "points": [{"codec.kind": "own:Broken", "search.kind": "exhaustive"}, {"codec.nbits": 2}],
        "modules": "own.py", "notebook": NOTEBOOK,
    }  # fmt: skip
    try:
        made = sweep("own", **given)
        table = made.run(look=0.05)
        assert table["state"].tolist() == ["failed", "done"]
        assert table["failure"].iloc[0] == "RuntimeError: it broke"
        broken = made.runs[0]
        assert "it broke" in (broken.folder / "stdout.log").read_text()
        assert not (broken.folder / "record.json").exists()
        (tmp_path / "mended").touch()
        assert made.run(look=0.05)["state"].tolist() == ["failed", "done"], "not without being asked"
        assert made.run(retry=True, look=0.05)["state"].tolist() == ["done", "done"]
        assert not (broken.folder / "failed.json").exists()
    finally:
        sys.modules.pop("own", None)


def test_values_are_asked_for_as_yaml_has_them(sweep):
    made = sweep()
    assert made.selected("dataset.exclude_self=false dataset.only_documents=null") == [*made.runs]
    for two in ("2", "2.0", "2e0"):
        assert [run.settings["codec.nbits"] for run in made.selected(f"codec.nbits={two}")] == [2]
    with pytest.raises(ConfigError, match=r"only: no run has all of dataset\.exclude_self=true; there are .*false"):
        made.selected("dataset.exclude_self=true")
    for other in ("codec.nbits='['", "codec.nbits=true", "dataset.exclude_self=0", "dataset.split=2024-13-45"):
        with pytest.raises(ConfigError, match="only: no run has all of"):
            made.selected(other)


def test_some_of_them(sweep, monkeypatch):
    """Which runs are executed; what executes them is left out."""
    made, begun = sweep(), []
    assert [run.settings["codec.nbits"] for run in made.selected("codec.nbits=2")] == [2]
    assert len(made.selected("k=10")) == 3
    with pytest.raises(ConfigError, match=r"only: no run has a setting 'codec\.nbit'; did you mean 'codec\.nbits'"):
        made.selected("codec.nbit=2")
    with pytest.raises(ConfigError, match=r"only: no run has all of codec\.nbits=8; there are .*1, 2, 4"):
        made.selected("codec.nbits=8")
    monkeypatch.setattr("colbert_research.sweep.sweep.execute", lambda runs, **_: begun.append([*runs]))
    for given in ({"only": "codec.nbits=2"}, {"limit": 2}, {}):
        made.run(**given)
    assert [[run.settings["codec.nbits"] for run in runs] for runs in begun] == [[2], [1, 2], [1, 2, 4]]


@pytest.mark.slow
def test_searches_are_timed_one_after_another(sweep):
    made = sweep(grid={"codec.nbits": [4]}, latency={"repeats": 1, "threads": 1}, notebook=NOTEBOOK)
    table = made.run(jobs=min(2, threads.available()), look=0.05)
    assert table["state"].tolist() == ["done"]
    assert (table["ms/query"] > 0).all()
    for run in made.runs:
        assert Record.open(run.folder).latency["threads"] == 1


def test_a_component_of_this_process_is_swept_here(sweep, monkeypatch):
    """As of a notebook's cell, which no other process can import: without a notebook of its own."""
    from typing import Literal

    import __main__
    from colbert_research.codecs import CODECS, ResidualConfig

    class Mine(ResidualConfig):
        kind: Literal["mine"] = "mine"

    Mine.__module__, Mine.__qualname__ = "__main__", "Mine"
    monkeypatch.setattr(__main__, "Mine", Mine, raising=False)
    monkeypatch.setitem(CODECS, "mine", Mine)
    made = sweep(grid={"codec.kind": ["mine"], "codec.nbits": [1, 2], "codec.centroids": [8]}, notebook=NOTEBOOK)
    assert made.run(look=0.05)["state"].tolist() == ["done", "done"]
    assert not (made.runs[0].folder / "notebook.ipynb").exists()


def test_states(sweep):
    (run,) = sweep(grid={"codec.nbits": [1]}, notebook=NOTEBOOK).runs
    assert run.state is State.MISSING
    run.folder.mkdir(parents=True)
    (run.folder / "config.yaml").write_text("k: 10\n")
    assert run.state is State.CRASHED
    (run.folder / "failed.json").write_text(json.dumps({"error": "ValueError: no"}))
    assert run.state is State.FAILED
    assert run.failure == "ValueError: no"
    with_lock = run.folder / ".run.lock"
    for holder, state in [
        ({"host": "elsewhere", "process": 1}, State.RUNNING),
        ({"host": __import__("platform").node(), "process": 2**22 + 5}, State.FAILED),
        ("not json", State.FAILED),
    ]:
        with_lock.write_text(holder if isinstance(holder, str) else json.dumps(holder))
        assert run.state is state
    (run.folder / "record.json").write_text("{}")
    assert run.state is State.FAILED, "a damaged record is none"


def test_a_lock_that_can_be_taken_is_nobodys(sweep):
    """Of a host that died its file is left: a run that was waited for was waited for forever."""
    (run,) = sweep(grid={"codec.nbits": [1]}, notebook=NOTEBOOK).runs
    assert not run.held
    run.folder.mkdir(parents=True)
    for name in (".run.lock", ".lock"):
        (run.folder / name).write_text(json.dumps({"host": "elsewhere", "process": 1}))
    assert run.state is State.RUNNING, "as far as its files tell"
    assert not run.held
    lock = Lock(run.folder / ".run.lock", "hold")
    assert lock.try_acquire()
    assert run.held
    lock.release()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"base": "nowhere.yaml"}, "no base config 'nowhere.yaml'.*Valid: .*base.yaml"),
        ({"notebook": "nowhere.ipynb"}, "no notebook 'nowhere.ipynb'"),
        ({"modules": "nowhere.py"}, "no module 'nowhere.py'"),
        ({"grid": {"codec.nbit": [1]}}, r"base\.yaml codec\.nbit=1: .*did you mean 'nbits'"),
        ({"grid": {"codec.nbits": [1, 3]}}, "codec.nbits=3: .*given '?3"),
        ({"grid": {"k": [10]}, "exclude": [{"k": 10}]}, "has no experiments: `exclude` leaves none of its 1 points"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(sweep, tmp_path, given, message):
    with pytest.raises(ConfigError, match=message):
        sweep(**{"notebook": NOTEBOOK, **given}).plan()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([], "has no config, overrides, output in a cell tagged `parameters`"),
        (['config: str = ""\noutput: str = ""'], "has no overrides in a cell tagged"),
    ],
)
def test_a_notebook_without_the_parameters(sweep, tmp_path, cells, message):
    from nbformat.v4 import new_code_cell, new_notebook

    kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    made = [new_code_cell(source, metadata={"tags": ["parameters"]}) for source in cells]
    nbformat.write(new_notebook(cells=made, metadata=kernel), tmp_path / "mine.ipynb")
    with pytest.raises(ConfigError, match=message):
        sweep(grid={"k": [10]}, notebook="mine.ipynb").plan()
    (tmp_path / "mine.ipynb").write_text("no notebook")
    with pytest.raises(ConfigError, match=r"mine\.ipynb is no notebook"):
        sweep(grid={"k": [10]}, notebook="mine.ipynb").plan()


def test_a_folder_that_cannot_be_written_to(write, tmp_path):
    """Is said before anything is computed."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"the records' folder '.*file/out' cannot be written to .*choose another"):
        Sweep.load(write(**GRID), folder=tmp_path / "file" / "out").run()


def test_a_sweep_has_one_bar(sweep, monkeypatch, capsys):
    """Of its runs, with the time left; what they do they say in their own logs."""

    def execute(runs, *, ended, **_):
        for run in runs:
            ended(run, State.DONE)

    monkeypatch.setattr("colbert_research.sweep.sweep.execute", execute)
    monkeypatch.setenv("COLBERT_RESEARCH_PROGRESS", "bar")
    sweep().run()
    captured = capsys.readouterr()
    assert captured.out == ""
    bars = [line for line in captured.err.replace("\n", "\r").split("\r") if line.strip()]
    assert all(line.startswith("sweep bits: ") for line in bars)
    assert "3/3" in bars[-1]
    assert len(captured.err.rstrip().split("\n")) == 1


@pytest.mark.parametrize(("most", "expected"), [(3, "1 to 3, the CPUs of this process"), (1, "1, the only CPU of this")])
def test_jobs(sweep, monkeypatch, most, expected):
    monkeypatch.setattr(threads, "available", lambda: most)
    for jobs in (0, most + 1):
        with pytest.raises(ConfigError, match=f"jobs: expected {expected}.*given {jobs}"):
            sweep().run(jobs=jobs)


@pytest.mark.slow
def test_a_notebook_that_saves_no_record_has_failed(sweep, tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "experiment.save()" not in cell.source]
    nbformat.write(notebook, tmp_path / "mine.ipynb")
    table = sweep(grid={"codec.nbits": [1]}, notebook="mine.ipynb").run(look=0.05)
    (failure,) = table["failure"]
    assert failure.endswith("saved no record of this run; its last cell calls experiment.save()")
