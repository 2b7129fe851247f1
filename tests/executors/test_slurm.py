"""Arrays of jobs for Slurm, with an `sbatch` that stands in for it: it notes what it is given, and runs the jobs when asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from colbert_research.executors.slurm import SlurmConfig
from colbert_research.settings import ConfigError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a script of a shell")
SBATCH = """#!/bin/bash
test -z "$REFUSES" || { echo "sbatch: error: $REFUSES" >&2; exit 1; }
echo "$@" > "$(dirname "$0")/given"
echo "4711;cluster"
"""


@pytest.fixture
def sbatch(tmp_path, monkeypatch) -> Path:
    """The file in which it notes its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(SBATCH)
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "given"


def submit(tmp_path, config: SlurmConfig, **environment: str) -> str:
    command = [sys.executable, "-c", "import os, sys; print('worked', os.environ['MINE'], sys.argv[1])", "two words"]
    return config.submit(
        command, tmp_path / "a folder", name="bits", environment={"MINE": "a b", **environment}, shared=[tmp_path / "cache"]
    )


def test_what_sbatch_is_given(tmp_path, sbatch):
    config = SlurmConfig(workers=8, cpus=4, gpus=1, memory="16G", time="04:00:00", partition="gpu", options=["--account=x"])
    assert submit(tmp_path, config) == "4711"
    script = tmp_path / "a folder" / "submit.sh"
    assert sbatch.read_text() == f"--parsable {script}\n"
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    assert [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")] == [
        "--job-name=bits",
        "--array=0-7",
        "--cpus-per-task=4",
        "--gpus-per-task=1",
        "--mem=16G",
        "--time=04:00:00",
        "--partition=gpu",
        f"--output='{tmp_path}/a folder/%A_%a.log'",
        "--open-mode=append",
        "--requeue",
        "--account=x",
    ]


def run(tmp_path) -> "subprocess.CompletedProcess[str]":
    """What a job of the array does."""
    return subprocess.run(
        ["bash", str(tmp_path / "a folder" / "submit.sh")], capture_output=True, text=True, cwd="/", check=False
    )


@pytest.mark.slow
@pytest.mark.usefixtures("sbatch")
def test_what_a_job_does(tmp_path):
    submit(tmp_path, SlurmConfig(setup=["echo before"]))
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (0, "before\nworked a b two words\n"), done.stderr
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert "which was written there before it began: the folder is not shared" in done.stderr


@pytest.mark.usefixtures("sbatch")
def test_a_job_with_other_code_does_nothing(tmp_path, monkeypatch):
    from colbert_research.executors import slurm

    real = slurm.versions()
    monkeypatch.setattr(slurm, "versions", lambda: {**real, "numpy": "1.0"})
    submit(tmp_path, SlurmConfig())
    done = run(tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert f"has numpy {real['numpy']}, and here it is 1.0" in done.stderr


def test_without_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"there is no sbatch here .*submit.sh`, which is written, does it by hand"):
        submit(tmp_path, SlurmConfig())


@pytest.mark.usefixtures("sbatch")
def test_what_sbatch_refuses(tmp_path, monkeypatch):
    monkeypatch.setenv("REFUSES", "invalid partition specified: gpu")
    with pytest.raises(ConfigError, match=r"sbatch refused .*submit\.sh: sbatch: error: invalid partition specified: gpu"):
        submit(tmp_path, SlurmConfig(partition="gpu"))


@pytest.mark.parametrize("said", ["", "Submitted batch job 4711", "\\xff\\xfe", "job;4711"])
def test_what_sbatch_says_that_is_no_number(tmp_path, sbatch, said):
    """As a wrapper of a cluster's own does; the words were told as the number of the job."""
    (sbatch.parent / "sbatch").write_text(f"#!/bin/bash\nprintf '{said}'\n")
    with pytest.raises(ConfigError, match=r"said no number of a job, but .*`squeue` tells whether there is one"):
        submit(tmp_path, SlurmConfig())


@pytest.mark.parametrize("given", [{"options": ["account=x"]}, {"options": ["--a=1\n#x"]}, {"memory": "16 GB"}, {"workers": 0}])
def test_what_is_no_setting(given):
    with pytest.raises(ValueError, match=r"given|greater"):
        SlurmConfig(**given)
