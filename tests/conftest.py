"""Fixtures that the suites share."""

import logging
import os
import signal
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from colbert_research.artifacts import cache_root
from colbert_research.locks import locked
from colbert_research.ragged import Ragged, offsets_of

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items):
    """What emulates a CUDA device on a processor is slow: minutes in all. Side by side, the slow tests come first, so that no
    worker has one left when the others are done."""
    for item in items:
        if "cuda_" in item.nodeid or item.path.name.startswith("test_gpu"):
            item.add_marker(pytest.mark.slow)
    if os.environ.get("PYTEST_XDIST_WORKER"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


COMPILED = cache_root() / "numba"
"""Where this process keeps compiled code: what processes of the tests find there, they need not compile again."""


@pytest.fixture(scope="session")
def build_folder(request, tmp_path_factory):
    """A folder for what was compiled for GPUs, kept between runs; everything in it is named by what it was made from."""
    kept = getattr(request.config, "cache", None)  # none under `-p no:cacheprovider`
    return tmp_path_factory.mktemp("cuda") if kept is None else kept.mkdir("cuda")


@pytest.fixture(scope="session")
def _new_caches(tmp_path_factory, build_folder):
    """New cache roots, one after another: what was compiled, and what is remembered of files that did not change, such as this
    package's sources, they share.

    Not in a test's `tmp_path`: for each of those pytest reads through the names of all that there are.
    """
    folder = tmp_path_factory.mktemp("caches")
    shared = {"numba": COMPILED, "cuda": build_folder, "fingerprints": folder / "fingerprints"}
    for each in shared.values():
        each.mkdir(parents=True, exist_ok=True)

    def made():
        for number in count():
            root = folder / str(number)
            root.mkdir()
            for name, target in shared.items():
                (root / name).symlink_to(target, target_is_directory=True)
            yield root

    return made()


@pytest.fixture(scope="session", autouse=True)
def _kernels(tmp_path_factory):
    """Side by side, one worker compiles what most suites run while the others wait; else each would compile it, and so would
    every process that a test starts meanwhile."""
    if not os.environ.get("PYTEST_XDIST_WORKER"):
        return
    from tests.experiment.small import make, write_folder

    folder = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch, locked(tmp_path_factory.getbasetemp().parent / "kernels.lock", "compiling"):
        patch.setenv("COLBERT_RESEARCH_CACHE", str(folder))
        data = write_folder(folder / "fruit")
        for search in ("plaid", "warp", "emvb"):
            make(folder / "cache", data, f"search={{kind: {search}}}").run("rank")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, _new_caches):
    """No test reads or fills the user's stage cache, and none asks a model hub."""
    monkeypatch.setenv("COLBERT_RESEARCH_CACHE", str(next(_new_caches)))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def _own_log_levels():
    """What a test sets up of logging, as notebooks and commands do for their process, the tests after it do not see."""
    loggers = [logging.getLogger(name) for name in ("colbert_research", "colbert_research.serving", "papermill")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        for handler in set(logger.handlers) - set(handlers):
            logger.removeHandler(handler)
            handler.close()


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
