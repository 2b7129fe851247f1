"""Every instance of every kernel: what the tests compile and hold to its registers, and what the notebook shows."""

from importlib import import_module

from colbert_research.kernels.cuda.compile import Usage, compiled, source
from colbert_research.kernels.cuda.launch import Kernel

MODULES = ("dense", "codes", "topk", "tally", "interaction", "products")
"""The modules of this folder that launch kernels; each names its instances in `KERNELS`."""


def kernels() -> tuple[Kernel, ...]:
    modules = [import_module(f"colbert_research.kernels.cuda.{name}") for name in MODULES]
    return tuple(kernel for module in modules for kernel in module.KERNELS)


def usage(architecture: str) -> dict[Kernel, Usage]:
    """What each kernel takes on an architecture, as the compiler tells; no GPU is needed.

    Raises ImportError without NVRTC, and CompilationError where it does not tell.
    """
    found = {}
    for file in sorted({kernel.source for kernel in kernels()}):
        names = [kernel.name for kernel in kernels() if kernel.source == file]
        binary = compiled(source(file), names, architecture)
        found.update({Kernel(file, name): binary.usage_of(name) for name in names})
    return found
