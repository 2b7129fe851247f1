"""Papermill runs the notebooks: what a user sees when all is well, when a name is mistyped, and when the kernel is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.warm import PAPERMILL, Program

ROOT = Path(__file__).resolve().parents[2]
EVALUATE = ROOT / "notebooks" / "evaluate.ipynb"


def parameters(notebook: Path, tmp_path: Path, overrides: str = "", config: str = "configs/tiny.yaml") -> list[str]:
    files = [str(notebook), str(tmp_path / "out.ipynb")]
    return [*files, "-p", "config", config, "-p", "overrides", overrides, "-p", "output", str(tmp_path / "out")]


def papermill(*arguments: str) -> subprocess.Popen[str]:
    """The command as a user types it, and the kernel that it starts."""
    command = [sys.executable, "-m", "papermill", *arguments, "--no-progress-bar"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process) -> str:
    out, errors = process.communicate(timeout=300)
    return out + (errors or "")


OF_AN_EXPERIMENT = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path.stem not in ("compare", "rag")]
"""All but the one that compares the records of several, which tests/sweep executes, and those of tests/rag and tests/ledger."""


@pytest.mark.slow
@pytest.mark.parametrize("notebook", OF_AN_EXPERIMENT, ids=lambda p: p.stem)
def test_every_notebook_runs_on_the_tiny_config(notebook, tmp_path):
    given = parameters(notebook, tmp_path)
    process = papermill(*given) if notebook == EVALUATE else Program(PAPERMILL, *given, cwd=ROOT)
    out = finish(process)
    assert process.returncode == 0, out
    assert "unknown parameter" not in out
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert 0 < record["metrics"]["nDCG@10"] < 1
    assert (tmp_path / "out" / "stdout.log").read_text()
    shown = json.loads((tmp_path / "out.ipynb").read_text())["cells"][-1]["outputs"]
    assert any("nDCG@10" in "".join(o.get("data", {}).get("text/plain", "")) for o in shown)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "nearest"), [("codec.nbit=2", "nbits"), ("encoder.kind=hashin", "hashing"), ("k=many", "integer")]
)
def test_a_mistyped_setting_fails_and_leaves_no_record(tmp_path, overrides, nearest):
    process = Program(PAPERMILL, *parameters(EVALUATE, tmp_path, overrides), cwd=ROOT)
    out = finish(process)
    assert process.returncode != 0
    assert "ConfigError" in out
    assert nearest in out
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_mistyped_parameter_fails_too(tmp_path):
    process = papermill(
        str(EVALUATE), str(tmp_path / "out.ipynb"), "-p", "confg", "configs/exact.yaml", "-p", "output", str(tmp_path / "out")
    )
    out = finish(process)
    assert process.returncode != 0
    assert "did you mean 'config'" in out
    assert not (tmp_path / "out").exists()


OWN = """
config: str = "configs/tiny.yaml"
overrides: str = ""
output: str = ""
beta: float = 0.5
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["-p", "beta", "0.7"], None),
        (["-p", "bete", "0.7"], "unknown parameter 'bete': did you mean 'beta'"),
        (["-p", "output", "20240101"], r"output must be text; given 20240101 (int)"),
        (["-p", "output", "True"], "output must be text; given True (bool)"),
        (["-p", "config", "7"], "`papermill -r config …`"),
        (["-r", "output", "007"], None),
    ],
)
def test_parameters_of_a_notebook_of_ones_own(tmp_path, given, message):
    import nbformat

    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}})
    notebook.cells = [nbformat.v4.new_code_cell(OWN.strip(), metadata={"tags": ["parameters"]})]
    notebook.cells += [
        nbformat.v4.new_code_cell("from colbert_research.experiment import start"),
        nbformat.v4.new_code_cell("print(start(config, overrides, output), beta)"),
    ]
    nbformat.write(notebook, tmp_path / "own.ipynb")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    process = Program(PAPERMILL, tmp_path / "own.ipynb", tmp_path / "out.ipynb", *given, cwd=tmp_path)
    out = finish(process)
    assert (process.returncode == 0) is (message is None), out
    if message is not None:
        assert message in out
        assert not (tmp_path / "experiments").exists()
    elif "-r" in given:
        assert (tmp_path / "007" / "config.yaml").is_file()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the kernel's process through /proc")
def test_a_killed_kernel_leaves_no_record_and_the_same_command_finishes(tmp_path, monkeypatch):
    # one query at a time over every centroid: long enough to be caught in the search, after the stages before it
    slow = "k=1000 search.kind=plaid search.ncells=64 search.ndocs=4096 search.n_exact=1024 latency.repeats=150"
    process = papermill(*parameters(EVALUATE, tmp_path, slow))
    cache = Path(os.environ["COLBERT_RESEARCH_CACHE"])
    deadline = time.monotonic() + 120
    while not list((cache / "index").glob("*/done.json")):
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(kernel_of(process.pid), signal.SIGKILL)
    finish(process)
    assert process.returncode != 0
    assert (tmp_path / "out" / "config.yaml").is_file()
    assert not (tmp_path / "out" / "record.json").exists()
    again = papermill(*parameters(EVALUATE, tmp_path, slow.replace("repeats=150", "repeats=1")))
    out = finish(again)
    assert again.returncode == 0, out
    cached = json.loads((tmp_path / "out" / "record.json").read_text())["measured"]["cached"]
    assert {"encode documents", "encode queries", "index"} <= set(cached)


def kernel_of(parent: int) -> int:
    """The process id of the kernel that papermill started."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command, stat = path.read_bytes(), (path.parent / "stat").read_text()
        except OSError:
            continue
        if b"ipykernel" in command and int(stat.rsplit(")", 1)[1].split()[1]) == parent:
            return int(path.parent.name)
    raise AssertionError(f"process {parent} has no kernel")
