"""On a machine with little installed (a borrowed GPU: numpy, torch, cupy, pytest) the suites of kernels run what they can.

`numba` or `pydantic` missing: files that cannot be imported without are left out, and tests elsewhere that ask for them are
skipped. `hypothesis` missing: a stand-in lets the files be imported and skips the properties.
"""

import sys
from collections.abc import Generator
from importlib.util import find_spec
from types import ModuleType
from unittest.mock import MagicMock

import pytest


def _has(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ImportError:
        return False


HAS_NUMBA, HAS_HYPOTHESIS = _has("numba"), _has("hypothesis")
NEEDED_BY = {
    "numba": [
        "chosen",
        "coverage",
        "integer",
        "shortlist",
        "team",
        "tiers",
        "wanted",
        "decode",
        "kept_products",
        "greatest",
        "compiled_code_on_disk",
    ],
    "pydantic": ["coverage", "team"],
}
"""Suites that cannot be imported without a package, or that hold nothing but the CPU kernels."""
LACKING = [package for package in NEEDED_BY if not _has(package)]


def left_out() -> list[str]:
    """Files of the suites that lack a package."""
    return sorted({f"test_{name}.py" for package in LACKING for name in NEEDED_BY[package]})


def words() -> list[str]:
    """What is missing and what that leaves out, for the head of the report."""
    found = [f"not installed: {', '.join(LACKING)}; without {', '.join(left_out())}"] if LACKING else []
    return found + ([] if HAS_HYPOTHESIS else ["hypothesis is not installed: properties are skipped"])


def skip_what_lacks_a_package() -> Generator[None, object, object]:
    """Around a test: one that asks for a package that is not there is skipped, where one of ours is not there."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if not LACKING:
            raise
        pytest.skip(f"{error.name} is not installed")


def stand_in_for_hypothesis() -> None:
    """Put a module in its place whose `given` skips."""
    if HAS_HYPOTHESIS:
        return

    def given(*_, **__):
        return pytest.mark.skip(reason="hypothesis is not installed")

    module = ModuleType("hypothesis")
    module.given, module.settings = given, lambda *_, **__: lambda function: function
    module.strategies = MagicMock()
    module.assume = module.example = module.HealthCheck = MagicMock()
    sys.modules["hypothesis"], sys.modules["hypothesis.strategies"] = module, module.strategies
