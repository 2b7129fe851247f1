"""Where a suite of CUDA kernels runs them: emulated, first thread first and last thread first, and on a GPU if there is one."""

import numpy as np

from colbert_research.kernels.cuda import arrays
from tests.kernels.conftest import WHERE, Arena

ORDERS = [*WHERE, "descending"]


def arena_of(request, kernels) -> Arena:
    """The arena that a fixture with `params=ORDERS` asks for, with these kernels."""
    if request.param == "gpu":
        return Arena(None, request.getfixturevalue("gpu"))
    return Arena(request.getfixturevalue("emulate")(list(kernels), descending=request.param == "descending"), None)


def poison(monkeypatch, *modules) -> None:
    """Whatever a kernel of these modules should write begins as NaN, or as a number that is none of its results."""

    def poisoned(shape, kind, place):
        array = arrays.empty(shape, kind, place)
        array[...] = np.nan if "float" in kind else 177 if kind == "uint8" else -77
        return array

    for module in modules:
        monkeypatch.setattr(module, "empty", poisoned)
