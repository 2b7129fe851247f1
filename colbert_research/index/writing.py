"""Segments written from token vectors or from codes: what builds, additions and compactions share."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from colbert_research.codecs import Codec
from colbert_research.codecs.clustering import Clustering
from colbert_research.config import Config
from colbert_research.data import Collection
from colbert_research.encoders import TextPipeline, TokenVectors
from colbert_research.index.documents import Document
from colbert_research.index.drift import Errors
from colbert_research.index.segment import encoded, finite_rows, write_segment
from colbert_research.progress import progress
from colbert_research.ragged import Ragged, check_vectors, sampled

Entry = dict[str, Any]


class BuildConfig(Config):
    """How much is held in memory at once while building.

    Peak memory beyond the codec's sample and the identifiers: about `chunk_tokens * dim * 24` bytes for the chunk being encoded
    plus `segment_tokens * 24` bytes for the inverted lists of the segment being closed, whatever the collection's size.
    """

    chunk_tokens: int = Field(32_768, ge=1)
    segment_tokens: int = Field(4_194_304, ge=1)


@dataclass(frozen=True)
class Source:
    """Documents to write: their identifiers, and the documents from one place to another, read when they are written."""

    ids: Sequence[str]
    read: Callable[[int, int], Iterable[Document]]

    @classmethod
    def of(cls, collection: Collection) -> "Source":
        """The documents of a collection."""
        return cls(collection.document_ids, lambda low, high: (document_at(collection, i) for i in range(low, high)))


def fitted_codec(
    vectors: Ragged, codec: Any, ids: Sequence[str], *, seed: int, centroids: Any = None, token_ids: Any = None
) -> Codec:
    """A codec fitted on a sample of the token vectors of documents with these identifiers."""
    rows = sampled(vectors.n_rows, codec.sample_size(vectors.n_rows), seed=seed)
    sample = finite_rows(vectors, rows, ids.__getitem__)
    if centroids is None and token_ids is not None and isinstance(codec, Clustering):
        centroids = codec.cluster(sample, token_ids[rows], n_tokens=vectors.n_rows, seed=seed)
    fitted: Codec = codec.fit(sample, n_tokens=vectors.n_rows, seed=seed, centroids=centroids)
    return fitted


def write_segments(
    path: Path, source: Source, vectors: Ragged, codec: Codec, build: BuildConfig, *, first: int = 1
) -> list[tuple[Entry, Errors]]:
    """Encode documents into segments in the folder `path`, the first of this number; returns each one's entry in the manifest,
    and how far its codes lie from its vectors."""
    pieces, written = list(vectors.chunks(build.segment_tokens)), []
    for number, (start, piece) in enumerate(
        progress(pieces, total=len(pieces), description="index", unit="segments"), start=first
    ):
        name, errors = segment_name(number), Errors(codec, vectors.n_rows)
        stop = start + len(piece)
        codes = encoded(piece, codec, source.ids[start:stop].__getitem__, chunk_tokens=build.chunk_tokens, look=errors.look)
        files = write_segment(path / name, source.read(start, stop), piece.offsets, codes, codec)
        written.append((entry_of(name, len(piece), piece.n_rows, files), errors))
    return written


def segment_name(number: int) -> str:
    return f"segment-{number:06d}"


def next_number(path: Path) -> int:
    """A number behind those of all segments that lie in the folder of an index."""
    found = (re.fullmatch(r"segment-(\d+)", folder.name) for folder in path.glob("segment-*"))
    return 1 + max((int(match[1]) for match in found if match), default=0)


def entry_of(name: str, n_documents: int, n_tokens: int, files: Mapping[str, Any]) -> Entry:
    """A segment's entry in the manifest."""
    return {"name": name, "n_documents": n_documents, "n_tokens": n_tokens, "files": files}


def document_at(collection: Collection, i: int) -> Document:
    """The document at position `i` of a collection, as the document store holds it."""
    return Document(collection.document_ids[i], collection.titles[i], collection.texts[i], collection.metadata[i])


def given_vectors(collection: Collection, vectors: Ragged | TokenVectors, token_ids: Any) -> tuple[Ragged, Any]:
    """The token vectors of a collection's documents, and the ids of the tokens where they are known.

    Raises ValueError or TypeError for what does not fit together.
    """
    if isinstance(vectors, TokenVectors):
        token_ids = vectors.token_ids.values if token_ids is None else token_ids
        vectors = vectors.vectors
    if not isinstance(collection, Collection):
        raise TypeError(f"expected a Collection, as Collection.from_texts makes of a list; given {type(collection).__name__}")
    check_vectors(vectors, "the documents' token vectors")
    if len(collection.document_ids) != len(vectors):
        raise ValueError(f"{len(collection.document_ids)} documents, but token vectors of {len(vectors)}")
    if token_ids is not None and len(token_ids) != vectors.n_rows:
        raise ValueError(f"{vectors.n_rows} token vectors, but {len(token_ids)} token ids")
    if token_ids is not None and (np.ndim(token_ids) != 1 or token_ids.dtype.kind not in "iu"):
        raise ValueError(f"token ids are whole numbers (n_tokens,); given shape {token_ids.shape} of {token_ids.dtype}")
    return vectors, token_ids


def check_text_fields(pipeline: TextPipeline, collection: Collection) -> None:
    """Raise ValueError for a collection whose documents become texts by another rule than the pipeline's."""
    if pipeline.text_fields != collection.text_fields:
        raise ValueError(
            f"the pipeline's rule for a document's text is {pipeline.text_fields!r}, and the collection's "
            f"{collection.text_fields!r}; give the pipeline text_fields=collection.text_fields"
        )
