"""A fitted codec on disk: its config, and the arrays that it has learnt."""

from pathlib import Path

from colbert_research.artifacts import read_json, save_arrays, write_json
from colbert_research.codecs.base import Codec
from colbert_research.codecs.registry import CODECS
from colbert_research.config import component_of, no_imports
from colbert_research.settings import ConfigError


def save_codec(codec: Codec, folder: Path) -> None:
    """Write `codec.json` (its config) and `state.safetensors` (its arrays) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_arrays(folder / "state.safetensors", codec.state())
    write_json(folder / "codec.json", codec.config.model_dump(mode="json"))


def open_codec(folder: Path) -> Codec:
    """Read what `save_codec` wrote.

    Raises ValueError for a kind that is neither registered nor loaded (none is imported), ConfigError for a state without an
    array that this version of the codec has.
    """
    from safetensors.numpy import load_file

    with no_imports():
        config = component_of("codec", CODECS, read_json(folder / "codec.json"))
    arrays = load_file(folder / "state.safetensors")
    for array in arrays.values():
        array.flags.writeable = False  # a codec is immutable, and kernels keep answers for what cannot change
    if not hasattr(config, "restore"):
        raise ConfigError(f"codec config {type(config).__name__} has no restore(arrays) and cannot be opened")
    try:
        codec: Codec = config.restore(arrays)
    except KeyError as error:
        has = ", ".join(sorted(arrays)) or "none"
        raise ConfigError(
            f"the state of codec {config.kind} has no array {error}; it has {has}. Another version wrote it: build it again"
        ) from error
    return codec
