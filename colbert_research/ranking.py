"""`Ranking`: the ordered documents of every query. Ties are decided once, here: score descending, then position ascending."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.ragged import item_of_row, offsets_of, rows_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Ranking:
    """Documents and scores of many queries, best first.

    `positions`, `scores`: `(n,)` int64 and float32, query after query; `offsets`: `(n_queries + 1,)` int64. A position is a
    document's place in `document_ids`. Construction checks the order, so every `Ranking` obeys the tie rule.
    """

    query_ids: tuple[str, ...]
    document_ids: Sequence[str]
    offsets: NDArray[np.int64]
    positions: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.query_ids) + 1 or not len(self.positions) == len(self.scores) == self.offsets[-1]:
            raise ValueError(
                f"a ranking of {len(self.query_ids)} queries needs as many offsets plus one, and one score a position; given "
                f"{len(self.offsets)} offsets, {len(self.positions)} positions, {len(self.scores)} scores"
            )
        if self.offsets[0] != 0 or np.any(np.diff(self.offsets) < 0):
            raise ValueError(f"offsets must start at 0 and not fall; given {self.offsets}")
        if len(self.positions) and not 0 <= self.positions.min() <= self.positions.max() < len(self.document_ids):
            raise ValueError(
                f"positions must lie between 0 and {len(self.document_ids) - 1}; "
                f"given {self.positions.min()} to {self.positions.max()}"
            )
        if np.isnan(self.scores).any():
            raise ValueError("a score is not a number (NaN); look for NaN or infinite token vectors")
        wrong = ~(self.scores[:-1] > self.scores[1:])
        if wrong.any():  # ties are rare
            wrong &= ~((self.scores[:-1] == self.scores[1:]) & (self.positions[:-1] < self.positions[1:]))
            inner = self.offsets[1:-1]
            wrong[inner[(inner > 0) & (inner < len(self.scores))] - 1] = False  # the last of a query, the first of the next
        if wrong.any():
            query = item_of_row(self.offsets)[int(np.flatnonzero(wrong)[0])]
            raise ValueError(f"query {self.query_ids[query]!r} is not ordered by descending score, then ascending position")

    @classmethod
    def of(
        cls,
        results: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]],
        *,
        query_ids: Sequence[str],
        document_ids: Sequence[str],
    ) -> "Ranking":
        """A ranking from one `(positions, scores)` pair a query, in any order; they are sorted here."""
        ordered = [_ordered(np.asarray(p, np.int64), np.asarray(s, np.float32)) for p, s in results]
        positions = np.concatenate([np.empty(0, np.int64), *(p for p, _ in ordered)])
        scores = np.concatenate([np.empty(0, np.float32), *(s for _, s in ordered)])
        return cls(tuple(query_ids), document_ids, offsets_of([len(p) for p, _ in ordered]), positions, scores)

    def __len__(self) -> int:
        return len(self.query_ids)

    def __repr__(self) -> str:
        return f"Ranking({len(self)} queries, {len(self.positions)} results, {len(self.document_ids)} documents)"

    def top(self, query: int) -> list[tuple[str, float]]:
        """`(document id, score)` of one query, best first."""
        part = slice(self.offsets[query], self.offsets[query + 1])
        return [(self.document_ids[p], float(s)) for p, s in zip(self.positions[part], self.scores[part], strict=True)]

    @property
    def ranks(self) -> NDArray[np.int64]:
        """`(n,)` int64: rank within its query, from 1."""
        return np.arange(len(self.positions), dtype=np.int64) - np.repeat(self.offsets[:-1], np.diff(self.offsets)) + 1

    def truncate(self, k: int) -> "Ranking":
        """The best `k` of every query."""
        if k < 1:
            raise ValueError(f"k must be at least 1; given {k}")
        return self._keep(self.ranks <= k)

    def without_self(self) -> "Ranking":
        """The ranking less the document that carries the query's own id (collections whose queries are documents)."""
        position = {document: i for i, document in enumerate(self.document_ids)}
        own = np.array([position.get(query, -1) for query in self.query_ids], dtype=np.int64)
        return self._keep(self.positions != own[item_of_row(self.offsets)])

    def take(self, queries: Sequence[int]) -> "Ranking":
        """The ranking of some queries, by place."""
        positions = np.asarray(queries, np.int64)
        rows = rows_of(self.offsets, positions)
        ids = tuple(self.query_ids[i] for i in positions)
        offsets = offsets_of(np.diff(self.offsets)[positions])
        return Ranking(ids, self.document_ids, offsets, self.positions[rows], self.scores[rows])

    def _keep(self, kept: NDArray[np.bool_]) -> "Ranking":
        counts = np.bincount(item_of_row(self.offsets)[kept], minlength=len(self))
        return Ranking(self.query_ids, self.document_ids, offsets_of(counts), self.positions[kept], self.scores[kept])

    @staticmethod
    def merge(parts: Sequence["Ranking"], k: int) -> "Ranking":
        """The best `k` of rankings of the same queries over different documents of one collection (shards)."""
        if not parts:
            raise ValueError("nothing to merge")
        first = parts[0]
        if any(part.query_ids != first.query_ids or part.document_ids != first.document_ids for part in parts):
            raise ValueError("only rankings of the same queries over the same list of documents can be merged")
        results = []
        for query in range(len(first)):
            rows = [slice(part.offsets[query], part.offsets[query + 1]) for part in parts]
            positions = np.concatenate([part.positions[row] for part, row in zip(parts, rows, strict=True)])
            scores = np.concatenate([part.scores[row] for part, row in zip(parts, rows, strict=True)])
            if len(np.unique(positions)) != len(positions):
                raise ValueError(f"query {first.query_ids[query]!r} has a document in two of the rankings to merge")
            results.append((positions, scores))
        return Ranking.of(results, query_ids=first.query_ids, document_ids=first.document_ids).truncate(k)

    def to_frame(self) -> "pd.DataFrame":
        """A table with columns query_id, rank, document_id, score."""
        import pandas as pd

        ids = np.asarray(self.document_ids, dtype=object)
        queries = np.asarray(self.query_ids, dtype=object)[item_of_row(self.offsets)]
        documents = ids[self.positions] if len(ids) else np.empty(0, object)
        return pd.DataFrame({"query_id": queries, "rank": self.ranks, "document_id": documents, "score": self.scores})

    def to_trec(self, path: str | Path, *, tag: str = "colbert_research") -> None:
        """Write a TREC run file: `query Q0 document rank score tag`. Identifiers must hold no white space."""
        lines = []
        for query, rank, document, score in self.to_frame().itertuples(index=False):
            if len(f"{query} {document} {tag}".split()) != 3:
                raise ValueError(f"TREC files cannot hold white space: query {query!r}, document {document!r}, tag {tag!r}")
            lines.append(f"{query} Q0 {document} {rank} {score:.9g} {tag}\n")
        Path(path).write_text("".join(lines), encoding="utf-8")

    @classmethod
    def from_trec(cls, path: str | Path, *, document_ids: Sequence[str], query_ids: Sequence[str] | None = None) -> "Ranking":
        """Read a TREC run file; documents and queries are looked up in the given ids, unknown ones are an error."""
        position = {document: i for i, document in enumerate(document_ids)}
        found: dict[str, list[tuple[int, float]]] = {query: [] for query in query_ids or ()}
        seen: set[tuple[str, str]] = set()
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
            parts = line.split()
            if len(parts) != 6:
                raise ValueError(f"{path}, line {number}: expected `query Q0 document rank score tag`; given {line!r}")
            query, _, document, _, score, _ = parts
            if document not in position or (query_ids is not None and query not in found):
                raise ValueError(f"{path}, line {number}: unknown query {query!r} or document {document!r}")
            if (query, document) in seen:
                raise ValueError(f"{path}, line {number}: query {query!r} has document {document!r} twice")
            seen.add((query, document))
            found.setdefault(query, []).append((position[document], float(score)))
        results = [
            (np.array([p for p, _ in rows], np.int64), np.array([s for _, s in rows], np.float32)) for rows in found.values()
        ]
        return cls.of(results, query_ids=tuple(found), document_ids=document_ids)

    def to_parquet(self, path: str | Path) -> None:
        """Write `to_frame` to a Parquet file."""
        self.to_frame().to_parquet(path, index=False)

    @classmethod
    def from_parquet(cls, path: str | Path, *, document_ids: Sequence[str], query_ids: Sequence[str]) -> "Ranking":
        """Read what `to_parquet` wrote."""
        import pandas as pd

        frame = pd.read_parquet(path)
        position: Mapping[str, int] = {document: i for i, document in enumerate(document_ids)}
        rows: dict[str, Any] = dict(list(frame.groupby("query_id", sort=False)))
        empty = frame.iloc[:0]
        results = [
            (
                np.array([position[d] for d in rows.get(query, empty)["document_id"]], np.int64),
                rows.get(query, empty)["score"].to_numpy(np.float32),
            )
            for query in query_ids
        ]
        return cls.of(results, query_ids=query_ids, document_ids=document_ids)


def _ordered(positions: NDArray[np.int64], scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    order = np.lexsort((positions, -scores))
    return positions[order], scores[order]
