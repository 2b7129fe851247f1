import importlib.util
import sys
from pathlib import Path

import pytest


def _load_tiny():
    name = "encoders_tiny"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("tiny.py"))
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def tiny():
    """The module of tiny checkpoints."""
    return _load_tiny()


@pytest.fixture(scope="session")
def folders(tiny, tmp_path_factory):
    """One checkpoint of each layout, by name; tests copy what they change."""
    root = tmp_path_factory.mktemp("checkpoints")
    makers = {"bare": tiny.bare, "stanford": tiny.stanford, "pylate": tiny.pylate, "native": tiny.native}
    return {name: make(root / name) for name, make in makers.items()}
