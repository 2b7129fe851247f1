"""What README shows runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_the_python_of_readme_runs(tmp_path):
    assert len(BLOCKS) >= 2
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-c", "\n".join(BLOCKS)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "Whales have large hearts." in done.stdout
    assert "RR@3 1.0000" in done.stdout
    assert "tea Green tea is a drink." in done.stdout
