"""`ModelEncoder`: a sentence-transformers `MultiVectorEncoder` as an `Encoder`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from colbert_research.config import content_hash
from colbert_research.encoders.base import TokenVectors, checked
from colbert_research.encoders.loop import Task, encode


class ModelEncoder:
    """An encoder around a loaded `MultiVectorEncoder`, whose prompts, lengths, expansion and mask it obeys.

    `weights`: a hash of the weights. The model is only read; changing it afterwards makes the fingerprint wrong.
    """

    def __init__(self, model: Any, *, weights: str, batch_tokens: int) -> None:
        self.model = model.eval()
        self.dim = int(model.get_embedding_dimension())
        self._batch_tokens = batch_tokens
        self._fingerprint = _fingerprint(model, weights=weights, batch_tokens=batch_tokens)

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        return self._encode(texts, "query")

    def encode_documents(self, texts: Sequence[str]) -> TokenVectors:
        return self._encode(texts, "document")

    def tokens(self, token_ids: Any) -> list[str]:
        return list(self.model.tokenizer.convert_ids_to_tokens([int(i) for i in token_ids]))

    def fingerprint(self) -> str:
        return self._fingerprint

    def _encode(self, texts: Sequence[str], task: Task) -> TokenVectors:
        prompt = prompt_of(self.model, task)
        return encode(self.model, checked(texts), task=task, prompt=prompt, batch_tokens=self._batch_tokens, dim=self.dim)


def prompt_of(model: Any, task: Task) -> str | None:
    """The text that `model` puts before a query or a document, as its own `encode_query` and `encode_document` choose it."""
    names = ("query",) if task == "query" else ("document", "passage", "corpus")
    name = next((n for n in names if n in model.prompts), model.default_prompt_name)
    return model.prompts.get(name) if name is not None else None


def _fingerprint(model: Any, *, weights: str, batch_tokens: int) -> str:
    architecture = {k: v for k, v in model[0].config.to_dict().items() if k not in ("transformers_version", "_name_or_path")}
    return content_hash(
        "colbert_research.encoders.model/1",
        weights,
        _tokenizer(model.tokenizer),
        json.loads(json.dumps(architecture, default=str)),
        [[type(module).__name__, _settings(module)] for module in model],
        {task: prompt_of(model, task) for task in ("query", "document")},
        [str(model.dtype), model.device.type, batch_tokens],
    )


def _tokenizer(tokenizer: Any) -> Any:
    """What decides the token ids; without the padding and truncation, which are set anew at every call."""
    if not tokenizer.is_fast:
        return [repr(tokenizer), sorted(tokenizer.get_vocab().items())]
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in described.items() if key not in ("padding", "truncation")}


def _settings(module: Any) -> str:
    return repr(sorted(module.get_config_dict().items())) if hasattr(module, "get_config_dict") else ""


@contextmanager
def quietly() -> Iterator[None]:
    """Load weights without the progress bar of transformers, which would end up in every notebook."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
