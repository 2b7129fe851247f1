"""On a machine with little installed (a borrowed GPU: numpy, torch, cupy, pytest) the suites of kernels run what they can.

`numba` missing: the CPU kernels' own files are left out, and tests elsewhere that ask for them are skipped. `hypothesis`
missing: a stand-in lets the files be imported and skips the properties.
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
NEED_NUMBA = ["test_chosen.py", "test_coverage.py", "test_integer.py", "test_shortlist.py", "test_team.py", "test_tiers.py"]
NEED_NUMBA += ["test_wanted.py", "test_decode.py", "test_kept_products.py", "test_greatest.py"]


def left_out() -> list[str]:
    """Files that cannot be imported or that hold nothing but the CPU kernels."""
    return [] if HAS_NUMBA else NEED_NUMBA


def words() -> list[str]:
    """What is missing and what that leaves out, for the head of the report."""
    found = [] if HAS_NUMBA else [f"numba is not installed: no CPU kernels, without {', '.join(NEED_NUMBA)}"]
    return found + ([] if HAS_HYPOTHESIS else ["hypothesis is not installed: properties are skipped"])


def skip_what_lacks_a_package() -> Generator[None, object, object]:
    """Around a test: one that asks for a package that is not there is skipped, where Numba is not there either."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if HAS_NUMBA:
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
