"""`ModelEncoder`: a sentence-transformers `MultiVectorEncoder` as an `Encoder`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from colbert_research.encoders.base import TokenVectors, checked
from colbert_research.encoders.loop import Task, encode


class ModelEncoder:
    """An encoder around a loaded `MultiVectorEncoder`, whose prompts, lengths, expansion and mask it obeys.

    `fingerprint`: that of its config. `precision`: what the transformer, its first module, multiplies in from now on, whoever
    runs the model; the modules behind it compute in the precision of their weights. The model is only read otherwise;
    changing it afterwards makes the fingerprint wrong.
    """

    def __init__(self, model: Any, *, fingerprint: str, batch_tokens: int, precision: str = "float32") -> None:
        self.model = model.eval()
        if precision != "float32":
            _autocast(model[0], model.device.type, precision)
        self.dim = int(model.get_embedding_dimension())
        self._batch_tokens = batch_tokens
        self._fingerprint = fingerprint

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        return self._encode(texts, "query")

    def encode_documents(self, texts: Sequence[str]) -> TokenVectors:
        return self._encode(texts, "document")

    def tokens(self, token_ids: Any) -> list[str]:
        return list(self.model.tokenizer.convert_ids_to_tokens([int(i) for i in token_ids]))

    def fingerprint(self) -> str:
        return self._fingerprint

    def rounding(self) -> dict[str, Any]:
        dtype = str(self.model.dtype).removeprefix("torch.")
        return {"device": self.model.device.type, "dtype": dtype, "batch_tokens": self._batch_tokens}

    def _encode(self, texts: Sequence[str], task: Task) -> TokenVectors:
        prompt = prompt_of(self.model, task)
        return encode(self.model, checked(texts), task=task, prompt=prompt, batch_tokens=self._batch_tokens, dim=self.dim)


def prompt_of(model: Any, task: Task) -> str | None:
    """The text that `model` puts before a query or a document, as its own `encode_query` and `encode_document` choose it."""
    names = ("query",) if task == "query" else ("document", "passage", "corpus")
    name = next((n for n in names if n in model.prompts), model.default_prompt_name)
    return model.prompts.get(name) if name is not None else None


def _autocast(transformer: Any, device: str, precision: str) -> None:
    """Let a transformer multiply in another precision and hand on float32."""
    import torch

    forward, dtype = transformer.forward, getattr(torch, precision)

    @wraps(forward)
    def in_precision(*arguments: Any, **options: Any) -> Any:
        with torch.autocast(device, dtype):
            features = forward(*arguments, **options)
        return {**features, "token_embeddings": features["token_embeddings"].float()}

    transformer.forward = in_precision


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
