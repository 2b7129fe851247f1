"""Modules of this package and of one's own that are edited while a process runs."""

import contextlib
import importlib
import sys

import pytest

from colbert_research.experiment import sources
from colbert_research.experiment.sources import SourceChangedError


def test_a_module_of_this_package_that_was_edited_while_this_process_runs(tmp_path, monkeypatch):
    file = tmp_path / "edited_part.py"
    file.write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("edited_part")
    try:
        sources.check_loaded("edited_part", file)
        file.write_text("X = 2222\n")
        with pytest.raises(SourceChangedError, match=r"edited_part.py was edited after this process had loaded it.*restart"):
            sources.check_loaded("edited_part", file)
        importlib.reload(sys.modules["edited_part"])
        with pytest.raises(SourceChangedError, match="loading the module again is not enough"):
            sources.check_loaded("edited_part", file)
    finally:
        with contextlib.suppress(KeyError):
            del sys.modules["edited_part"]


def test_one_that_was_edited_between_its_import_and_the_first_look(tmp_path, monkeypatch):
    file = tmp_path / "early_part.py"
    file.write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    importlib.import_module("early_part")
    file.write_text("X = 20\n")
    with pytest.raises(SourceChangedError, match=r"early_part.py was edited after this process had loaded it"):
        sources.check_loaded("early_part", file)
    del sys.modules["early_part"]
