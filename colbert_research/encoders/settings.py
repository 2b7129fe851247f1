"""The settings that every encoder with a neural network shares: which weights, where they run, in which precision."""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from colbert_research.config import Config, ConfigError

if TYPE_CHECKING:
    import torch

HALF = ("float16", "bfloat16")


class ModelConfig(Config):
    """Base of the configs of transformer encoders.

    `model`: a hub name or a folder. `revision`: a branch, tag or commit of a hub model. `device`: `auto` (CUDA if there is any,
    else the CPU) or a torch device. `dtype`: `auto` is float16 on CUDA and float32 elsewhere; half precision on a CPU is an
    error. `batch_tokens`: tokens of a padded batch, rows times width; it bounds memory and, since the rounding of a matrix
    product depends on its shape, it is part of the fingerprint.
    """

    model: str
    revision: str | None = None
    trust_remote_code: bool = False
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    batch_tokens: int = Field(default=4096, ge=1)

    @model_validator(mode="after")
    def _no_half_on_a_cpu(self) -> Self:
        if self.device == "cpu" and self.dtype in HALF:
            raise ValueError(_half_on_cpu(self.dtype))
        return self


def place(device: str, dtype: str) -> "tuple[torch.device, torch.dtype]":
    """The torch device and dtype that the settings mean on this machine; raises `ConfigError` for what cannot be had."""
    import torch

    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        where = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r} is not a torch device: use auto, cpu, cuda, cuda:1 or mps") from error
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} was asked for and this machine has no CUDA device: use device: auto or cpu")
    if where.type == "cpu" and dtype in HALF:
        raise ConfigError(_half_on_cpu(dtype))
    chosen = ("float16" if where.type == "cuda" else "float32") if dtype == "auto" else dtype
    return where, getattr(torch, chosen)


def check_lengths(transformer: Any) -> None:
    """Raise `ConfigError` for a length beyond the positions that the transformer has."""
    most = getattr(transformer.config, "max_position_embeddings", None)
    for name in ("query_length", "document_length"):
        length = getattr(transformer, name)
        if length is not None and most is not None and 0 < most < length:
            raise ConfigError(f"{name} {length} is more than the {most} positions of this transformer")


def _half_on_cpu(dtype: str) -> str:
    return f"dtype {dtype} is for accelerators; on a CPU it is slow and imprecise. Use dtype: float32 or auto"
