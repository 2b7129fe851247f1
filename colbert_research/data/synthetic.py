"""Synthetic token vectors that cluster as ColBERT's do, for scaling experiments: any number of tokens, in bounded memory.

A token vector is the mean of its token type, moved by one of a few senses, by the subject of its document and by noise, and
L2-normalised. Types follow Zipf's law; how many there are follows Heaps' law, so that types and PLAID's centroids grow alike.
Types come in families that are near each other. A few special types (markers and punctuation) occur everywhere and mean little:
their vectors are mostly the document's subject.

The constants are calibrated to ColBERTv2 on MS MARCO (MacAvaney and Tonellotto 2024), at its 128 dimensions: after k-means with
PLAID's number of centroids, the median cluster is .86 one token and the median token lies to .62 in one cluster. Measured here:
.82 and .56 at 10^5 tokens, .81 and .63 at 2 * 10^5, .93 and .66 at 10^6. At 64 dimensions clusters are less pure (.67 and .58).
Without that, what is claimed of PLAID-like engines is meaningless on synthetic vectors; `model="gaussian"` is the control that
shows it: .10 and .02 at 10^5.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.config import Config, Seed
from colbert_research.progress import progress
from colbert_research.ragged import NpyWriter, Ragged, load_npy, offsets_of, save_npy

BLOCK = 256  # documents that are made together, from a seed of their own
HEAPS = 4  # types = HEAPS * sqrt(tokens)
ZIPF_EXPONENT, ZIPF_SHIFT = 1.0, 2.7  # Mandelbrot's form, p(rank) ~ (rank + shift) ** -exponent
SPECIAL = 8  # types that stand for markers and punctuation: the most frequent ones
BURST = 0.5  # share of a document's tokens that repeat its own few types
OWN_TYPES = 24
SENSES, ONE_SENSE = (0.6, 0.25, 0.15), 0.4
FAMILY, KINSHIP = 4, 0.28  # types that are near each other: inflections, synonyms
# lengths of the parts of a vector before it is L2-normalised; a type's mean has norm one
SENSE, SUBJECT, NOISE = 0.55, 0.5, 0.5
SPECIAL_MEAN, SPECIAL_SUBJECT = 0.5, 1.0
MEAN_LENGTH, SPREAD, SHORTEST = 80, 0.5, 4  # log-normal lengths of documents
_TABLES, _QUERIES, _BLOCKS = range(3)  # streams of random numbers


class TokenPart(NamedTuple):
    """Some documents' (or queries') token vectors `(n_tokens, dim)` float32 and token ids `(n_tokens,)` int32."""

    vectors: Ragged
    token_ids: Ragged


class Synthetic(Config):
    """A collection of about `tokens` L2-normalised token vectors; the same settings give the same bytes.

    `model`: `tokens`, as described above, or `gaussian`: the same token ids, but vectors drawn without regard to them.
    """

    tokens: int = Field(200_000, ge=MEAN_LENGTH)
    dim: int = Field(128, ge=8)
    model: Literal["tokens", "gaussian"] = "tokens"
    seed: Seed = 0

    @property
    def n_documents(self) -> int:
        return max(1, self.tokens // MEAN_LENGTH)

    @property
    def n_types(self) -> int:
        """Token types, by Heaps' law with the exponent 1/2; ids below `SPECIAL` are special ones."""
        return SPECIAL + int(HEAPS * np.sqrt(self.tokens))

    def parts(self) -> Iterator[TokenPart]:
        """The documents in order, `BLOCK` at a time."""
        model = _Model(self)
        for start in range(0, self.n_documents, BLOCK):
            yield model.block(start)

    def write(self, folder: str | Path, *, dtype: Literal["float32", "float16"] = "float32") -> TokenPart:
        """Write `vectors.npy`, `token_ids.npy` and `offsets.npy`, part by part; returns them memory-mapped."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lengths = []
        parts = progress(self.parts(), total=-(-self.n_documents // BLOCK), description="synthetic", unit="parts")
        with (
            NpyWriter(folder / "vectors.npy", dtype, (self.dim,)) as vectors,
            NpyWriter(folder / "token_ids.npy", np.int32) as token_ids,
        ):
            for part in parts:
                vectors.append(part.vectors.values)
                token_ids.append(part.token_ids.values)
                lengths.append(part.vectors.lengths)
        offsets = offsets_of(np.concatenate(lengths))
        save_npy(folder / "offsets.npy", offsets)
        values, ids = (load_npy(folder / f"{name}.npy", mmap=True) for name in ("vectors", "token_ids"))
        return TokenPart(Ragged(values, offsets), Ragged(ids, offsets))

    def queries(self, n: int, *, tokens: int = 16, noise: float = 0.5) -> tuple[TokenPart, NDArray[np.int64]]:
        """`n` queries and, for each, the position of the document that answers it.

        A query is `tokens` vectors (fewer where the document is shorter) of one document's tokens, special ones left out while
        others are left, each moved by noise of length `noise`. The documents are spread over the collection, each asked for
        once. Raises ValueError for more queries than documents or queries without tokens.
        """
        if not 1 <= n <= self.n_documents:
            raise ValueError(f"queries are drawn from {self.n_documents} documents, each once; asked for {n}")
        if tokens < 1 or noise < 0:
            raise ValueError(f"a query has at least one token and noise of length 0 or more; given {tokens} and {noise}")
        rng = np.random.default_rng([self.seed, _QUERIES])
        answers = np.sort(rng.choice(self.n_documents, size=n, replace=False))
        model, vectors, ids = _Model(self), [], []
        for block in np.unique(answers // BLOCK):
            part = model.block(int(block) * BLOCK)
            for document in answers[answers // BLOCK == block] - block * BLOCK:
                own = part.token_ids[document]
                order = rng.permutation(len(own))
                rows = np.sort(order[np.argsort(own[order] < SPECIAL, kind="stable")][:tokens])
                vectors.append(_unit(part.vectors[document][rows] + noise * _directions(rng, len(rows), self.dim)))
                ids.append(own[rows])
        return TokenPart(Ragged.from_list(vectors), Ragged.from_list(ids)), answers


class _Model:
    """The tables that all blocks share: `(n_types, ...)` arrays, made once from the seed."""

    def __init__(self, config: Synthetic) -> None:
        self.config = config
        rng = np.random.default_rng([config.seed, _TABLES])
        families = _directions(rng, -(-config.n_types // FAMILY), config.dim)
        family = rng.permutation(config.n_types) // FAMILY
        self.means = _unit(families[family] + KINSHIP * _directions(rng, config.n_types, config.dim))
        self.means[:SPECIAL] *= SPECIAL_MEAN
        senses = _directions(rng, len(families) * len(SENSES), config.dim).reshape(-1, len(SENSES), config.dim)
        plain = rng.random(len(families)) < ONE_SENSE
        senses[plain] = senses[plain, :1]
        self.senses = SENSE * senses[family]
        self.senses[:SPECIAL] = 0
        self.subject = np.full(config.n_types, SUBJECT, np.float32)
        self.subject[:SPECIAL] = SPECIAL_SUBJECT
        weights = np.cumsum((np.arange(config.n_types) + 1 + ZIPF_SHIFT) ** -ZIPF_EXPONENT)
        self.cumulative = weights / weights[-1]

    def block(self, start: int) -> TokenPart:
        """The documents `start` to `start + BLOCK`, from a seed of their own."""
        rng = np.random.default_rng([self.config.seed, _BLOCKS, start // BLOCK])
        documents = min(BLOCK, self.config.n_documents - start)
        lengths = np.maximum(SHORTEST, rng.lognormal(np.log(MEAN_LENGTH) - SPREAD**2 / 2, SPREAD, documents).astype(np.int64))
        offsets = offsets_of(lengths)
        document = np.repeat(np.arange(documents), lengths)
        types = self._types(rng, document, documents)
        if self.config.model == "gaussian":
            vectors = _directions(rng, len(types), self.config.dim)
        else:
            vectors = self._vectors(rng, document, types, _directions(rng, documents, self.config.dim))
        return TokenPart(Ragged(vectors, offsets), Ragged(types, offsets))

    def _types(self, rng: np.random.Generator, document: NDArray[np.int64], documents: int) -> NDArray[np.int32]:
        """Zipf's law over all tokens, though each document repeats some of its own."""
        own = self._draw(rng, documents * OWN_TYPES).reshape(documents, OWN_TYPES)
        repeated = own[document, rng.integers(0, OWN_TYPES, len(document))]
        return np.where(rng.random(len(document)) < BURST, repeated, self._draw(rng, len(document)))

    def _draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int32]:
        return np.searchsorted(self.cumulative, rng.random(n)).astype(np.int32)

    def _vectors(
        self, rng: np.random.Generator, document: NDArray[np.int64], types: NDArray[np.int32], subjects: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """One sense of a type in a document (Gale et al. 1992: one sense per discourse)."""
        pairs, where = np.unique(document * self.config.n_types + types, return_inverse=True)
        sense = np.searchsorted(np.cumsum(SENSES)[:-1], rng.random(len(pairs)))[where]
        vectors = self.means[types] + self.senses[types, sense] + self.subject[types, None] * subjects[document]
        vectors += NOISE * _directions(rng, len(types), self.config.dim)
        return _unit(vectors)


def _directions(rng: np.random.Generator, n: int, dim: int) -> NDArray[np.float32]:
    return _unit(rng.standard_normal((n, dim), dtype=np.float32))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
