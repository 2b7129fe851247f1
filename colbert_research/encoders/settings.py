"""The settings that every encoder with a neural network shares: which weights, where they run, in which precision."""

import ctypes
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from colbert_research.config import Config, content_hash
from colbert_research.encoders.processor import check_cpu, check_cuda
from colbert_research.encoders.weights import find_model, model_hash
from colbert_research.settings import ConfigError

if TYPE_CHECKING:
    import torch

_LOCATION = ("model", "revision", "trust_remote_code")  # where the files lie; what is in them is hashed
_ROUNDING = ("device", "batch_tokens")


class ModelConfig(Config):
    """Base of the configs of transformer encoders.

    `model`: a hub name or a folder. `revision`: a branch, tag or commit of a hub model. `device`: `auto` (CUDA if there is any,
    else the CPU) or a torch device. `precision`: what the transformer multiplies in (`torch.autocast`); its weights, the
    projection and the normalisation are float32 always. It is part of the fingerprint, and an error where the processor would
    emulate it. `batch_tokens`: tokens of a padded batch, rows times width; it bounds memory and, since the rounding of a matrix
    product depends on its shape, it is part of `rounding`.
    """

    model: str
    revision: str | None = None
    trust_remote_code: bool = False
    device: str = "auto"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_tokens: int = Field(default=4096, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _dtype_of_earlier_versions(cls, data: Any) -> Any:
        """Configs, indexes and records of earlier versions have a `dtype`, which was `auto`, and on a CPU float32, always."""
        if not isinstance(data, Mapping) or "dtype" not in data:
            return data
        if data["dtype"] not in ("auto", "float32"):
            raise ValueError(f"dtype is called precision now and is part of what an encoder is: use precision: {data['dtype']}")
        return {name: value for name, value in data.items() if name != "dtype"}

    def fingerprint(self) -> str:
        """12 hex digits that stand for the contents of the model's files and for all settings but those of `rounding`.

        The model is found (see `weights.find_model`, with its errors) and hashed, not loaded. Settings count as written: one
        that repeats what the checkpoint says gives another fingerprint than None. Code that a checkpoint takes from another
        repository is known by the name in its config.json alone.
        """
        folder = find_model(self.model, revision=self.revision)
        settings = {name: value for name, value in self.identity().items() if name not in (*_LOCATION, *_ROUNDING)}
        return content_hash("colbert_research.encoders.model/2", settings, model_hash(folder))

    def portable(self) -> Self:
        """The same encoder, to be written down for any machine: its fingerprint is the same.

        The device is `auto`, a folder has its absolute path, and running code of a hub's is left for a person to allow.
        """
        folder = Path(self.model).expanduser()
        model = str(folder.resolve()) if folder.is_dir() else self.model
        return self.model_copy(update={"model": model, "device": "auto", "trust_remote_code": False})

    def rounding(self) -> dict[str, Any]:
        """What moves only the last bits of the vectors: type of the device, as it is on this machine, dtype of the weights, and
        batch_tokens. Raises `ConfigError` for a precision that the processor would emulate."""
        kind = resolved(self.device, self.precision).partition(":")[0]
        return {"device": kind, "dtype": "float32", "batch_tokens": self.batch_tokens}


def place(device: str, precision: str) -> "torch.device":
    """The torch device that the settings mean on this machine; raises `ConfigError` for what cannot be had."""
    import torch

    name = resolved(device, precision)
    try:
        where = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r} is not a torch device: use auto, cpu, cuda, cuda:1 or mps") from error
    if where.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(f"device {device!r} was asked for and this machine has no CUDA device: use device: auto or cpu")
        check_cuda(precision)
    return where


def resolved(device: str, precision: str) -> str:
    """The name of a device, with `auto` replaced by what it means on this machine; `ConfigError` where a CPU would emulate."""
    name = ("cuda" if has_cuda() else "cpu") if device == "auto" else device
    if name.partition(":")[0] == "cpu":
        check_cpu(precision)
    return name


def has_cuda() -> bool:
    """Whether torch finds a device; torch, which takes seconds to import, is asked only where there is a driver."""
    if not _has_driver():
        return False
    import torch

    return bool(torch.cuda.is_available())


def _has_driver() -> bool:
    """Whether there is a sign of NVIDIA's driver, or of AMD's, which torch serves under the same name."""
    if any(Path("/dev").glob("nvidia*")) or Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("nvcuda" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def check_lengths(transformer: Any) -> None:
    """Raise `ConfigError` for a length beyond the positions that the transformer has."""
    most = _positions(transformer)
    for name in ("query_length", "document_length"):
        length = getattr(transformer, name)
        if length is not None and most is not None and 0 < most < length:
            raise ConfigError(f"{name} {length} is more than the {most} positions of this transformer")


def _positions(transformer: Any) -> int | None:
    """Tokens that a transformer has positions for; None where its config names no number.

    Where the table of positions has a row for padding, as RoBERTa's, the first position comes after that.
    """
    most = getattr(transformer.config, "max_position_embeddings", None)
    if most is None or not hasattr(transformer, "modules"):
        return most
    for name, module in transformer.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            return int(most) - padding - 1
    return int(most)
