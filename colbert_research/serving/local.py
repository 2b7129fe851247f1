"""`Local`: a retriever that answers several threads of its process, and how the next generation of its index is opened."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from colbert_research.index import FilterLike, Index, generations
from colbert_research.search.retriever import Retriever
from colbert_research.serving.base import Answer
from colbert_research.serving.gathering import Gathering


@dataclass(frozen=True, eq=False)
class Local:
    """`Answering` in one process: each caller searches on its own thread. One search is not divided: a deadline cuts nothing.

    `retriever`: one whose encoder several threads may ask, as `shared` makes of any.
    """

    retriever: Retriever

    def answer(
        self,
        texts: Sequence[str],
        k: int,
        ids: Sequence[str] | None = None,
        filter: FilterLike | None = None,
        deadline: float | None = None,
    ) -> Answer:
        return Answer(self.retriever.search_many(texts, k, ids, filter))


def shared(retriever: Retriever, together: int = 1) -> Retriever:
    """A retriever whose encoder, loaded now, several threads may ask; `together` as of `Gathering`. One that is such stays."""
    encoder = retriever.pipeline.encoder
    if isinstance(encoder, Gathering):
        return retriever
    return replace(retriever, pipeline=retriever.pipeline.with_encoder(Gathering(encoder, together)))


def newest(retriever: Retriever) -> Retriever:
    """The retriever of the newest generation in the folder of a retriever's index, with the same strategy and encoder.

    The one that was given where it has that open. What generations share is not opened again; a folder that was replaced by
    another index is opened as it is now. Raises as `Index.open` does, and ConfigError for an index that another encoder made.
    """
    index = retriever.index
    if index.hold is not None and index.hold.is_at(generations.lock_file(index.path, index.generation)):
        manifest, hold = generations.hold(index.path)
        if manifest["generation"] == index.generation:
            return retriever
        return replace(retriever, index=index.reopened(manifest, hold))
    opened = Index.open(index.path)
    pipeline = opened.pipeline
    encoder = retriever.pipeline.encoder
    return Retriever(opened, retriever.pipeline if pipeline is None else pipeline.with_encoder(encoder), retriever.strategy)
