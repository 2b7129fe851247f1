"""What the suites of CUDA kernels share: folders that outlive a run, the emulator, and a GPU where there is one."""

from importlib.util import find_spec

import pytest

from colbert_research.kernels.cuda.launch import Kernel
from tests.kernels.emulator.build import COMPILER, Emulator


@pytest.fixture(scope="session")
def build_folder(request):
    """A folder for what was compiled, kept between runs; everything in it is named by what it was made from."""
    return request.config.cache.mkdir("cuda")


@pytest.fixture(scope="session")
def emulate(build_folder):
    """`emulate(kernels, descending=False)`: an emulator of these instances."""
    if COMPILER is None:
        pytest.skip("no g++ to compile the emulator with")

    def build(kernels: list[Kernel], *, descending: bool = False) -> Emulator:
        return Emulator(kernels, build_folder, descending=descending)

    return build


@pytest.fixture(scope="session")
def nvrtc():
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        pytest.skip("NVRTC is not installed (extras dev, cuda13 or cuda12)")


@pytest.fixture(scope="session")
def gpu():
    """The number of a CUDA device that CuPy and torch both see."""
    import torch

    if not torch.cuda.is_available() or find_spec("cupy") is None:
        pytest.skip("needs a CUDA device, torch for CUDA, and CuPy")
    return 0
