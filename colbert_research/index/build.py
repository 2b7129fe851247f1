"""Building an index: sample, fit the codec, then stream the token vectors through it into segments."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.artifacts import checksums, sync_tree
from colbert_research.codecs import Codec, save_codec
from colbert_research.config import GREATEST_SEED
from colbert_research.data import Collection
from colbert_research.encoders import TextPipeline, TokenVectors
from colbert_research.index.derived import DerivedStructure
from colbert_research.index.drift import of_build
from colbert_research.index.generations import OWN, commit
from colbert_research.index.index import Index
from colbert_research.index.manifest import FORMAT, MANIFEST, writing
from colbert_research.index.writing import (
    BuildConfig,
    Source,
    check_text_fields,
    fitted_codec,
    given_vectors,
    write_segments,
)
from colbert_research.ragged import Ragged

PIPELINE = "pipeline"


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
    build, path = build or BuildConfig(), Path(path).absolute()
    vectors, token_ids = given_vectors(collection, vectors, token_ids)
    _check_inputs(vectors, codec, seed, centroids)
    check_pipeline(pipeline, collection, vectors.dim)
    with writing(path):
        begin(path)
        fitted = fitted_codec(vectors, codec, collection.document_ids, seed=seed, centroids=centroids, token_ids=token_ids)
        save_codec(fitted, path / "codec")
        written = write_segments(path, Source.of(collection), vectors, fitted, build)
        finish(path, fitted, [entry for entry, _ in written], pipeline, of_build(errors for _, errors in written))
    return Index.open(path)


def begin(path: Path) -> None:
    """Make the folder of a new index, whose lock the caller holds. Raises FileExistsError where an index or other files lie."""
    if (path / MANIFEST).exists():
        raise FileExistsError(f"{path} holds an index; open it, or choose another folder, or delete this one first")
    _remove_unfinished(path)
    path.mkdir(parents=True)


def finish(
    path: Path,
    codec: Codec,
    segments: Sequence[Mapping[str, Any]],
    pipeline: TextPipeline | None,
    errors: Mapping[str, Any] | None = None,
) -> None:
    """Make the first generation of what was written into a new index's folder; `errors`: as `drift.of_build` gives them."""
    manifest = {
        "format": FORMAT,
        "generation": 1,
        "dim": codec.dim,
        "n_documents": sum(entry["n_documents"] for entry in segments),
        "n_tokens": sum(entry["n_tokens"] for entry in segments),
        "codec": {"name": "codec", "files": checksums(path / "codec")},
        "segments": list(segments),
        "structures": {},
    }
    if errors is not None:
        manifest["errors"] = errors
    if pipeline is not None:
        pipeline.save(path / PIPELINE)
        manifest["pipeline"] = {"name": PIPELINE, "files": checksums(path / PIPELINE)}
    sync_tree(path)
    commit(path, manifest)  # without it there is no index


def build_structure(index: Index, structure: DerivedStructure, folder: str | Path) -> None:
    """Build a derived structure in a folder outside the index, which is not written to.

    `Index.open(path, structures={structure: folder})` then uses it. The folder may exist and hold other files; a structure that
    a build which died left there is built anew, a finished one is kept. One process at a time may fill a folder.
    Raises ValueError where the index lacks a structure that this one needs: build those first, in the order in which
    `strategy.structures()` names them, and open the index with their folders. Raises IndexCorruptedError for a folder that
    holds another structure, or one of another index.
    """
    index.derived.fill(structure, Path(folder))


def _check_inputs(vectors: Ragged, codec: Any, seed: int, centroids: Any) -> None:
    """Raise ValueError or TypeError for what cannot be built from."""
    if isinstance(codec, type) or not hasattr(codec, "sample_size"):
        raise TypeError(f"expected a codec's config, such as ResidualConfig(nbits=4); given {codec!r}")
    if not 0 <= seed <= GREATEST_SEED:
        raise ValueError(f"a seed lies between 0 and {GREATEST_SEED}; given {seed}")
    if vectors.n_rows == 0:
        raise ValueError("the documents have no token vectors; an index needs at least one")
    if centroids is not None and not hasattr(codec, "cluster"):
        raise ValueError(f"codec {codec!r} has no centroids; leave `centroids` out, or choose one that has")


def check_pipeline(pipeline: TextPipeline | None, collection: Collection, dim: int) -> None:
    """Raise ValueError or TypeError for a pipeline that cannot have made the vectors."""
    if pipeline is None:
        return
    if not isinstance(pipeline, TextPipeline):
        raise TypeError(f"expected a TextPipeline, as TextPipeline.of makes of an encoder's config; given {pipeline!r}")
    if pipeline.dim != dim:
        raise ValueError(
            f"the pipeline gives {pipeline.dim} dimensions, and the token vectors have {dim}; "
            "hand in the pipeline that made them, with its projection"
        )
    check_text_fields(pipeline, collection)


def _remove_unfinished(path: Path) -> None:
    """Delete what a build that died left in `path`; never anything else."""
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    foreign = [name for name in names if not OWN.fullmatch(name)]
    if foreign:
        raise FileExistsError(f"{path} holds other files, such as {foreign[:3]}; choose a new folder for the index")
    shutil.rmtree(path, ignore_errors=True)
