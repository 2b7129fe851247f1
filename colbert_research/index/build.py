"""Building an index: sample, fit the codec, then stream the token vectors through it into segments."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.artifacts import checksums, sync_tree
from colbert_research.codecs import save_codec
from colbert_research.codecs.clustering import Clustering
from colbert_research.config import GREATEST_SEED, Config
from colbert_research.data import Collection
from colbert_research.encoders import TextPipeline, TokenVectors
from colbert_research.index.derived import DerivedStructure
from colbert_research.index.documents import Document
from colbert_research.index.index import Index
from colbert_research.index.manifest import FORMAT, MANIFEST, VERSION, write_manifest, writing
from colbert_research.index.segment import finite_rows, write_segment
from colbert_research.progress import progress
from colbert_research.ragged import Ragged, check_vectors, sampled

PIPELINE = "pipeline"


class BuildConfig(Config):
    """How much is held in memory at once while building.

    Peak memory beyond the codec's sample and the identifiers: about `chunk_tokens * dim * 24` bytes for the chunk being encoded
    plus `segment_tokens * 24` bytes for the inverted lists of the segment being closed, whatever the collection's size.
    """

    chunk_tokens: int = Field(32_768, ge=1)
    segment_tokens: int = Field(4_194_304, ge=1)


def build_index(
    path: str | Path,
    collection: Collection,
    vectors: Ragged | TokenVectors,
    codec: Any,
    *,
    seed: int = 0,
    build: BuildConfig | None = None,
    centroids: NDArray[np.float32] | None = None,
    token_ids: NDArray[np.int32] | None = None,
    pipeline: TextPipeline | None = None,
) -> Index:
    """Build an index of a collection's documents in the new folder `path`, and open it.

    `vectors`: token vectors `(n_tokens, dim)` of the documents, in order, or what an encoder gives; may be memory-mapped.
    `codec`: a codec config. `centroids`: made before by `codec.cluster`, to be shared between codecs. `token_ids`: of the
    tokens, `(n_tokens,)`, for codecs whose centroids are made by them. `pipeline`: what made the vectors, kept with the index
    so that it can be asked in words. The same inputs and seed give the same bytes.
    A build that dies leaves no index; the next one starts anew in the same folder. Raises FileExistsError when `path` holds an
    index or files of somebody else, ValueError or TypeError for inputs that do not fit each other or the codec, and for vectors
    that are not finite.
    """
    build, path = build or BuildConfig(), Path(path)
    if isinstance(vectors, TokenVectors):
        token_ids = vectors.token_ids.values if token_ids is None else token_ids
        vectors = vectors.vectors
    _check_inputs(collection, vectors, codec, seed, centroids, token_ids)
    _check_pipeline(pipeline, collection, vectors)
    with writing(path):
        if (path / MANIFEST).exists():
            raise FileExistsError(f"{path} holds an index; open it, or choose another folder, or delete this one first")
        _remove_unfinished(path)
        path.mkdir(parents=True)
        rows = sampled(vectors.n_rows, codec.sample_size(vectors.n_rows), seed=seed)
        sample = finite_rows(vectors, rows, collection.document_ids.__getitem__)
        if centroids is None and token_ids is not None and isinstance(codec, Clustering):
            centroids = codec.cluster(sample, token_ids[rows], n_tokens=vectors.n_rows, seed=seed)
        fitted = codec.fit(sample, n_tokens=vectors.n_rows, seed=seed, centroids=centroids)
        del sample
        save_codec(fitted, path / "codec")
        segments = []
        pieces = list(vectors.chunks(build.segment_tokens))
        for number, (start, piece) in enumerate(
            progress(pieces, total=len(pieces), description="index", unit="segments"), start=1
        ):
            name = f"segment-{number:06d}"
            documents = (document_at(collection, i) for i in range(start, start + len(piece)))
            files = write_segment(path / name, documents, piece, fitted, chunk_tokens=build.chunk_tokens)
            segments.append({"name": name, "n_documents": len(piece), "n_tokens": piece.n_rows, "files": files})
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "generation": 1,
            "dim": fitted.dim,
            "n_documents": len(vectors),
            "n_tokens": vectors.n_rows,
            "codec": {"name": "codec", "files": checksums(path / "codec")},
            "segments": segments,
            "structures": {},
        }
        if pipeline is not None:
            pipeline.save(path / PIPELINE)
            manifest["pipeline"] = {"name": PIPELINE, "files": checksums(path / PIPELINE)}
        sync_tree(path)
        write_manifest(path, manifest)  # the commit: without it there is no index
    return Index.open(path)


def build_structure(index: Index, structure: DerivedStructure, folder: str | Path) -> None:
    """Build a derived structure in a folder outside the index, which is not written to.

    `Index.open(path, structures={structure: folder})` then uses it. The folder may exist and hold other files; a structure that
    a build which died left there is built anew, a finished one is kept. One process at a time may fill a folder.
    Raises ValueError where the index lacks a structure that this one needs: build those first, in the order in which
    `strategy.structures()` names them, and open the index with their folders. Raises IndexCorruptedError for a folder that
    holds another structure, or one of another index.
    """
    index.derived.fill(structure, Path(folder))


def _check_inputs(
    collection: Collection, vectors: Ragged, codec: Any, seed: int, centroids: Any, token_ids: NDArray[np.int32] | None
) -> None:
    """Raise ValueError or TypeError for what cannot be built from."""
    if not isinstance(collection, Collection):
        raise TypeError(f"expected a Collection, as Collection.from_texts makes of a list; given {type(collection).__name__}")
    check_vectors(vectors, "the documents' token vectors")
    if isinstance(codec, type) or not hasattr(codec, "sample_size"):
        raise TypeError(f"expected a codec's config, such as ResidualConfig(nbits=4); given {codec!r}")
    if not 0 <= seed <= GREATEST_SEED:
        raise ValueError(f"a seed lies between 0 and {GREATEST_SEED}; given {seed}")
    if len(collection.document_ids) != len(vectors):
        raise ValueError(f"{len(collection.document_ids)} documents, but token vectors of {len(vectors)}")
    if vectors.n_rows == 0:
        raise ValueError("the documents have no token vectors; an index needs at least one")
    if centroids is not None and not hasattr(codec, "cluster"):
        raise ValueError(f"codec {codec!r} has no centroids; leave `centroids` out, or choose one that has")
    if token_ids is not None and len(token_ids) != vectors.n_rows:
        raise ValueError(f"{vectors.n_rows} token vectors, but {len(token_ids)} token ids")
    if token_ids is not None and (token_ids.ndim != 1 or token_ids.dtype.kind not in "iu"):
        raise ValueError(f"token ids are whole numbers (n_tokens,); given shape {token_ids.shape} of {token_ids.dtype}")


def _check_pipeline(pipeline: TextPipeline | None, collection: Collection, vectors: Ragged) -> None:
    """Raise ValueError or TypeError for a pipeline that cannot have made the vectors."""
    if pipeline is None:
        return
    if not isinstance(pipeline, TextPipeline):
        raise TypeError(f"expected a TextPipeline, as TextPipeline.of makes of an encoder's config; given {pipeline!r}")
    if pipeline.dim != vectors.dim:
        raise ValueError(
            f"the pipeline gives {pipeline.dim} dimensions, and the token vectors have {vectors.dim}; "
            "hand in the pipeline that made them, with its projection"
        )
    if pipeline.text_fields != collection.text_fields:
        raise ValueError(
            f"the pipeline's rule for a document's text is {pipeline.text_fields!r}, and the collection's "
            f"{collection.text_fields!r}; give the pipeline text_fields=collection.text_fields"
        )


def _remove_unfinished(path: Path) -> None:
    """Delete what a build that died left in `path`; never anything else."""
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    foreign = [name for name in names if name not in ("codec", PIPELINE) and not name.startswith(("segment-", f".{MANIFEST}."))]
    if foreign:
        raise FileExistsError(f"{path} holds other files, such as {foreign[:3]}; choose a new folder for the index")
    shutil.rmtree(path, ignore_errors=True)


def document_at(collection: Collection, i: int) -> Document:
    """The document at position `i` of a collection, as the document store holds it."""
    return Document(collection.document_ids[i], collection.titles[i], collection.texts[i], collection.metadata[i])
