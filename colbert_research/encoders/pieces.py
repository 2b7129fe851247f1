"""Word pieces: how long a text is for an encoder, told by the encoder's own tokenizer, before anything is encoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.encoders.base import Encoder
from colbert_research.encoders.hashing import _WORD, HashingEncoder
from colbert_research.encoders.settings import _positions
from colbert_research.settings import ConfigError


@dataclass(frozen=True)
class WordPieces:
    """`starts`: where the pieces of a text start, ascending character offsets `(n_pieces,)`. `added`: tokens that the encoder
    puts before and behind them, such as [CLS] and markers. `most`: tokens, those included, after which it cuts a text;
    `positions`: the most that `most` can be set to, where there is a limit."""

    starts: Callable[[str], NDArray[np.int64]]
    added: int
    most: int | None
    positions: int | None = None

    @property
    def room(self) -> int | None:
        """Word pieces of a text that the encoder does not cut; None where it cuts none."""
        return None if self.most is None else self.most - self.added

    def too_long(self, texts: Sequence[str]) -> list[int]:
        """The positions of the texts that the encoder cuts."""
        room = self.room
        return [] if room is None else [i for i, text in enumerate(texts) if len(self.starts(text)) > room]


def word_pieces(encoder: Encoder, task: Literal["query", "document"] = "document") -> WordPieces:
    """The word pieces of an encoder's queries or documents.

    An encoder from outside the package has a method `word_pieces(task)` of its own, or cannot be asked. Raises ConfigError for
    one without, and for a tokenizer that does not tell where its pieces lie.
    """
    if hasattr(encoder, "word_pieces"):
        own: WordPieces = encoder.word_pieces(task)
        return own
    if isinstance(encoder, HashingEncoder):
        most = encoder.config.query_length if task == "query" else encoder.config.document_length
        return WordPieces(lambda text: _array([match.start() for match in _WORD.finditer(text)]), 0, most)
    model = getattr(encoder, "model", None)
    if model is None or not getattr(model.tokenizer, "is_fast", False):
        raise ConfigError(
            f"{type(encoder).__name__} does not tell where the word pieces of a text lie: its tokenizer is none of the "
            "`tokenizers` library. Give it a method word_pieces(task) -> WordPieces"
        )
    return _of_model(model, task)


def _of_model(model: Any, task: Literal["query", "document"]) -> WordPieces:
    from colbert_research.encoders.model import prompt_of

    def starts(text: str) -> NDArray[np.int64]:
        told = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False)
        return _array([start for start, _ in told["offset_mapping"]])

    alone = model.preprocess([""], prompt=prompt_of(model, task), task=task)
    most = model[0].query_length if task == "query" else model[0].document_length
    return WordPieces(starts, int(alone["attention_mask"].sum()), most, _positions(model[0]))


def _array(starts: list[int]) -> NDArray[np.int64]:
    return np.array(starts, np.int64)
