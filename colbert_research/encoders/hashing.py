"""A deterministic encoder made of hashes, for tests and demonstrations: it needs NumPy alone and finds lexical overlap.

A word's vector is its own pseudo-random direction plus those of its character trigrams, so that inflected forms lie near each
other; a little of both neighbours is mixed in for context. This is no model and no baseline.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.config import Config, Seed, content_hash
from colbert_research.encoders.base import Encoder, TokenVectors, checked
from colbert_research.ragged import Ragged, offsets_of

_WORD = re.compile(r"\w+|[^\w\s]")  # runs of letters and digits; every other sign alone
_TRIGRAMS = 1.0  # weight of a word's trigrams together, beside the word itself
_NEIGHBOUR = 0.15  # weight of each neighbour in a token's vector


class HashingConfig(Config):
    """`dim`: width of a vector. `seed`: another one gives other directions. The lengths count words."""

    kind: Literal["hashing"] = "hashing"
    dim: int = Field(default=32, ge=2)
    seed: Seed = 0
    document_length: int = Field(default=220, ge=1)
    query_length: int = Field(default=48, ge=1)

    def load(self) -> Encoder:
        """The encoder; nothing is read."""
        return HashingEncoder(self)

    def fingerprint(self) -> str:
        return content_hash("colbert_research.encoders.hashing/1", self)

    def rounding(self) -> dict[str, Any]:
        """Nothing: one machine rounds like another for this encoder."""
        return {}


class HashingEncoder:
    """Words and signs of the lower-cased text, one L2-normalised float32 vector each; a blank text has none.

    A token id is a stable 31-bit hash of the word. `tokens` knows the words that this object has met; others are `#id`.
    """

    def __init__(self, config: HashingConfig) -> None:
        self.config = config
        self.dim = config.dim
        self._rows: dict[str, int] = {}
        self._words: dict[int, str] = {}
        self._table = np.empty((1024, config.dim), np.float32)
        self._ids = np.empty(1024, np.int32)

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        return self._encode(checked(texts), self.config.query_length)

    def encode_documents(self, texts: Sequence[str]) -> TokenVectors:
        return self._encode(checked(texts), self.config.document_length)

    def tokens(self, token_ids: Any) -> list[str]:
        return [self._words.get(int(i), f"#{int(i)}") for i in token_ids]

    def fingerprint(self) -> str:
        return self.config.fingerprint()

    def rounding(self) -> dict[str, Any]:
        return self.config.rounding()

    def _encode(self, texts: list[str], length: int) -> TokenVectors:
        if not texts:
            return TokenVectors.empty(self.dim)
        rows = [[self._row(word) for word in _WORD.findall(text.lower())[:length]] for text in texts]
        offsets = offsets_of([len(row) for row in rows])
        flat = np.fromiter((r for row in rows for r in row), np.int64, int(offsets[-1]))
        plain = self._table[flat]
        # the neighbour to the left of a first token, and to the right of a last one, is another text's: left out
        first, last = np.zeros(len(flat), bool), np.zeros(len(flat), bool)
        filled = np.diff(offsets) > 0
        first[offsets[:-1][filled]] = last[offsets[1:][filled] - 1] = True
        mixed = plain.copy()
        mixed[1:] += _NEIGHBOUR * np.where(first[1:, None], np.float32(0), plain[:-1])
        mixed[:-1] += _NEIGHBOUR * np.where(last[:-1, None], np.float32(0), plain[1:])
        return TokenVectors(Ragged(_unit(mixed), offsets), Ragged(self._ids[flat], offsets))

    def _row(self, word: str) -> int:
        """The row of a word in the table, which grows with the vocabulary met."""
        row = self._rows.get(word)
        if row is None:
            row = self._rows[word] = len(self._rows)
            if row == len(self._table):
                self._table, self._ids = np.concatenate([self._table] * 2), np.concatenate([self._ids] * 2)
            self._table[row] = self._vector(word)
            self._ids[row] = token_id = _token_id(word)
            self._words[token_id] = word
        return row

    def _vector(self, word: str) -> NDArray[np.float32]:
        framed = f"<{word}>"
        trigrams = np.stack([self._direction(f"3:{framed[i : i + 3]}") for i in range(len(framed) - 2)]).sum(axis=0)
        return _unit(self._direction(f"w:{word}") + _TRIGRAMS * _unit(trigrams))

    def _direction(self, name: str) -> NDArray[np.float32]:
        """An L2-normalised vector `(dim,)` that depends on the name and the seed alone."""
        signed = np.frombuffer(b"".join(_digests(name, self.config.seed, self.dim)), np.uint8)[: self.dim]
        return _unit(signed.astype(np.float32) - np.float32(127.5))


def _digests(name: str, seed: int, size: int) -> Iterator[bytes]:
    """At least `size` pseudo-random bytes, in pieces of 64."""
    data = name.encode("utf-8", "surrogatepass")
    for counter in range(0, size, 64):
        yield hashlib.blake2b(data, key=f"{seed}/{counter}".encode()).digest()


def _token_id(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "little") & 0x7FFFFFFF


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    # no vector is zero: a byte is never 127.5, and what is mixed in is always shorter than what it is mixed into
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)
