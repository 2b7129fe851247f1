"""Graphs over documents: each document's nearest others in its segment. `GRAPHS` is the table of them."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.codecs import Codec
from colbert_research.config import Config
from colbert_research.index import Arrays, DerivedStructure, Segment, SegmentStructure
from colbert_research.index.damage import check_range, open_array
from colbert_research.kernels import topk
from colbert_research.ragged import offsets_of
from colbert_research.search.bm25 import Bm25Settings
from colbert_research.search.mean_vectors import MeanVectors
from colbert_research.search.word_counts import WordLists, document_texts

DOCUMENTS_PER_BLOCK = 256


@dataclass(frozen=True, eq=False)
class DocumentGraph:
    """`parts`: for each segment, `(n_documents, neighbours)` int32, positions within the segment, -1 where there are fewer."""

    parts: tuple[NDArray[np.int32], ...]
    starts: NDArray[np.int64]

    def neighbours_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """`(n, neighbours)`: positions of each document's nearest others, best first, -1 where there are fewer."""
        found = np.empty((len(positions), self.parts[0].shape[1]), np.int64)
        segment_of = np.searchsorted(self.starts, positions, side="right") - 1
        for segment in np.unique(segment_of):
            own = segment_of == segment
            local = self.parts[segment][positions[own] - self.starts[segment]]
            found[own] = np.where(local < 0, -1, local + self.starts[segment])
        return found


class Graph(SegmentStructure):
    """Each document's `neighbours` nearest others within its segment; in a segment of fewer documents, all others."""

    neighbours: int = Field(64, ge=1)

    @abstractmethod
    def similarities(self, segment: Segment, needed: Mapping[DerivedStructure, Arrays]) -> Iterator[NDArray[np.float32]]:
        """For each document, how similar those of its segment are to it, `(n_documents,)`; minus infinity: not at all."""

    def build(self, codec: Codec, segment: Segment, needed: Mapping[DerivedStructure, Arrays]) -> Arrays:
        found = np.full((len(segment), self.neighbours), -1, np.int32)
        for document, similar in enumerate(self.similarities(segment, needed)):
            similar[document] = -np.inf
            nearest = topk(similar, self.neighbours)
            found[document, : len(nearest)] = nearest
        return {"neighbours": found}

    def read(self, folder: Path, codec: Codec, segment: Segment) -> Arrays:
        file, shape = folder / "neighbours.npy", (len(segment), self.neighbours)
        neighbours = open_array(file, np.dtype(np.int32), shape)
        check_range(file, len(segment), lowest=-1)
        return {"neighbours": neighbours}

    def open(self, codec: Codec, segments: Sequence[Segment], arrays: Sequence[Arrays]) -> DocumentGraph:
        return DocumentGraph(tuple(each["neighbours"] for each in arrays), offsets_of([len(each) for each in segments]))


class MeanVectorGraph(Graph):
    """By the cosine of the mean token vectors: time grows with the square of a segment's documents, one product each pair."""

    kind: Literal["mean_vector_graph"] = "mean_vector_graph"

    def needs(self) -> tuple[DerivedStructure, ...]:
        return (MeanVectors(),)

    def similarities(self, segment: Segment, needed: Mapping[DerivedStructure, Arrays]) -> Iterator[NDArray[np.float32]]:
        means = needed[MeanVectors()]["means"]
        for start in range(0, len(means), DOCUMENTS_PER_BLOCK):
            yield from means[start : start + DOCUMENTS_PER_BLOCK] @ means.T


class Bm25Graph(Bm25Settings, Graph):
    """By BM25 with the document's whole text as the query, as in the papers; words are weighed by the segment's documents."""

    kind: Literal["bm25_graph"] = "bm25_graph"

    def needs(self) -> tuple[DerivedStructure, ...]:
        return (self.counts(),)

    def similarities(self, segment: Segment, needed: Mapping[DerivedStructure, Arrays]) -> Iterator[NDArray[np.float32]]:
        lists = WordLists.of([needed[self.counts()]])
        if lists.vocabulary:
            bm25 = self.scores_of(lists)
            for texts in document_texts(segment):
                yield from map(bm25.of, texts)


GRAPHS: dict[str, type[Config]] = {"mean_vector_graph": MeanVectorGraph, "bm25_graph": Bm25Graph}
