"""First stages: cheap rankings whose best documents are scored exactly. `FIRST_STAGES` is the table of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.artifacts import sha256_file
from colbert_research.config import Config
from colbert_research.index import DerivedStructure, Index, Scope
from colbert_research.kernels import topk
from colbert_research.ranking import Ranking
from colbert_research.search.base import Queries
from colbert_research.search.bm25 import Bm25Settings
from colbert_research.search.candidates import centroids_of
from colbert_research.search.cells import coded
from colbert_research.search.finders import neighbours_of
from colbert_research.search.found import joined
from colbert_research.search.igp import IgpSettings
from colbert_research.search.lemur import Estimates, LemurSettings, LemurVectors
from colbert_research.search.mean_vectors import MeanVectors, mean_vectors
from colbert_research.search.sparse import SparseLists, SparseSettings, SparseVectors
from colbert_research.search.trace import Trace
from colbert_research.search.word_counts import bm25s_package
from colbert_research.settings import ConfigError


class FirstStage(Config, ABC):
    """Base of all first stages: scores documents; the best `depth` of those that may be found are the candidates."""

    kind: str

    def structures(self) -> tuple[DerivedStructure, ...]:
        """The structures beside the codes that it asks the index for."""
        return ()

    def needs_texts(self) -> bool:
        """Whether it looks at the queries' texts."""
        return False

    def needs_centroids(self) -> bool:
        """Whether it searches the centroids of the codec."""
        return False

    def check_here(self) -> None:
        """Raise ImportError where this machine lacks what it needs."""

    def check(self, index: Index) -> None:
        """Raise ValueError for an index that it cannot search."""

    def needs_ids(self) -> bool:
        """Whether it looks queries up by their ids."""
        return False

    def candidates(self, index: Index, queries: Queries, depth: int, scope: Scope, trace: Trace) -> list[NDArray[np.int64]]:
        """Ascending positions of the best `depth` documents of each query, of those in the scope; ties by position."""
        scores, found = self.scores(index, queries), []
        for _ in range(len(queries)):
            with trace.stage("first stage") as count:
                positions, scored = next(scores)
                if not scope.is_all:
                    allowed = scope.contains(positions)
                    positions, scored = positions[allowed], scored[allowed]
                found.append(np.sort(positions[topk(scored, depth)]))
                count.documents += len(found[-1])
            trace.keep("first stage", positions, scored)
        return found

    @abstractmethod
    def scores(self, index: Index, queries: Queries) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """For each query, ascending positions and scores of documents; those left out or at minus infinity are not found."""


class Bm25Stage(Bm25Settings, FirstStage):
    """BM25 over title and text; finds only documents that share a word with the query."""

    kind: Literal["bm25"] = "bm25"

    def check_here(self) -> None:
        bm25s_package()

    def structures(self) -> tuple[DerivedStructure, ...]:
        return (self.counts(),)

    def needs_texts(self) -> bool:
        return True

    def scores(self, index: Index, queries: Queries) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        assert queries.texts is not None  # search() refused such queries
        bm25 = self.scores_of(index.structure(self.counts()), index.contents.dead)
        positions = np.arange(index.n_positions, dtype=np.int64)
        return ((positions, bm25.of(text)) for text in queries.texts)


class MeanVectorStage(FirstStage):
    """One vector per text: the cosine of the mean token vectors of query and document, no training involved."""

    kind: Literal["mean_vector"] = "mean_vector"

    def structures(self) -> tuple[DerivedStructure, ...]:
        return (MeanVectors(),)

    def scores(self, index: Index, queries: Queries) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        parts: tuple[NDArray[np.float32], ...] = index.structure(MeanVectors())
        positions = np.flatnonzero(index.contents.with_tokens)
        means = (mean_vectors(query.vectors)[0] for query in queries)
        # row by row: BLAS rounds a row by where it lies among the others, so a document's cosine would depend on its segment
        return ((positions, joined([np.einsum("ij,j->i", part, mean) for part in parts])[positions]) for mean in means)


class LemurStage(LemurSettings, FirstStage):
    """The inner product of one vector per query and one per document that estimates MaxSim: LEMUR (arXiv 2601.21853)."""

    kind: Literal["lemur"] = "lemur"

    def structures(self) -> tuple[DerivedStructure, ...]:
        return (LemurVectors(**{name: getattr(self, name) for name in LemurSettings.model_fields}),)

    def scores(self, index: Index, queries: Queries) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        estimates: Estimates = index.structure(self.structures()[0])
        positions = np.flatnonzero(index.contents.with_tokens)
        return ((positions, estimates.of(np.asarray(query.vectors.values, np.float32))[positions]) for query in queries)


class IgpStage(IgpSettings, FirstStage):
    """Documents in the clusters nearest to each query token, scored by these clusters' centroids alone: IGP (SIGIR 2025).

    Of a subset there may be fewer than asked for: clusters are opened until they hold enough documents of the whole index.
    """

    kind: Literal["igp"] = "igp"

    def structures(self) -> tuple[DerivedStructure, ...]:
        return () if self.finder.kind == "exact" else (neighbours_of(self.finder),)

    def needs_centroids(self) -> bool:
        return True

    def check(self, index: Index) -> None:
        centroids_of(index, f"first_stage={self.kind}")
        if self.finder.kind != "exact":
            coded(index, f"first_stage={self.kind} with finder={self.finder.kind}")

    def scores(self, index: Index, queries: Queries) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        return (self.scores_of(index, np.asarray(query.vectors.values, np.float32)) for query in queries)


class SparseStage(SparseSettings, FirstStage):
    """The inner product of sparse vectors; finds only documents that share an atom with the query. See `search/sparse.py`.

    `query_atoms`: how many atoms code a token of a query.
    """

    kind: Literal["sparse"] = "sparse"
    query_atoms: int = Field(8, ge=1)

    def structures(self) -> tuple[DerivedStructure, ...]:
        return (SparseVectors(**{name: getattr(self, name) for name in SparseSettings.model_fields}),)

    def needs_centroids(self) -> bool:
        return self.atoms is None

    def check(self, index: Index) -> None:
        self.check_atoms(self.size(index.codec))

    def scores(self, index: Index, queries: Queries) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        lists: SparseLists = index.structure(self.structures()[0])
        for query in queries:
            scores = lists.scores(np.asarray(query.vectors.values, np.float32), self.query_atoms)
            positions = np.flatnonzero(scores)
            yield positions, scores[positions]


class TrecStage(FirstStage):
    """A TREC run file, looked up by query id. `missing`: whether a query that the file lacks is an error or finds nothing."""

    kind: Literal["trec"] = "trec"
    path: str
    missing: Literal["error", "nothing"] = "error"

    def needs_ids(self) -> bool:
        return True

    def identity(self) -> dict[str, Any]:
        """All fields, with the file's content in place of its path: it does not matter where it lies, but what it says."""
        return super().identity() | {"path": sha256_file(self._file())}

    def scores(self, index: Index, queries: Queries) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        run = Ranking.from_trec(self._file(), document_ids=index.ids_by_position)
        place = {query: i for i, query in enumerate(run.query_ids)}
        absent = [query for query in queries.ids if query not in place]
        if absent and self.missing == "error":
            raise ValueError(
                f"{self.path} has no results for {len(absent)} of the {len(queries)} queries, such as {absent[:3]}; "
                "give a run of these queries, or say first_stage.missing=nothing"
            )
        return (self._of(run, place.get(query)) for query in queries.ids)

    @staticmethod
    def _of(run: Ranking, place: int | None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        rows = slice(0, 0) if place is None else slice(run.offsets[place], run.offsets[place + 1])
        order = np.argsort(run.positions[rows])
        return run.positions[rows][order], run.scores[rows][order]

    def _file(self) -> Path:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise ConfigError(f"first_stage.path={self.path!r} is no file; give the path of a TREC run")
        return path


FIRST_STAGES: dict[str, type[Config]] = {
    "bm25": Bm25Stage,
    "mean_vector": MeanVectorStage,
    "lemur": LemurStage,
    "igp": IgpStage,
    "sparse": SparseStage,
    "trec": TrecStage,
}
