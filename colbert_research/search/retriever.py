"""`Retriever`: text in, documents out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colbert_research.data.passages import is_blank
from colbert_research.encoders import Encoder, TextPipeline
from colbert_research.encoders.base import checked
from colbert_research.index import FilterLike, Index
from colbert_research.ragged import Ragged
from colbert_research.ranking import Ranking
from colbert_research.search.auto import Auto
from colbert_research.search.base import SearchStrategy
from colbert_research.settings import ConfigError


@dataclass(frozen=True)
class Hit:
    """A document that was found: `rank` from 1, MaxSim `score`, and the document as it was given."""

    rank: int
    score: float
    document_id: str
    title: str
    text: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Retriever:
    """An index, the pipeline that turns a text into its vectors, and a strategy.

    `pipeline`: the index's own, or, for an index of bare vectors, the one that made them, which only the caller knows. The
    default strategy gives exactly `k` documents where there are `k`. Raises `ConfigError` for a pipeline that is not the
    index's, by fingerprint or by width.
    """

    index: Index
    pipeline: TextPipeline
    strategy: SearchStrategy = Auto()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        if not isinstance(self.pipeline, TextPipeline):
            raise TypeError(
                f"expected a TextPipeline, as TextPipeline.of makes of an encoder's config; given {self.pipeline!r}"
            )
        if self.pipeline.dim != self.index.dim:
            raise ConfigError(f"the pipeline gives {self.pipeline.dim} dimensions, and the index has {self.index.dim}")
        own = self.index.pipeline
        if own is not None and own.fingerprint() != self.pipeline.fingerprint():
            raise ConfigError(
                f"{self.pipeline!r} did not make the vectors of {self.index.path}: {own!r} did, with another encoder, "
                "projection or pooling. Use index.pipeline"
            )

    @classmethod
    def open(cls, path: str | Path, strategy: SearchStrategy | None = None, encoder: Encoder | None = None) -> "Retriever":
        """The retriever of an index with a pipeline. The encoder is loaded at the first search, unless one is handed in.

        Raises as `Index.open` does, and `ConfigError` for an encoder other than the index's and for an index of bare vectors.
        """
        index = Index.open(path)
        pipeline = index.pipeline
        if pipeline is None:
            raise ConfigError(
                f"the index in {path} has bare vectors and does not say how a text becomes such vectors. Hand in the pipeline "
                "that made them, Retriever(Index.open(path), TextPipeline.of(encoder_config)), or build the index with it, "
                "build_index(..., pipeline=pipeline)"
            )
        return cls(index, pipeline if encoder is None else pipeline.with_encoder(encoder), strategy or Auto())

    def search(self, text: str, k: int = 10, ids: Sequence[str] | None = None, filter: FilterLike | None = None) -> list[Hit]:
        """The best `k` documents for a text, best first; fewer where there are fewer.

        `ids`: the only documents that may be found. `filter`: those that may be, by their metadata, such as
        `{"year": {"$gte": 1990}, "lang": "en"}`; see `Filter.of`. Both together: those that both admit. Raises ValueError for a
        blank text, for k < 1 and, as FilterError, for a filter that does not fit the index, KeyError for an unknown id,
        TypeError for what is no text.
        """
        if not isinstance(text, str):
            raise TypeError(f"expected one text; given {text!r}. search_many takes a list of them")
        (hits,) = self.search_many([text], k, ids, filter)
        return hits

    def search_many(
        self, texts: Sequence[str], k: int = 10, ids: Sequence[str] | None = None, filter: FilterLike | None = None
    ) -> list[list[Hit]]:
        """The hits of each text, as `search` gives them; the texts are encoded together."""
        queries = self.queries(texts)
        return self.hits(self.strategy.search(self.index, queries, k, query_texts=texts, subset=ids, filter=filter))

    def queries(self, texts: Sequence[str]) -> Ragged:
        """Token vectors `(n_tokens, dim)` float32 of texts to search for.

        Raises ValueError for a blank one, TypeError for what is no text.
        """
        for place, text in enumerate(checked(texts)):
            if is_blank(text):
                raise ValueError(f"a query needs at least one word; text {place} is {text!r}")
        return self.pipeline.queries(texts)

    def hits(self, ranking: Ranking) -> list[list[Hit]]:
        """The documents of a ranking of the index, for each query."""
        tops = [ranking.top(query) for query in range(len(ranking))]
        wanted = list(dict.fromkeys(document for top in tops for document, _ in top))
        found = dict(zip(wanted, self.index.documents(wanted), strict=True))
        return [
            [
                Hit(rank, score, document, found[document].title, found[document].text, found[document].metadata)
                for rank, (document, score) in enumerate(top, start=1)
            ]
            for top in tops
        ]
