"""What is searched for, and what is refused."""

import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from colbert_research.encoders.base import TokenVectors
from colbert_research.ragged import Ragged, check_vectors, item_at, unfit_row


@dataclass(frozen=True, eq=False)
class Queries:
    """What is searched for, in parallel: token vectors, identifiers, and the texts where the caller gave them."""

    vectors: Ragged
    ids: tuple[str, ...]
    texts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, column in (("ids", self.ids), ("texts", self.texts)):
            if column is not None and len(column) != len(self.vectors):
                raise ValueError(f"{len(self.vectors)} queries, but {len(column)} query {name}")

    @classmethod
    def of(
        cls, vectors: Ragged | TokenVectors, ids: Sequence[str] | None, texts: Sequence[str] | None, *, dim: int
    ) -> "Queries":
        """Queries for an index of `dim` dimensions; without ids they are numbered.

        Raises TypeError or ValueError for what cannot be searched for: queries of another width, without tokens or with values
        that are not finite, ids that are not unique strings.
        """
        vectors = vectors.vectors if isinstance(vectors, TokenVectors) else vectors
        check_vectors(vectors, "the queries")
        if len(vectors) and vectors.dim != dim:
            raise ValueError(
                f"the queries have {vectors.dim} dimensions and the index {dim}; "
                "encode them with the encoder and reducer that the index was built with"
            )
        names = [str(i) for i in range(len(vectors))] if ids is None else ids
        queries = cls(vectors, _strings("query_ids", names), None if texts is None else _strings("query_texts", texts))
        if len(set(queries.ids)) < len(queries):
            twice = next(each for each, n in Counter(queries.ids).items() if n > 1)
            raise ValueError(f"query ids must be unique; {twice!r} is there more than once")
        if np.any(vectors.lengths == 0):
            raise ValueError(f"query {queries.ids[int(np.argmin(vectors.lengths))]!r} has no token vectors; leave it out")
        row = unfit_row(vectors.values) if len(vectors) else None
        if row is not None:
            raise ValueError(
                f"query {queries.ids[item_at(vectors.offsets, row)]!r} has a token vector that is not finite (NaN, infinite or "
                "too long for float32); look at what the encoder gives for it"
            )
        return queries

    def __len__(self) -> int:
        return len(self.vectors)

    def __iter__(self) -> Iterator["Queries"]:
        """One query at a time."""
        return (self.slice(i, i + 1) for i in range(len(self)))

    def slice(self, start: int, stop: int) -> "Queries":
        """Queries `start` to `stop` (exclusive)."""
        texts = None if self.texts is None else self.texts[start:stop]
        return Queries(self.vectors.slice(start, stop), self.ids[start:stop], texts)


def whole(k: Any) -> int:
    """k as an `int`, at least 1; raises TypeError or ValueError for anything else."""
    try:
        number = operator.index(k)
    except TypeError:
        raise TypeError(f"k is a whole number, the documents to find for each query; given {k!r}") from None
    if number < 1:
        raise ValueError(f"k must be at least 1; given {k}")
    return number


def _strings(name: str, values: Sequence[str]) -> tuple[str, ...]:
    """A list of strings as a tuple; raises TypeError for a lone string, and for an item that is none."""
    if isinstance(values, str):
        raise TypeError(f"{name} must be a list, one string a query; given one string, {values!r:.60}. Put it in a list")
    items = tuple(values)
    other = [item for item in items if not isinstance(item, str)]
    if other:
        raise TypeError(f"{name} are strings; given {other[0]!r} ({type(other[0]).__name__})")
    return items
