"""What a pooler is: documents' token vectors in, fewer token vectors out, each with the id of a token that it stands for."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.config import Config
from colbert_research.encoders.base import TokenVectors
from colbert_research.ragged import Ragged, offsets_of

State = Mapping[str, NDArray[Any]]
"""What a pooler learnt from a collection: named arrays, none for most poolers."""


class Document(NamedTuple):
    """The tokens of one document, or of a part of one: `vectors` `(n, dim)` float32, `token_ids` `(n,)` int32."""

    vectors: NDArray[np.float32]
    token_ids: NDArray[np.int32]

    def part(self, rows: Any) -> "Document":
        """The tokens at `rows`, in that order."""
        return Document(self.vectors[rows], self.token_ids[rows])


class Pooler(Protocol):
    """What every pooler config offers besides its fields."""

    def fit(self, documents: TokenVectors) -> State:
        """What `pool` needs to know of the whole collection, in one pass over it."""

    def pool(self, documents: TokenVectors, state: State, *, seed: int) -> TokenVectors:
        """Any documents of that collection with fewer tokens; a document's result depends on no other document."""


class NoPoolingConfig(Config):
    """Every token of a document, as it is."""

    kind: Literal["none"] = "none"

    def fit(self, documents: TokenVectors) -> State:
        return {}

    def pool(self, documents: TokenVectors, state: State, *, seed: int) -> TokenVectors:
        return documents


class Pooling(Config, ABC):
    """Base of all poolers: hands each document to `_pooled`, which leaves its `protected` leading tokens, as a rule [CLS]."""

    protected: int = Field(1, ge=0, description="leading tokens of a document that stay as they are")

    def fit(self, documents: TokenVectors) -> State:
        """What `pool` needs to know of the whole collection, in one pass over it; nothing for most poolers."""
        return {}

    def pool(self, documents: TokenVectors, state: State, *, seed: int) -> TokenVectors:
        """The documents with fewer tokens: float32 vectors and int32 token ids.

        `state`: what `fit` gave for the collection. Protected tokens come first, the others in the order of the document. A
        document's result depends on its own tokens, `state` and `seed` alone. Raises ValueError when vectors and token ids are
        not of the same documents.
        """
        _check(documents)
        parts = [
            self._pooled(Document(np.asarray(vectors, np.float32), np.asarray(ids, np.int32)), state, seed)
            for vectors, ids in zip(*documents, strict=True)
        ]
        offsets = offsets_of([len(part.token_ids) for part in parts])
        values = np.concatenate([np.empty((0, documents.vectors.dim), np.float32), *(part.vectors for part in parts)])
        token_ids = np.concatenate([np.empty(0, np.int32), *(part.token_ids for part in parts)])
        return TokenVectors(Ragged(values, offsets), Ragged(token_ids, offsets))

    @abstractmethod
    def _pooled(self, document: Document, state: State, seed: int) -> Document:
        """A document with fewer tokens, or as it is."""


class Proportional(Pooling):
    """Base of the poolers that keep a share of each document; `_pool` is what one writes.

    Of the `n` tokens that are not protected `n / factor` stay, rounded down, but at least one. PyLate, Sentence Transformers
    and next-plaid count so, with one protected token. Stanford's implementation divides the whole length and adds the
    protected ones, by default none; colpali knows no protected tokens.
    """

    factor: float = Field(2.0, ge=1, description="tokens for each one that stays; need not be whole, 1 changes nothing")

    def kept(self, length: int) -> int:
        """How many tokens per document of `length` tokens keeps, the protected ones included; 0 for an empty document."""
        free = max(0, length - self.protected)
        share = free / Fraction(str(self.factor))  # exact: 33 / 1.1 is 30, and not 29.999…
        return length - free + min(free, max(1, int(share)))

    def pool(self, documents: TokenVectors, state: State, *, seed: int) -> TokenVectors:
        """As `Pooling.pool`; for a factor of 1, what was given."""
        if self.factor == 1:
            _check(documents)
            return documents
        return super().pool(documents, state, seed=seed)

    def _pooled(self, document: Document, state: State, seed: int) -> Document:
        kept = self.kept(len(document.token_ids))
        if kept == len(document.token_ids):
            return document
        head, tail = document.part(slice(self.protected)), self._pool(document, kept - self.protected, state, seed)
        return Document(*(np.concatenate(pair) for pair in zip(head, tail, strict=True)))

    @abstractmethod
    def _pool(self, document: Document, kept: int, state: State, seed: int) -> Document:
        """The `kept` tokens that stand for those behind the protected ones of a document; at least 1 and fewer than those."""


def _check(documents: TokenVectors) -> None:
    if not np.array_equal(documents.vectors.offsets, documents.token_ids.offsets):
        raise ValueError(f"{documents.vectors!r} and {documents.token_ids!r} are not of the same documents")


def document_rng(document: Document, seed: int) -> np.random.Generator:
    """Random numbers for one document, which depend on its tokens and the seed, and not on its position in the collection."""
    digest = hashlib.blake2b(np.ascontiguousarray(document.token_ids, "<i4").tobytes(), digest_size=16).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])
