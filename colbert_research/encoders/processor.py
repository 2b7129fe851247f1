"""Which precisions a processor computes in by itself; what it would only emulate is refused, since float32 is faster there."""

from functools import cache

from colbert_research.settings import ConfigError

NATIVE = {"bfloat16": ("avx512bf16", "amx-bf16"), "float16": ("avx512fp16",)}
"""Precision -> the instructions of a CPU, as LLVM names them, one of which multiplies in it."""


def check_cpu(precision: str) -> None:
    """Raise `ConfigError` for a precision that the CPU of this machine emulates."""
    needed = NATIVE.get(precision, ())
    if needed and not features() & {*needed}:
        raise ConfigError(
            f"precision {precision} on a CPU needs the instructions {' or '.join(needed)}, and this processor has none: it "
            "would emulate every product, slower than float32 and less exact. Use precision: float32, or a GPU "
            "(device: cuda)"
        )


def check_cuda(precision: str) -> None:
    """Raise `ConfigError` for a precision that the CUDA device of this process emulates."""
    import torch

    if precision == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError(
            f"precision bfloat16 needs a GPU of compute capability 8.0, and {torch.cuda.get_device_name()} would emulate it: "
            "use precision: float16 or float32"
        )


@cache
def features() -> frozenset[str]:
    """The instructions that the CPU of this machine has, as LLVM names them."""
    from llvmlite import binding

    return frozenset(name for name, there in binding.get_host_cpu_features().items() if there)
