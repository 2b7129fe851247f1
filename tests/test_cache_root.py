"""Where the cache lies: what the environment says, and what is said where that is nowhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from colbert_research.artifacts import CACHE_VARIABLE
from colbert_research.cache import StageCache


def test_the_default_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "mine"))
    assert StageCache.default().root == tmp_path / "mine"
    monkeypatch.setenv(CACHE_VARIABLE, "~/mine")
    assert StageCache.default().root == Path.home() / "mine"
    monkeypatch.setenv(CACHE_VARIABLE, "")
    assert StageCache.default().root == Path.home() / ".cache" / "colbert_research"


def test_without_a_home_the_error_names_the_variable(monkeypatch):
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory.")))
    with pytest.raises(RuntimeError, match=f"no home folder to keep the cache in .*set {CACHE_VARIABLE} to a folder"):
        StageCache.default()


@pytest.mark.parametrize("place", ["a file", "read-only"])
def test_a_cache_that_cannot_be_written_to_names_the_variable(tmp_path, monkeypatch, place):
    if place == "a file":
        (tmp_path / "root").write_text("")
    else:
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OSError, match=f"set {CACHE_VARIABLE} to a folder of yours"):
        StageCache(tmp_path / "root").run("encode", "a1", lambda folder: {})


@pytest.mark.slow
@pytest.mark.parametrize("home", ["raise RuntimeError", "return Path(__file__) / 'below a file'"])
def test_importing_asks_for_no_home(tmp_path, home):
    """Without a home folder, as in some containers, or with one that is not there: kernels are compiled all the same."""
    (tmp_path / "program.py").write_text(f"""
import numpy as np
from pathlib import Path
def home():
    {home}
Path.home = home
from colbert_research import kernels
import colbert_research.experiment
print(kernels.assign(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)).tolist())
""")
    env = {name: value for name, value in os.environ.items() if name != CACHE_VARIABLE}
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-B", str(tmp_path / "program.py")]
    env |= {"TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0, 1, 2, 3]"
    assert os.listdir(tmp_path / "tmp") == [], "what was compiled there is removed"
