"""Fixtures for a suite of CUDA kernels: where they run, in both orders of threads, and outputs that begin as poison."""

import numpy as np
import pytest
import torch

from colbert_research.kernels.cuda import arrays
from tests.kernels.conftest import HAS_GPU, Arena


def arena_of(kernels):
    """An emulator of these kernels with threads in ascending and in descending order, and a GPU where there is one."""
    params = ["ascending", "descending", *([pytest.param("gpu", marks=pytest.mark.gpu)] if HAS_GPU else [])]

    @pytest.fixture(scope="module", params=params)
    def arena(request):
        if request.param == "gpu":
            return Arena(None, request.getfixturevalue("gpu"))
        emulate = request.getfixturevalue("emulate")
        return Arena(emulate(list(kernels), descending=request.param == "descending"), None)

    return arena


def poison_of(module):
    """A fixture for every test: what the module asks memory for begins as NaNs, or as a number that no result is."""

    @pytest.fixture(autouse=True)
    def _poison(monkeypatch):
        def poisoned(shape, kind, place):
            array = arrays.empty(shape, kind, place)
            array[...] = torch.nan if "float" in kind else -77 if "u" not in kind else 77
            return array

        monkeypatch.setattr(module, "empty", poisoned)

    return _poison


def numpy_of(array) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def computed(arena, function, *given, **named) -> np.ndarray:
    """What a function of arrays computes in the arena; NumPy arrays among the arguments are placed there."""

    def placed(value):
        return arena.tensor(value) if isinstance(value, np.ndarray) else value

    with arena:
        return numpy_of(function(*map(placed, given), **{name: placed(value) for name, value in named.items()}))
