"""What the suites of CUDA kernels share: folders that outlive a run, the emulator, and a GPU where there is one."""

from contextlib import nullcontext
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from colbert_research.kernels.cuda import arrays, dense, launch
from colbert_research.kernels.cuda.launch import Kernel
from tests.kernels import missing
from tests.kernels.emulator.build import COMPILER, Emulator, EmulatorAsAsked

missing.stand_in_for_hypothesis()
collect_ignore = missing.left_out()

HAS_GPU = torch.cuda.is_available() and find_spec("cupy") is not None
WHERE = ["emulated", *([pytest.param("gpu", marks=pytest.mark.gpu)] if HAS_GPU else [])]
"""Where suites run kernels: in the emulator, and on a GPU where there is one."""


def pytest_report_header():
    return missing.words()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from missing.skip_what_lacks_a_package())


@pytest.fixture(scope="session")
def emulate(build_folder):
    """`emulate(kernels, descending=False)`: an emulator of these instances."""
    if COMPILER is None:
        pytest.skip("no g++ to compile the emulator with")

    def build(kernels: list[Kernel], *, descending: bool = False) -> Emulator:
        return Emulator(kernels, build_folder, descending=descending)

    return build


@pytest.fixture(scope="session")
def device(build_folder):
    """`with device():` for what searches on a device: the first GPU, where there is one, else an emulator of any kernel."""
    if launch.gpu_is_here():
        return nullcontext
    if COMPILER is None:
        pytest.skip("no g++ to compile the emulator with")
    emulator = EmulatorAsAsked(build_folder)
    return lambda: launch.emulated(emulator)


@pytest.fixture(scope="session")
def nvrtc():
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        pytest.skip("NVRTC is not installed (extras dev, cuda13 or cuda12)")


@pytest.fixture(scope="session")
def gpu():
    """The number of a CUDA device that CuPy and torch both see."""
    if not HAS_GPU:
        pytest.skip("needs a CUDA device, torch for CUDA, and CuPy")
    return 0


class Arena:
    """Where the suites run kernels: `place` arrays of a framework there, and while it is entered, compute there."""

    def __init__(self, emulator: Emulator | None, device: int | None) -> None:
        self._emulator, self._device = emulator, device

    def tensor(self, values):
        """A torch tensor with the values of a tensor or NumPy array; on the CPU it is the same memory, poison around it."""
        tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
        return tensor if self._device is None else tensor.to(f"cuda:{self._device}")

    def __enter__(self):
        self._context = nullcontext() if self._emulator is None else launch.emulated(self._emulator)
        self._context.__enter__()
        return self

    def __exit__(self, *error):
        return self._context.__exit__(*error)


@pytest.fixture(scope="session")
def emulated(emulate):
    """`emulated(descending=False)`: the dense kernels in an emulator."""
    return lambda **order: Arena(emulate(list(dense.KERNELS), **order), None)


@pytest.fixture(scope="session", params=WHERE)
def arena(request):
    return Arena(None, request.getfixturevalue("gpu")) if request.param == "gpu" else request.getfixturevalue("emulated")()


@pytest.fixture
def _poison(monkeypatch):
    """Outputs begin as NaNs, or as a number that no result is."""

    def poisoned(shape, kind, place):
        array = arrays.empty(shape, kind, place)
        array[...] = torch.nan if "float" in kind else -77
        return array

    monkeypatch.setattr(dense, "empty", poisoned)
