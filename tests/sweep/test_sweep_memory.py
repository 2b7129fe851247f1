"""More memory than there is: refused before anything runs, with the numbers and what fits."""

import pytest

from colbert_research import threads
from colbert_research.experiment import Record
from colbert_research.memory import available_memory
from colbert_research.settings import ConfigError
from colbert_research.sweep import Sweep
from colbert_research.sweep import memory as sweep_memory
from colbert_research.sweep.memory import GB, Need, check_memory
from tests.experiment.small import ROOT

NOTEBOOK = str(ROOT / "notebooks" / "evaluate.ipynb")
GRID = {"grid": {"codec.nbits": [1, 2, 4]}, "notebook": NOTEBOOK}


@pytest.mark.parametrize(
    ("groups", "folder", "files", "expected"),
    [
        ("0::/a/b", "a/b", ("max=5000", "current=3000", "stat=anon 1\ninactive_file 500"), 2500),
        ("0::/a/b", "a/b", ("max=max", "current=3000", "stat=inactive_file 500"), 9000),
        ("0::/a/b", "a", ("max=1000", "current=3000", "stat="), 0),
        ("4:memory:/x", "memory", ("limit_in_bytes=7000", "usage_in_bytes=100", "stat=total_inactive_file 9"), 6909),
        ("", "", (), 9000),
    ],
)
def test_what_is_available(tmp_path, monkeypatch, groups, folder, files, expected):
    """The limit of a control group, less what is used, but for what files take, which is given back."""
    import psutil

    (tmp_path / "cgroup").write_text(groups)
    (tmp_path / "fs" / folder).mkdir(parents=True)
    for name, _, text in (file.partition("=") for file in files):
        (tmp_path / "fs" / folder / f"memory.{name}").write_text(text)
    monkeypatch.setattr(threads, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "CGROUP", tmp_path / "fs")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 9000}))
    assert available_memory() == expected


@pytest.fixture
def sizes(monkeypatch):
    """Lets tasks take some GB each, of so many that there are."""

    def of(there: float, *needs: float) -> None:
        monkeypatch.setattr(sweep_memory, "available_memory", lambda: int(there * GB))
        monkeypatch.setattr(sweep_memory, "_needs", lambda *_: [Need(n * GB, f"task {i}") for i, n in enumerate(needs)])

    return of


def test_the_largest_at_once_decide(sizes, caplog):
    sizes(8, 1, 4, 3, 2)
    check_memory([], [], 2)
    with pytest.raises(ConfigError) as error:
        check_memory([], [], 4)
    assert str(error.value) == (
        "--jobs 4 may take 4.0 GB for task 1, 3.0 GB for task 2, 2.0 GB for task 3, …, and 8.0 GB are available; "
        "the most that fits is --jobs 2"
    )
    sizes(3, 4, 1)
    with pytest.raises(ConfigError, match="not even one is sure to fit; --jobs 1 tries it"):
        check_memory([], [], 2)
    assert not caplog.records
    check_memory([], [], 1)
    assert caplog.messages == ["it may not fit into memory: 4.0 GB for task 0, and 3.0 GB are available"]


@pytest.mark.skipif(threads.available() < 2, reason="needs two threads")
def test_it_is_refused_before_anything_runs(write, tmp_path, monkeypatch, here):
    sweep = Sweep.load(write(**GRID), folder=tmp_path / "out")
    monkeypatch.setattr(sweep_memory, "available_memory", lambda: int(0.5 * GB))
    with pytest.raises(ConfigError, match=r"--jobs 2 may take .*, and 0\.5 GB are available; the most that fits is --jobs 1"):
        sweep.run(jobs=2)
    assert here == []
    assert set(sweep.run(jobs=1)["state"]) == {"done"}


def test_what_was_recorded_counts(write, tmp_path, here):
    """A stage of the same kind, collection and vectors took so much: so will this one."""
    sweep = Sweep.load(write(**GRID), folder=tmp_path / "out")
    sweep.run(only="codec.nbits=1")
    first, second, _ = sweep.runs

    peaks = Record.open(first.folder).measured["peak_memory_bytes"]
    (need,) = sweep_memory._needs(sweep.runs, [second])
    assert need.bytes == max(peaks["index"], peaks["rank"])
    assert need.what.endswith(f" of run {second.id}")


def test_what_was_not_recorded_is_estimated_from_sizes(write, tmp_path, monkeypatch):
    """More tokens, wider vectors, no codec: more memory; as many tokens as NFCorpus has."""
    sweep = Sweep.load(write(**GRID), folder=tmp_path / "out")
    run = sweep.runs[0]
    monkeypatch.setattr(sweep_memory, "_size", lambda *_: (771_460, 128))
    needs = {name: sweep_memory._estimate(run, stage) / GB for name, stage in run.experiment.stages.items()}
    assert needs["encode documents"] == 0.4
    assert needs["cluster"] <= needs["index"] < 2
    assert 0.4 < needs["rank"] < 0.8
    monkeypatch.setattr(sweep_memory, "_size", lambda *_: (7_714_600, 128))
    assert sweep_memory._estimate(run, run.experiment.stages["rank"]) / GB > 1
