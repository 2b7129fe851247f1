"""`TextPipeline`: what turns a text into the vectors of an index, as a value that can be saved beside them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.config import content_hash
from colbert_research.encoders.base import Encoder, TokenVectors
from colbert_research.encoders.identity import fingerprint_of
from colbert_research.encoders.pooling import NoPoolingConfig, State
from colbert_research.encoders.projection import ARRAYS, Projection
from colbert_research.encoders.reduce import project
from colbert_research.encoders.saved import SavedPipeline
from colbert_research.ragged import Ragged
from colbert_research.settings import ConfigError
from colbert_research.texts import TextFields

_LOADING = RLock()


@dataclass(frozen=True, eq=False, repr=False)
class TextPipeline:
    """An encoder, then a projection, then, for documents alone, a pooler with what it learnt of the collection.

    `encoder_config` loads the encoder when it is first needed; `encoder_fingerprint` is that of the one which made the vectors,
    and no other is let in. `dim`: width of the vectors that come out. `projection`: what the reducer learnt, None for vectors
    as they are. `pooling`, `state`, `seed`: as in `Pooler.pool`. `text_fields`: how a document becomes a text (see
    `texts.document_text`). Made with `TextPipeline.of`. Raises `ValueError` for parts that do not fit each other.
    """

    encoder_config: Any
    encoder_fingerprint: str
    dim: int
    projection: Projection | None = None
    pooling: Any = NoPoolingConfig()  # noqa: RUF009 (frozen)
    state: State = field(default_factory=dict)
    seed: int = 0
    text_fields: TextFields = "title text"

    def __post_init__(self) -> None:
        if self.projection is None:
            return
        matrix, mean = self.projection
        if matrix.dtype != np.float32 or matrix.ndim != 2 or matrix.shape[1] != self.dim:
            given = f"{matrix.dtype} {matrix.shape}"
            raise ValueError(f"a projection to {self.dim} dimensions is float32 (dim, {self.dim}); given {given}")
        if mean is not None and (mean.dtype != np.float32 or mean.shape != matrix.shape[:1]):
            raise ValueError(f"the mean of a projection is float32 ({len(matrix)},); given {mean.dtype} {mean.shape}")
        if not all(np.isfinite(array).all() for array in self.projection.arrays().values()):
            raise ValueError("the projection has values that are not finite; fit the reducer again")

    def __repr__(self) -> str:
        projected = "" if self.projection is None else f", projected from {len(self.projection.matrix)}"
        pooled = "" if self.pooling.kind == "none" else f", documents pooled by {self.pooling.kind}"
        return f"TextPipeline({self._line!r}, dim {self.dim}{projected}{pooled})"

    @classmethod
    def of(
        cls,
        encoder_config: Any,
        *,
        dim: int | None = None,
        projection: Projection | NDArray[np.float32] | None = None,
        pooling: Any = None,
        state: State | None = None,
        seed: int = 0,
        text_fields: TextFields = "title text",
    ) -> "TextPipeline":
        """The pipeline of an encoder as its files are now.

        Where neither `dim` nor a projection tells the width of the vectors, the encoder is loaded to know it, and kept.
        """
        fingerprint, projection = fingerprint_of(encoder_config), Projection.of(projection)
        if dim is None and projection is not None:
            dim = projection.matrix.shape[-1]
        encoder: Any = encoder_config.load() if dim is None else None
        pipeline = cls(
            encoder_config,
            fingerprint,
            encoder.dim if dim is None else dim,
            projection,
            NoPoolingConfig() if pooling is None else pooling,
            {} if state is None else state,
            seed,
            text_fields,
        )
        return pipeline if encoder is None else pipeline.with_encoder(encoder)

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded at most once. Raises `ConfigError` where it cannot be loaded or is another one by now."""
        with _LOADING:
            return self._loaded

    @cached_property
    def _loaded(self) -> Encoder:
        try:
            encoder: Encoder = self.encoder_config.load()
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"the encoder of these vectors ({self._line}) cannot be loaded on this machine: {error}. Where its model lies "
                "elsewhere, name the folder, pipeline.with_model(folder) (--model on the command line), or hand in a loaded "
                "encoder, pipeline.with_encoder(encoder)"
            ) from error
        self._check(encoder.fingerprint(), "the encoder as its files are now")
        return self._check_width(encoder)

    def with_encoder(self, encoder: Encoder) -> "TextPipeline":
        """This pipeline with an encoder that is loaded already. Raises `ConfigError` for another one than made the vectors."""
        self._check(encoder.fingerprint(), "the encoder handed in")
        pipeline = replace(self)
        pipeline.__dict__["_loaded"] = self._check_width(encoder)  # where cached_property looks first
        return pipeline

    def with_model(self, model: str | Path) -> "TextPipeline":
        """This pipeline with its encoder's model taken from another folder or hub name.

        Raises `ConfigError` for files of another model, which are hashed and not loaded, and for an encoder without a model.
        """
        if not hasattr(self.encoder_config, "model"):
            raise ConfigError(f"the encoder of these vectors ({self._line}) reads no model; given {str(model)!r}")
        moved = self.encoder_config.model_copy(update={"model": str(model), "revision": None})
        self._check(fingerprint_of(moved), f"the model in {str(model)!r}")
        return replace(self, encoder_config=moved)

    def queries(self, texts: Sequence[str]) -> Ragged:
        """Token vectors `(n_tokens, dim)` float32 of queries."""
        return self.query_tokens(texts).vectors

    def query_tokens(self, texts: Sequence[str]) -> TokenVectors:
        """Token vectors of queries and the ids of their tokens."""
        return self._project(self.encoder.encode_queries(texts))

    def documents(self, texts: Sequence[str]) -> TokenVectors:
        """Token vectors `(n_tokens, dim)` float32 of documents, pooled, and the ids of the tokens that they stand for."""
        projected = self._project(self.encoder.encode_documents(texts))
        pooled: TokenVectors = self.pooling.pool(projected, self.state, seed=self.seed)
        return pooled

    def fingerprint(self) -> str:
        """12 hex digits that stand for everything that decides the vectors, up to rounding."""
        arrays = {
            name: [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]
            for name, array in self._arrays().items()
        }
        settings = [self.encoder_fingerprint, self.dim, self.pooling, self.seed, self.text_fields]
        return content_hash("colbert_research.encoders.pipeline/1", settings, arrays)

    def save(self, folder: str | Path) -> None:
        """Write `pipeline.json` and `arrays.safetensors` into `folder`; the encoder's settings as `ModelConfig.portable`."""
        config = self.encoder_config
        centred = self.projection is not None and self.projection.mean is not None
        SavedPipeline(
            version=2 if centred else 1,
            encoder=config.portable() if hasattr(config, "portable") else config,
            encoder_fingerprint=self.encoder_fingerprint,
            dim=self.dim,
            pooling=self.pooling,
            seed=self.seed,
            text_fields=self.text_fields,
        ).write(Path(folder), self._arrays())

    @classmethod
    def open(cls, folder: str | Path) -> "TextPipeline":
        """Read what `save` wrote; the encoder is not loaded.

        Raises FileNotFoundError where there is none, `ConfigError` for files that are damaged, newer, or of an encoder or
        pooler that this package lacks.
        """
        saved, arrays = SavedPipeline.read(Path(folder))
        projection = Projection.from_arrays(arrays)
        state = {name.removeprefix("state."): array for name, array in arrays.items() if name not in ARRAYS}
        parts = (saved.encoder, saved.encoder_fingerprint, saved.dim, projection, saved.pooling, state, saved.seed)
        try:
            return cls(*parts, saved.text_fields)
        except ValueError as error:
            raise ConfigError(f"the pipeline in {folder} cannot be opened: {error}") from error

    @property
    def _line(self) -> str:
        """The encoder as one would write it on a line: its kind, and the settings that are not at their default."""
        settings = self.encoder_config.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})
        return " ".join([self.encoder_config.kind, *(f"{name}={value}" for name, value in settings.items())])

    def _arrays(self) -> Mapping[str, NDArray[Any]]:
        projection = {} if self.projection is None else self.projection.arrays()
        return {**projection, **{f"state.{name}": array for name, array in self.state.items()}}

    def _project(self, tokens: TokenVectors) -> TokenVectors:
        return TokenVectors(tokens.vectors.map(lambda values: project(values, self.projection)), tokens.token_ids)

    def _check(self, given: str, name: str) -> None:
        if given != self.encoder_fingerprint:
            raise ConfigError(
                f"{name} did not make these vectors: its fingerprint is {given}, expected {self.encoder_fingerprint}. Weights, "
                f"tokenizer or settings are not those of then ({self._line}): use those, or encode and index anew"
            )

    def _check_width(self, encoder: Encoder) -> Encoder:
        expected = self.dim if self.projection is None else len(self.projection.matrix)
        if encoder.dim != expected:
            raise ConfigError(f"the encoder gives {encoder.dim} dimensions, and this pipeline was made for {expected}")
        return encoder
