"""The suites of kernels on a machine that has little more than torch, such as a borrowed GPU: every file can be imported."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys


class Absent:
    def find_spec(self, name, *_):
        if name.split(".")[0] in LACKING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
import pytest

sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "tests/kernels"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("lacking", [["pydantic"], ["numba", "pydantic", "faiss"]], ids=["one", "many"])
def test_suites_can_be_collected(lacking):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("LACKING", repr(lacking))], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "test_cuda_dense.py" in done.stdout
    assert "test_team.py" not in done.stdout
