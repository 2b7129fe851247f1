"""A `TextPipeline` on disk: `pipeline.json`, its settings, and `arrays.safetensors`, what was fitted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from pydantic import Field, ValidationError

from colbert_research.artifacts import read_json, save_arrays, write_json
from colbert_research.config import Config, Seed, component, explain, no_imports
from colbert_research.encoders.pooling import POOLERS
from colbert_research.encoders.registry import ENCODERS
from colbert_research.settings import ConfigError
from colbert_research.texts import TextFields

VERSION = 2
"""Version 2 has a mean beside the projection, which a reader of version 1 would overlook; without one, 1 is written."""
SETTINGS, ARRAYS = "pipeline.json", "arrays.safetensors"


class SavedPipeline(Config):
    """What `pipeline.json` holds; see `TextPipeline` for its meaning."""

    format: Literal["colbert_research pipeline"] = "colbert_research pipeline"
    version: Literal[1, 2] = 1
    encoder: component("encoder", ENCODERS)  # type: ignore[valid-type]
    encoder_fingerprint: str = Field(pattern="^[0-9a-f]{12}$")
    dim: int = Field(ge=1)
    pooling: component("pooling", POOLERS)  # type: ignore[valid-type]
    seed: Seed
    text_fields: TextFields

    def write(self, folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write both files into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_arrays(folder / ARRAYS, arrays)
        write_json(folder / SETTINGS, self.model_dump(mode="json"))

    @classmethod
    def read(cls, folder: Path) -> "tuple[SavedPipeline, dict[str, NDArray[Any]]]":
        """Read both files. Raises FileNotFoundError, or `ConfigError`, also for kinds that are not loaded: none is imported."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        file = folder / SETTINGS
        if not file.is_file():
            raise FileNotFoundError(f"no pipeline in {folder}: it has no {SETTINGS}, as TextPipeline.save writes")
        try:
            found = read_json(file)
            if isinstance(found, dict) and isinstance(found.get("version"), int) and found["version"] > VERSION:
                raise ConfigError(
                    f"it has version {found['version']}, this package reads up to {VERSION}; update colbert_research"
                )
            with no_imports():
                return cls.model_validate(found), load_file(folder / ARRAYS)
        except ValidationError as error:
            raise ConfigError(f"the pipeline in {folder} cannot be opened: {explain(error, cls)}") from None
        except (OSError, SafetensorError, ValueError) as error:
            raise ConfigError(f"the pipeline in {folder} cannot be opened: {error}") from error
