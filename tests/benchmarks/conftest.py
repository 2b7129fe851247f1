"""The scripts of experiments/benchmarks as modules; they import each other by name, as scripts in one folder do."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "benchmarks"
NAMES = (
    "bench_folder",
    "bench_build",
    "prepare",
    "search",
    "scaling",
    "fetch",
    "filters",
    "fan_out",
    "kernels",
    "gpu",
    "gpu_timer",
    "gpu_search",
    "gpu_select",
    "serve",
)


@pytest.fixture
def scripts(monkeypatch):
    """A script by its name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def vectors():
    """Token vectors of 120 documents and 6 queries, and for each query one relevant document."""
    import numpy as np

    from tests.conftest import random_ragged

    rng = np.random.default_rng(4)
    documents, queries = random_ragged(rng, rng.integers(1, 9, 120), 16), random_ragged(rng, [4] * 6, 16)
    ids = {"document_ids": [f"d{i}" for i in range(120)], "query_ids": [f"q{i}" for i in range(6)]}
    return documents, queries, {**ids, "qrels": {f"q{i}": {f"d{i}": 2, f"d{i + 50}": 1} for i in range(6)}}
