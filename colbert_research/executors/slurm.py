"""`slurm`: one command as an array of jobs, each of which does a part of the work and may be killed and begun again.

A script is written into a shared folder and handed to `sbatch`; nobody waits for it. Every job first looks whether it has the
code and sees the folders of the process that wrote the script.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from colbert_research.artifacts import write_json, write_text
from colbert_research.config import Config, content_hash
from colbert_research.executors.probe import versions
from colbert_research.settings import ConfigError

LOOK = "from colbert_research.executors.probe import main; main()"
SCRIPT, EXPECTED = "submit.sh", "expected.json"


class SlurmConfig(Config):
    """What each job of the array takes, as `sbatch` takes it.

    `workers`: how many jobs. `memory`: `16G`. `time`: `04:00:00`; a job that runs out of it is begun again by the next
    submission. `options`: further ones, such as `--account=mine`. `setup`: lines of shell before the work, such as
    `module load cuda`.
    """

    kind: Literal["slurm"] = "slurm"
    workers: int = Field(1, ge=1)
    cpus: int = Field(1, ge=1)
    gpus: int = Field(0, ge=0)
    memory: str = ""
    time: str = ""
    partition: str = ""
    options: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()

    @field_validator("options")
    @classmethod
    def _as_sbatch_takes_them(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for option in value:
            if not re.fullmatch(r"-{1,2}\w[^\n]*", option):
                raise ValueError(f"options of sbatch, each as it is written, `--account=mine`; given {option!r}")
        return value

    @field_validator("memory", "time", "partition")
    @classmethod
    def _one_word(cls, value: str) -> str:
        if re.search(r"\s", value):
            raise ValueError(f"one word; given {value!r}")
        return value

    def script(self, command: Sequence[str], folder: Path, *, name: str, environment: Mapping[str, str]) -> str:
        """The script of the array, in which `command` is executed by every job; what it prints goes into `folder`."""
        given = {
            "--job-name": name,
            "--array": f"0-{self.workers - 1}",
            "--cpus-per-task": str(self.cpus),
            "--gpus-per-task": str(self.gpus) if self.gpus else "",
            "--mem": self.memory,
            "--time": self.time,
            "--partition": self.partition,
            "--output": f"{folder}/%A_%a.log",
            "--open-mode": "append",
        }
        options = [f"{option}={shlex.quote(value)}" for option, value in given.items() if value]
        look = [sys.executable, "-c", LOOK, str(folder / EXPECTED)]
        lines = [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in [*options, "--requeue", *self.options]),
            "set -euo pipefail",
            *(f"export {key}={shlex.quote(value)}" for key, value in environment.items()),
            f"cd {shlex.quote(str(Path.cwd()))}",
            *self.setup,
            shlex.join(look),
            f"exec {shlex.join(command)}",
        ]
        return "\n".join(lines) + "\n"

    def submit(
        self, command: Sequence[str], folder: Path, *, name: str, environment: Mapping[str, str], shared: Sequence[Path]
    ) -> str:
        """Write the script into `folder` and hand it to `sbatch`; returns the number of the job.

        `shared`: folders that every job must see. Raises ConfigError without `sbatch`, and with what it says where it refuses
        or names no job.
        """
        folder.mkdir(parents=True, exist_ok=True)
        marks = {}
        for shared_folder in shared:  # they stay: jobs begin when Slurm has room for them
            shared_folder.mkdir(parents=True, exist_ok=True)
            mark = shared_folder.absolute() / f".probe.{content_hash(str(folder))}"
            marks[str(mark)] = str(folder)
            write_text(mark, str(folder))
        write_json(folder / EXPECTED, {"versions": versions(), "files": marks})
        write_text(folder / SCRIPT, self.script(command, folder, name=name, environment=environment))
        try:
            done = subprocess.run(
                ["sbatch", "--parsable", str(folder / SCRIPT)], capture_output=True, text=True, errors="replace", check=False
            )
        except OSError as error:
            raise ConfigError(
                f"executor slurm: there is no sbatch here ({error}); on a machine that submits jobs, `sbatch "
                f"{folder / SCRIPT}`, which is written, does it by hand"
            ) from error
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise ConfigError(f"executor slurm: sbatch refused {folder / SCRIPT}: {said}")
        job = done.stdout.strip().partition(";")[0]
        if not (job.isascii() and job.isdecimal()):
            said = " ".join(f"{done.stdout} {done.stderr}".split())[:300]
            raise ConfigError(
                f"executor slurm: sbatch took {folder / SCRIPT}, and said no number of a job, but {said!r}; `squeue` tells "
                "whether there is one, and submitted again the sweep continues"
            )
        return job
