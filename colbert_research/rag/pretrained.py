"""Which encoder a name means, and that encoder with other lengths of documents."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from colbert_research.encoders import MultiVectorConfig, TextPipeline, TransformerConfig
from colbert_research.encoders.checkpoints import layout_of
from colbert_research.encoders.identity import fingerprint_of
from colbert_research.encoders.pieces import word_pieces
from colbert_research.encoders.weights import MINILM, find_model
from colbert_research.settings import ConfigError

logger = logging.getLogger("colbert_research")
LEAST = 3  # tokens of a document: one between two special ones


def pretrained(given: str | Path | Any) -> Any:
    """The config of an encoder by the name or folder of its model; a config is one already.

    Raises ConfigError for a model that is found nowhere or was not trained for late interaction, TypeError for anything else.
    """
    if not isinstance(given, str | Path):
        if isinstance(given, type) or not hasattr(given, "load"):
            raise TypeError(f"expected a model's name or folder, or an encoder's config; given {given!r:.80}")
        return given
    name = str(given)
    if name == MINILM:
        find_model(name)
        return TransformerConfig(model=name)
    try:
        layout_of(find_model(name), model=name)
    except ConfigError as error:
        if "found nowhere" in str(error):
            raise ConfigError(f"{error}: from_pretrained({MINILM!r})") from None
        if "kind: transformer" not in str(error):
            raise
        raise ConfigError(f"{error}: from_pretrained(TransformerConfig(model={name!r}))") from None
    return MultiVectorConfig(model=name)


def on_processor(encoder: Any) -> Any:
    """The same encoder, which uses no GPU."""
    return encoder.model_copy(update={"device": "cpu"}) if hasattr(encoder, "device") else encoder


def default_name(encoder: Any) -> str:
    """The name of an index for which the user gives none, as RAGatouille makes it."""
    return f"{Path(getattr(encoder, 'model', encoder.kind)).name}new_index"


class Pretrained:
    """An encoder, which cuts documents at whatever length is asked for; each length is loaded at most once, when it is needed.

    `pipeline`: of an index, which is used as it is for documents of its own length.
    """

    def __init__(self, encoder: Any, pipeline: TextPipeline | None = None) -> None:
        self.encoder = encoder
        self.length: int | None = getattr(encoder, "document_length", None)
        self._like, self._pipelines = pipeline, {} if pipeline is None else {self.length: pipeline}

    def pipeline(self, length: int | None = None) -> TextPipeline:
        """The encoder that cuts documents at `length` tokens, or where its own settings say; projected and pooled as that of
        the index. Raises ValueError for what is no length, ConfigError for one that the model cannot take."""
        if self.length is None and length is not None:
            logger.info(
                "%s has no document_length: max_document_length=%s is not looked at", type(self.encoder).__name__, length
            )
        length = self.length if length is None or self.length is None else length
        if length not in self._pipelines:
            encoder = self.encoder if length == self.length else self._with(length)
            self._pipelines[length] = (
                TextPipeline.of(encoder)
                if self._like is None
                else replace(self._like, encoder_config=encoder, encoder_fingerprint=fingerprint_of(encoder))
            )
        return self._pipelines[length]

    def pipeline_for(self, texts: Sequence[str], length: int | Literal["auto"]) -> TextPipeline:
        """The pipeline for documents of a length; `auto` is the encoder's own, or the most that it can take where a text needs
        more."""
        if length != "auto":
            return self.pipeline(length)
        pipeline = self.pipeline()
        if self.length is None or not (pieces := word_pieces(pipeline.encoder)).too_long(texts):
            return pipeline
        longest = max(len(pieces.starts(text)) for text in texts) + pieces.added
        return self.pipeline(pieces.positions or longest)

    def loaded(self, pipeline: TextPipeline) -> TextPipeline:
        """The same pipeline with its encoder loaded already, where it is."""
        own = pipeline.fingerprint()
        return next((known for known in self._pipelines.values() if known.fingerprint() == own), pipeline)

    def _with(self, length: Any) -> Any:
        if isinstance(length, bool) or not isinstance(length, int) or length < LEAST:
            raise ValueError(f"max_document_length counts tokens, special tokens included, from {LEAST} on; given {length!r}")
        return self.encoder.model_copy(update={"document_length": length})
