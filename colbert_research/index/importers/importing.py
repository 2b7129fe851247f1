"""`import_index`: which engine wrote a folder, and an index of ours with its codes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.codecs import save_codec
from colbert_research.codecs.clustering import centroid_id_type
from colbert_research.codecs.residual import ResidualCodec
from colbert_research.codecs.table import inverse_norms
from colbert_research.data import Collection
from colbert_research.encoders import TextPipeline
from colbert_research.index.build import begin, check_pipeline, finish
from colbert_research.index.damage import IndexCorruptedError, IndexMissingError
from colbert_research.index.importers import fast_plaid, stanford
from colbert_research.index.importers.foreign import Chunk, ForeignIndex, repacked
from colbert_research.index.index import Index
from colbert_research.index.manifest import writing
from colbert_research.index.segment import write_segment
from colbert_research.index.writing import Entry, document_at, entry_of, segment_name
from colbert_research.progress import progress
from colbert_research.ragged import offsets_of

PIECE = 32_768  # tokens that are repacked together


def open_foreign(source: str | Path) -> ForeignIndex:
    """What the index of another engine in a folder says of itself; its codes are not read yet.

    Formats: Stanford's ColBERT, RAGatouille (the folder `.ragatouille/colbert/indexes/NAME`), both PLAID engines of PyLate
    (`INDEX_FOLDER/INDEX_NAME`), fast-plaid and next-plaid. Nothing that a file names is run or imported. Raises
    IndexMissingError for a folder that holds none of them, IndexCorruptedError for one whose files do not belong together.
    """
    folder = Path(source)
    for each in (folder, folder / fast_plaid.INNER):
        if (each / stanford.SIGN).is_file():
            return stanford.open_stanford(each)
        if (each / fast_plaid.SIGN).is_file():
            return fast_plaid.open_fast_plaid(each)
    raise IndexMissingError(
        f"no index of another engine in {folder}: expected {stanford.SIGN} (Stanford's ColBERT, RAGatouille, PyLate) or "
        f"{fast_plaid.SIGN} (fast-plaid, next-plaid), in it or in its folder {fast_plaid.INNER}"
    )


def import_index(
    source: str | Path, path: str | Path, *, collection: Collection | None = None, pipeline: TextPipeline | None = None
) -> Index:
    """Make an index of ours, in the new folder `path`, from the index of another engine (see `open_foreign`), and open it.

    Centroids, bucket cutoffs, reconstruction values and codes are theirs, so decoded vectors are theirs up to the rounding of
    an inverse norm to float16. Passages that were deleted there are left out. `collection`: titles, texts and metadata, by
    identifier, for an engine that keeps none. `pipeline`: what made the vectors, so that the index can be asked in words.
    The passages of a document that RAGatouille split are named `document#0`, `document#1` …, as `rag` names its own.

    Raises as `open_foreign` and `build_index` do, KeyError for a collection that lacks some of the documents.
    """
    foreign, path = open_foreign(source), Path(path).absolute()
    codec, (documents, place_of) = foreign.codec(), _documents(foreign, collection)
    check_pipeline(pipeline, documents if collection is None else collection, codec.dim)
    with writing(path):
        begin(path)
        save_codec(codec, path / "codec")
        entries = list(_segments(path, foreign, codec, documents, place_of))
        finish(path, codec, entries, pipeline)
    return Index.open(path)


def _documents(foreign: ForeignIndex, given: Collection | None) -> tuple[Collection, dict[int, int]]:
    """The documents, and the position of each by its number in the engine."""
    numbers, passages = list(foreign.passages), list(foreign.passages.values())
    names = [name for name, _, _ in passages]
    titles, texts, metadata = [""] * len(names), [text for _, text, _ in passages], [known for _, _, known in passages]
    if given is not None:
        position_of = {name: i for i, name in enumerate(given.document_ids)}
        if lacking := [name for name in names if name not in position_of]:
            raise KeyError(
                f"{len(lacking)} of the {len(names)} documents in {foreign.path} are not in {given!r}, such as {lacking[:3]}"
            )
        positions = [position_of[name] for name in names]
        titles, texts = ([column[i] for i in positions] for column in (given.titles, given.texts))
        metadata = [{**known, **given.metadata[i]} for known, i in zip(metadata, positions, strict=True)]
    try:
        collection = Collection.from_texts(texts, ids=names, titles=titles, metadata=metadata, name=foreign.path.name)
    except (TypeError, ValueError) as error:
        raise IndexCorruptedError(f"the documents in {foreign.path} cannot be taken over: {error}") from error
    return collection, {pid: i for i, pid in enumerate(numbers)}


def _segments(
    path: Path, foreign: ForeignIndex, codec: ResidualCodec, documents: Collection, place_of: Mapping[int, int]
) -> Iterator[Entry]:
    """Write each chunk as a segment, less the passages without tokens or identifier."""
    start = 0
    for number, read in enumerate(
        progress(foreign.chunks, total=len(foreign.chunks), description="import", unit="chunks"), start=1
    ):
        chunk = foreign.checked(read(), number - 1)
        pids = np.arange(start, start + len(chunk.lengths))
        start += len(chunk.lengths)
        kept = (chunk.lengths > 0) & np.array([pid in place_of for pid in pids.tolist()], bool)
        if kept.any():
            name, offsets = segment_name(number), offsets_of(chunk.lengths[kept])
            codes = _codes(chunk, np.repeat(kept, chunk.lengths), codec)
            some = (document_at(documents, place_of[pid]) for pid in pids[kept].tolist())
            files = write_segment(path / name, some, offsets, codes, codec)
            yield entry_of(name, int(kept.sum()), int(offsets[-1]), files)


def _codes(chunk: Chunk, kept: NDArray[np.bool_], codec: ResidualCodec) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The codes of the tokens that are kept, as our codec has them."""
    rows = np.flatnonzero(kept)
    for low in range(0, len(rows), PIECE):
        some = rows[low : low + PIECE]
        codes = {
            "centroid_ids": np.asarray(chunk.centroid_ids[some]).astype(centroid_id_type(codec.n_centroids)),
            codec.code: repacked(np.asarray(chunk.residuals[some]), codec.config.nbits, codec.dim),
        }
        decoded = kernels.decode(codec.tokens(codes, offsets_of([len(some)])))
        yield {**codes, "inverse_norms": inverse_norms(decoded, decoded)}
