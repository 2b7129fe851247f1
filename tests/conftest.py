"""Fixtures that the suites share."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from colbert_research.artifacts import cache_root
from colbert_research.ragged import Ragged, offsets_of

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config, items):
    """Side by side, the slow tests come first, so that no worker has one left when the others are done."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


COMPILED = cache_root() / "numba"
"""Where this process keeps compiled code: what processes of the tests find there, they need not compile again."""


@pytest.fixture(scope="session")
def build_folder(request, tmp_path_factory):
    """A folder for what was compiled for GPUs, kept between runs; everything in it is named by what it was made from."""
    kept = getattr(request.config, "cache", None)  # none under `-p no:cacheprovider`
    return tmp_path_factory.mktemp("cuda") if kept is None else kept.mkdir("cuda")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch, build_folder):
    """No test reads or fills the user's stage cache, and none asks a model hub.

    What was compiled, and what is remembered of files that did not change, such as this package's sources, they share.
    """
    root = tmp_path.parent / f"{tmp_path.name}.cache"
    root.mkdir()
    shared = {"numba": COMPILED, "cuda": build_folder, "fingerprints": tmp_path.parent / "fingerprints"}
    for name, folder in shared.items():
        folder.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(folder, target_is_directory=True)
    monkeypatch.setenv("COLBERT_RESEARCH_CACHE", str(root))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def same_in_a_forked_child(compute) -> bool:
    """Whether a child that is forked off after `compute()` gives the same array; not where it waits forever."""
    expected, child = compute(), os.fork()
    if child == 0:
        signal.alarm(60)  # ends the child, should it wait forever
        os._exit(0 if np.array_equal(compute(), expected) else 3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def random_ragged(rng: np.random.Generator, lengths, dim: int, *, unit: bool = True) -> Ragged:
    """Token vectors of items with the given lengths, float32, L2-normalised unless `unit=False`."""
    values = rng.standard_normal((int(np.sum(lengths)), dim)).astype(np.float32)
    if unit:
        values /= np.linalg.norm(values, axis=1, keepdims=True)
    return Ragged(values, offsets_of(lengths))
