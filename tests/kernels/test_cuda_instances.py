"""Every kernel for every architecture, by the compiler alone: it compiles, fits its registers, and spills nothing."""

import os

import pytest

from colbert_research.kernels.cuda.compile import ARCHITECTURES, compiled, source
from colbert_research.kernels.cuda.instances import kernels

KERNELS = kernels()
COMPILED_FOR = ARCHITECTURES if os.environ.get("ALL_TRIALS") else ("sm_80", "sm_90a", "sm_120")
"""The oldest, the one with the tightest kernels, and the newest, on which some spilled; all with ALL_TRIALS=1."""
SOME_FOR = set() if os.environ.get("ALL_TRIALS") else {"sm_80"}
"""Where the question is whether it has the instructions: one instance of each template and first argument is compiled."""
MOST_REGISTERS = {
    "dense.cu": 128,
    "batch.cu": 128,
    "backward.cu": 64,
    "codes.cu": 128,
    "prepare.cu": 128,
    "topk.cu": 64,
    "tally.cu": 64,
    "interaction.cu": 64,
    "products.cu": 128,
}
"""65,536 of a multiprocessor, by the threads of the blocks that have to fit: two of 256, or four."""


def names_of(file: str, architecture: str) -> list[str]:
    names = [kernel.name for kernel in KERNELS if kernel.source == file]
    return list({name.partition(",")[0]: name for name in names}.values()) if architecture in SOME_FOR else names


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("architecture", COMPILED_FOR)
@pytest.mark.parametrize("file", sorted({kernel.source for kernel in KERNELS}))
def test_instances(build_folder, file, architecture):
    names = names_of(file, architecture)
    binary = compiled(source(file), names, architecture, folder=build_folder)
    for name in names:
        taken = binary.usage_of(name)
        assert taken.registers <= MOST_REGISTERS[file], name
        assert (taken.stack, taken.spills, taken.shared) == (0, 0, 0), name


@pytest.mark.parametrize("file", sorted({kernel.source for kernel in KERNELS}))
def test_sources_compile_as_cupy_would_compile_them(file):
    text = source(file)
    assert "#include" not in text
    assert text.count("constexpr int WARP = 32;") == 1
