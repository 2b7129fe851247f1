"""What the suites about experiments share: a cache, and a collection small enough to judge by hand."""

from pathlib import Path

import pytest

from tests.experiment.small import write_folder


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_folder(tmp_path / "fruit")
