"""Texts that are encoded and scored in memory, without an index: what `rerank` and `search_encoded_docs` stand on."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.data.passages import is_blank
from colbert_research.encoders.base import checked
from colbert_research.rag.passages import warn_of_cuts
from colbert_research.rag.pretrained import Pretrained
from colbert_research.rag.results import Result
from colbert_research.ragged import Ragged
from colbert_research.search.queries import whole


class EncodedTexts:
    """Texts, their token vectors and, where there is any, their metadata; it grows."""

    def __init__(self, model: Pretrained) -> None:
        self._model = model
        self.texts: list[str] = []
        self._metadata: list[Mapping[str, Any] | None] = []
        self._vectors: list[Ragged] = []

    def add(
        self, texts: Sequence[str], metadata: Sequence[Mapping[str, Any]] | None = None, length: int | Literal["auto"] = "auto"
    ) -> None:
        """Encode texts, cut at `length` tokens, and keep them behind those that are there."""
        texts = checked(texts)
        if blank := [i for i, text in enumerate(texts) if is_blank(text)]:
            shown = texts[blank[0]][:20]
            raise ValueError(f"document {blank[0]} is blank ({shown!r}) and nothing could be found in it; leave it out")
        if metadata is not None and (isinstance(metadata, Mapping) or len(metadata) != len(texts)):
            raise ValueError(f"document_metadatas is a list with one entry for each of the {len(texts)} documents")
        if texts:
            pipeline = self._model.pipeline_for(texts, length)
            warn_of_cuts(texts, pipeline.encoder, "document", "raise max_document_length, or split them")
            self._vectors.append(pipeline.documents(texts).vectors)
            self.texts += texts
            self._metadata += [None] * len(texts) if metadata is None else list(metadata)

    def best(self, queries: Sequence[str], k: int, *, first_rank: int = 1) -> list[list[Result]]:
        """For each query the best `k` texts, all where there are fewer, by MaxSim, ties in their order.

        Each is `content`, `score`, `rank`, `result_index` (its place among the texts) and, where it has any,
        `document_metadata`. Raises ValueError for a blank query and for k < 1.
        """
        queries, k = checked(queries), whole(k)
        if blank := [text for text in queries if is_blank(text)]:
            raise ValueError(f"a query needs at least one word; given {blank[0]!r}")
        if not self.texts or not queries:
            return [[] for _ in queries]
        pipeline = self._model.pipeline()
        warn_of_cuts(queries, pipeline.encoder, "query", "raise query_length of the encoder's config")
        scores = kernels.maxsim(pipeline.queries(queries), Ragged.concat(self._vectors))
        return [[self._result(row, i, rank) for rank, i in enumerate(_order(row)[:k], first_rank)] for row in scores]

    def _result(self, scores: NDArray[np.float32], place: int, rank: int) -> Result:
        found = {"content": self.texts[place], "score": float(scores[place]), "rank": rank, "result_index": place}
        metadata = self._metadata[place]
        return found if metadata is None else {**found, "document_metadata": dict(metadata)}


def _order(scores: NDArray[np.float32]) -> list[int]:
    """Positions by score descending, then ascending."""
    order: list[int] = np.argsort(-scores, kind="stable").tolist()
    return order
