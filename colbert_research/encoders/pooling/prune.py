"""Poolers that prune: some tokens stay as they are, the others are left out."""

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.encoders.base import TokenVectors
from colbert_research.encoders.pooling.base import Document, Proportional, State, document_rng
from colbert_research.ragged import item_of_row
from colbert_research.settings import ConfigError

CHUNK_ROWS = 1 << 18  # tokens looked at together by `fit`


class Pruning(Proportional, ABC):
    """Base of the poolers that prune: the tokens of the highest `_importance` stay, the first of equal ones."""

    def _pool(self, document: Document, kept: int, state: State, seed: int) -> Document:
        importance = self._importance(document, kept, state, seed)[self.protected :]
        return document.part(self.protected + np.sort(np.argsort(-importance, kind="stable")[:kept]))

    @abstractmethod
    def _importance(self, document: Document, kept: int, state: State, seed: int) -> NDArray[Any]:
        """A number for every token `(n,)` of a document; those of the protected ones do not matter."""


class IdfPruningConfig(Pruning):
    """Tokens that many documents hold are left out: importance is the inverse document frequency of the token id.

    A token that the collection lacks is the most important. Source: Lassance et al. 2021 (arXiv 2112.06540).
    """

    kind: Literal["prune_idf"] = "prune_idf"

    def fit(self, documents: TokenVectors) -> State:
        """`vocabulary` `(v,)` int32, ascending, and `document_frequency` `(v,)` int64: how many documents hold each token."""
        frequency: Counter[int] = Counter()
        for _, chunk in documents.token_ids.chunks(CHUNK_ROWS):
            pairs = np.unique(np.stack([item_of_row(chunk.offsets), chunk.values], axis=1), axis=0)
            found, counts = np.unique(pairs[:, 1], return_counts=True)
            frequency.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        vocabulary = sorted(frequency)
        return {
            "vocabulary": np.array(vocabulary, np.int32),
            "document_frequency": np.array([frequency[token] for token in vocabulary], np.int64),
        }

    def _importance(self, document: Document, kept: int, state: State, seed: int) -> NDArray[Any]:
        if "vocabulary" not in state:
            raise ValueError(f"prune_idf needs the state that its fit gave for the collection; given {sorted(state)}")
        vocabulary, frequency = state["vocabulary"], state["document_frequency"]
        known = np.isin(document.token_ids, vocabulary)
        positions = np.searchsorted(vocabulary, document.token_ids[known])
        importance = np.zeros(len(known), np.int64)
        importance[known] = -frequency[positions]  # in the order of log(N / frequency)
        return importance


class NormPruningConfig(Pruning):
    """The shortest vectors are left out, for encoders that do not L2-normalise all vectors.

    Source: Zong and Piwowarski 2025 (arXiv 2504.12778), who train an encoder so that its unneeded vectors become short.
    """

    kind: Literal["prune_norm"] = "prune_norm"

    def fit(self, documents: TokenVectors) -> State:
        """Nothing; raises ConfigError when all vectors have one length, up to rounding, which would make the choice chance."""
        vectors = documents.vectors
        parts = [np.linalg.norm(np.asarray(c.values, np.float32), axis=1) for _, c in vectors.chunks(CHUNK_ROWS) if c.n_rows]
        shortest = min((float(part.min()) for part in parts), default=0.0)
        longest = max((float(part.max()) for part in parts), default=0.0)
        # a norm of one, stored in the file's precision, then summed over the dimensions in float32
        rounding = float(np.finfo(vectors.values.dtype).eps) + vectors.dim * float(np.finfo(np.float32).eps)
        if self.factor > 1 and vectors.n_rows and longest - shortest <= rounding * longest:
            raise ConfigError(
                f"pooling.kind=prune_norm needs vectors of different lengths; here all {vectors.n_rows} have length "
                f"{longest:.4f}, because the encoder or the reducer normalises them. Choose another kind of pooling"
            )
        return {}

    def _importance(self, document: Document, kept: int, state: State, seed: int) -> NDArray[Any]:
        return np.linalg.norm(document.vectors, axis=1)


class PositionPruningConfig(Pruning):
    """The last tokens are left out: a document is cut where its share ends. Source: Lassance et al. 2021 (arXiv 2112.06540)."""

    kind: Literal["prune_position"] = "prune_position"

    def _importance(self, document: Document, kept: int, state: State, seed: int) -> NDArray[Any]:
        return -np.arange(len(document.token_ids))


class RandomPruningConfig(Pruning):
    """Tokens drawn at random, seeded, are left out; the control that every other pruner has to beat."""

    kind: Literal["prune_random"] = "prune_random"

    def _importance(self, document: Document, kept: int, state: State, seed: int) -> NDArray[Any]:
        return document_rng(document, seed).random(len(document.token_ids))
