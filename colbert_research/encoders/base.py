"""What an encoder is: text in, token vectors and token ids out, packed."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from colbert_research.ragged import Ragged


class TokenVectors(NamedTuple):
    """The token vectors of many texts and the ids of the tokens that they stand for.

    `vectors`: `Ragged` of `(n_tokens, dim)` float32; `token_ids`: `Ragged` of `(n_tokens,)` int32, with the same offsets. Both
    are in the order of the texts. It is a pair: the number of texts is `len(vectors)`.
    """

    vectors: Ragged
    token_ids: Ragged

    @classmethod
    def empty(cls, dim: int) -> "TokenVectors":
        """The token vectors of no text at all."""
        none = Ragged.from_list([], trailing=(dim,))
        return cls(none, Ragged(np.empty(0, np.int32), none.offsets))


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into token vectors.

    Equal fingerprints and equal texts give equal vectors up to rounding; with equal `rounding`, equal bytes on one machine.
    A text that is no `str` is a `TypeError` that names its position; no texts give an empty result.
    """

    @property
    def dim(self) -> int:
        """Width of a token vector."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors: ...

    def encode_documents(self, texts: Sequence[str]) -> TokenVectors: ...

    def tokens(self, token_ids: Any) -> list[str]:
        """Readable strings for token ids `(n,)`, for tables and pictures."""
        ...

    def fingerprint(self) -> str:
        """12 hex digits that stand for the weights, the tokenizer and all settings but those of `rounding`."""
        ...

    def rounding(self) -> dict[str, Any]:
        """What moves only the last bits of the vectors, such as device type, dtype and batch size; JSON values."""
        ...


def checked(texts: Sequence[str]) -> list[str]:
    """The texts as a list; a lone string, what has no order of texts, or an item that is no string is a `TypeError`."""
    if isinstance(texts, str):
        raise TypeError(f"expected a list of texts; given one text, {texts[:40]!r}. Put it into a list")
    if isinstance(texts, Mapping | Set | bytes) or not isinstance(texts, Iterable):
        raise TypeError(f"expected a list of texts; given {type(texts).__name__}, {texts!r:.60}")
    items = list(texts)
    for position, text in enumerate(items):
        if not isinstance(text, str):
            raise TypeError(f"text {position} is a {type(text).__name__}, {text!r}; a text must be a str")
    return items
