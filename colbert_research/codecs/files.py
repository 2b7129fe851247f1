"""A fitted codec on disk: its config, and the arrays that it has learnt."""

from pathlib import Path

import numpy as np

from colbert_research.artifacts import read_json, write_json
from colbert_research.codecs.base import Codec
from colbert_research.codecs.registry import CODECS
from colbert_research.config import ConfigError, component_of


def save_codec(codec: Codec, folder: Path) -> None:
    """Write `codec.json` (its config) and `state.safetensors` (its arrays) into `folder`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in codec.state().items()}, folder / "state.safetensors")
    write_json(folder / "codec.json", codec.config.model_dump(mode="json"))


def open_codec(folder: Path) -> Codec:
    """Read what `save_codec` wrote."""
    from safetensors.numpy import load_file

    config = component_of("codec", CODECS, read_json(folder / "codec.json"))
    arrays = load_file(folder / "state.safetensors")
    for array in arrays.values():
        array.flags.writeable = False  # a codec is immutable, and kernels keep answers for what cannot change
    if not hasattr(config, "restore"):
        raise ConfigError(f"codec config {type(config).__name__} has no restore(arrays) and cannot be opened")
    codec: Codec = config.restore(arrays)
    return codec
