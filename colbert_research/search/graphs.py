"""Graphs over documents: each document's nearest others. `GRAPHS` is the table of them."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.config import Config
from colbert_research.index import Auxiliary, Index
from colbert_research.kernels import topk
from colbert_research.search.bm25 import Bm25, Bm25Index, Bm25Settings, document_texts
from colbert_research.search.mean_vectors import MeanVectors

DOCUMENTS_A_BLOCK = 256


class Graph(Auxiliary):
    """`(n_documents, neighbours)` int32: positions of each document's nearest others, best first, -1 where there are fewer."""

    neighbours: int = Field(64, ge=1)

    @abstractmethod
    def similarities(self, index: Index) -> Iterator[NDArray[np.float32]]:
        """For each document, how similar all documents are to it, `(n_documents,)`; minus infinity: not at all."""

    def build(self, index: Index) -> Mapping[str, NDArray[Any]]:
        found = np.full((index.n_documents, self.neighbours), -1, np.int32)
        for document, similar in enumerate(self.similarities(index)):
            similar[document] = -np.inf
            nearest = topk(similar, self.neighbours)
            found[document, : len(nearest)] = nearest
        return {"neighbours": found}

    def open(self, index: Index, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.int32]:
        return arrays["neighbours"]


class MeanVectorGraph(Graph):
    """By the cosine of the mean token vectors: time grows with the square of the documents, one product each pair."""

    kind: Literal["mean_vector_graph"] = "mean_vector_graph"

    def similarities(self, index: Index) -> Iterator[NDArray[np.float32]]:
        means = index.auxiliary(MeanVectors())
        for start in range(0, len(means), DOCUMENTS_A_BLOCK):
            yield from means[start : start + DOCUMENTS_A_BLOCK] @ means.T


class Bm25Graph(Bm25Settings, Graph):
    """By BM25 with the document's whole text as the query, as in the papers."""

    kind: Literal["bm25_graph"] = "bm25_graph"

    def similarities(self, index: Index) -> Iterator[NDArray[np.float32]]:
        bm25: Bm25 = index.auxiliary(Bm25Index(**{name: getattr(self, name) for name in Bm25Settings.model_fields}))
        for texts in document_texts(index):
            yield from map(bm25.of, texts)


GRAPHS: dict[str, type[Config]] = {"mean_vector_graph": MeanVectorGraph, "bm25_graph": Bm25Graph}
