"""What changes of an index write: new segments, positions of deleted documents; each gives the manifest of the next generation.

Nothing here is the commit: until `generations.commit` names the files, they are leftovers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.artifacts import sync_tree
from colbert_research.codecs import Codec
from colbert_research.data import Collection
from colbert_research.encoders import TextPipeline
from colbert_research.index.contents import Contents
from colbert_research.index.segment import opened_segment
from colbert_research.index.structure_files import extended
from colbert_research.index.structures import is_finished
from colbert_research.index.tombstones import write_deleted
from colbert_research.index.writing import BuildConfig, Entry, Source, check_text_fields, next_number, write_segments
from colbert_research.ragged import Ragged

Manifest = Mapping[str, Any]


def check_changeable(path: Path) -> None:
    """Raise PermissionError for an index in the stage cache, whose files are vouched for by the artifact that they are of."""
    if is_finished(path):
        raise PermissionError(
            f"{path} is a finished artifact of the stage cache, and experiments rely on its bytes; copy the folder "
            "elsewhere, open the copy and change that"
        )


def check_additions(collection: Collection, vectors: Ragged, dim: int, pipeline: TextPipeline | None) -> None:
    """Raise ValueError for documents whose vectors are not of an index's width, or whose texts were made otherwise."""
    if len(vectors) and vectors.dim != dim:
        raise ValueError(
            f"the token vectors have {vectors.dim} dimensions and the index {dim}; encode the documents with the encoder and "
            "reducer that the index was built with"
        )
    if pipeline is not None:
        check_text_fields(pipeline, collection)


def added(
    path: Path, manifest: Manifest, codec: Codec, collection: Collection, vectors: Ragged, build: BuildConfig
) -> dict[str, Any]:
    """The next manifest with a collection's documents in new segments behind the others, on the disk; the codec stays."""
    written = write_segments(path, Source.of(collection), vectors, codec, build, first=next_number(path))
    entries = [{**entry, "errors": errors.of_added(manifest.get("errors"))} for entry, errors in written]
    return following(path, manifest, codec, [*manifest["segments"], *entries], entries)


def without(path: Path, manifest: Manifest, contents: Contents, positions: NDArray[np.int64]) -> dict[str, Any]:
    """The next manifest less the documents at some positions, which are listed on the disk."""
    generation, positions = manifest["generation"] + 1, np.unique(positions)
    cuts = np.searchsorted(positions, contents.starts)
    deleted = {
        segment.path.name: (segment, np.union1d(contents.deleted[i], positions[low:high] - contents.starts[i]))
        for i, (segment, low, high) in enumerate(zip(contents.segments, cuts[:-1], cuts[1:], strict=True))
        if high > low
    }
    entries = write_deleted(path, f"deleted-{generation:06d}", deleted)
    segments = [
        {**part, "deleted": entries[part["name"]]} if part["name"] in entries else part for part in manifest["segments"]
    ]
    return {**manifest, "generation": generation, "segments": segments}


def following(path: Path, manifest: Manifest, codec: Codec, segments: Sequence[Entry], new: Sequence[Entry]) -> dict[str, Any]:
    """The manifest of the generation after `manifest`, with other segments, of which the `new` ones are put on the disk and get
    their part of the structures that the index has."""
    for entry in new:
        sync_tree(path / entry["name"])
    following = {
        **manifest,
        "generation": manifest["generation"] + 1,
        "n_documents": sum(entry["n_documents"] for entry in segments),
        "n_tokens": sum(entry["n_tokens"] for entry in segments),
        "segments": list(segments),
    }
    opened = [opened_segment(path, codec, entry) for entry in new]
    return {**following, "structures": extended(path, following, codec, opened)}
