"""An index whose segments the workers of an executor encode: after one fit, here, each takes a segment at a time.

The segments are those that one process would write, from the same codec, so the bytes are the same. A worker writes into a
folder of its own attempt, and what it says is done is moved into place here.
"""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from colbert_research import threads
from colbert_research.codecs import Codec, open_codec, save_codec
from colbert_research.encoders.anisotropy import anisotropy
from colbert_research.encoders.stored import open_stored
from colbert_research.executors import Executor, Resources
from colbert_research.experiment.origin import host
from colbert_research.experiment.stage import Stage
from colbert_research.index import Index
from colbert_research.index.build import begin, finish
from colbert_research.index.documents import Document
from colbert_research.index.drift import Errors, of_build
from colbert_research.index.manifest import writing
from colbert_research.index.segment import FileSums, encoded, write_segment
from colbert_research.index.writing import Source, entry_of, fitted_codec, segment_name
from colbert_research.memory import PROCESS, peak_memory
from colbert_research.progress import progress
from colbert_research.ragged import Ragged
from colbert_research.threads import one_blas_thread

PARTS = "parts"
BYTES_PER_TOKEN = 24  # of inverted lists, while a segment is closed


@dataclass(frozen=True)
class Piece:
    """One segment to write: its documents, from `start`, whose token vectors are in the folder `vectors`."""

    stage: Stage
    number: int
    start: int
    documents: Sequence[Document]
    vectors: str
    codec: str
    folder: str

    def __repr__(self) -> str:
        return f"segment {self.number} of {self.stage.name}"


class Written(NamedTuple):
    """What a worker says of a segment: its folder and files, the errors of its codes, the most memory held, what it is."""

    folder: str
    files: FileSums
    errors: NDArray[np.float32]
    peak_memory_bytes: int
    worker: dict[str, Any]

    def measured(self) -> NDArray[np.float32]:
        return self.errors


def write_piece(piece: Piece) -> Written:
    """Encode and write a segment, in a worker. Raises SourceChangedError where it has other code than the stage's."""
    piece.stage.check_sources()
    with peak_memory() as peak, one_blas_thread():
        vectors = open_stored(Path(piece.vectors)).tokens.vectors
        part = vectors.slice(piece.start, piece.start + len(piece.documents))
        codec: Codec = open_codec(Path(piece.codec))
        errors = Errors(codec, vectors.n_rows)
        chunk_tokens = piece.stage.settings["build"].chunk_tokens
        codes = encoded(part, codec, lambda i: piece.documents[i].id, chunk_tokens=chunk_tokens, look=errors.look)
        # of this attempt alone: a worker that was taken for dead may still write
        folder = Path(piece.folder) / uuid.uuid4().hex[:8] / segment_name(piece.number)
        files = write_segment(folder, piece.documents, part.offsets, codes, codec)
    return Written(str(folder), files, errors.measured(), peak.bytes, {**host(), "threads": threads.count()})


def compute(workspace: Any, stage: Stage, folder: Path) -> dict[str, Any]:
    """What the stage's own `compute` does and notes, and which `workers` did it; it does so itself where one segment is all."""
    config, settings, path = stage.means["executor"], stage.settings, folder / stage.module.FOLDER
    stored_in = workspace.path(stage.inputs["vectors"])
    stored, source = open_stored(stored_in), Source.of(workspace.collection_of(stage))
    vectors = stored.tokens.vectors
    cut = list(vectors.chunks(settings["build"].segment_tokens))
    if len(cut) < 2:
        return dict(stage.module.compute(workspace, stage, folder))
    with config.start(shared=[folder.parent]) as executor, writing(path):
        begin(path)
        centroids = stage.module._centroids(workspace, stage)
        codec = fitted_codec(vectors, settings["codec"], source.ids, seed=settings["seed"], centroids=centroids)
        save_codec(codec, path / "codec")
        pieces = _pieces(stage, source, cut, stored_in, path)
        written = _written(executor, pieces, len(cut), _resources(stage, vectors), path)
        entries = [
            entry_of(segment_name(number), len(piece), piece.n_rows, written[number].files)
            for number, (_, piece) in enumerate(cut, start=1)
        ]
        in_order = [written[number] for number in sorted(written)]
        errors = of_build(in_order)  # type: ignore[arg-type]  # which asks for what they have measured
        finish(path, codec, entries, stage.module._pipeline(stage, stored), errors)
    built = Index.open(path)
    workers: list[dict[str, Any]] = []
    for each in in_order:
        workers += [] if each.worker in workers else [each.worker]
    return {
        "tokens": built.n_tokens,
        "bytes": built.nbytes(),
        "anisotropy": anisotropy(vectors, seed=settings["seed"]),
        "executor": config.kind,
        "workers": workers,
        "peak_memory_bytes": max(each.peak_memory_bytes for each in in_order),
    }


def _pieces(stage: Stage, source: Source, cut: Sequence[tuple[int, Ragged]], stored_in: Path, path: Path) -> Iterator[Piece]:
    bare = _bare(stage)
    for number, (start, piece) in enumerate(cut, start=1):
        documents = list(source.read(start, start + len(piece)))
        yield Piece(bare, number, start, documents, str(stored_in), str(path / "codec"), str(path / PARTS))


def _bare(stage: Stage) -> Stage:
    """A stage without its collection; its key travels with it, to be compared with what a worker's own code would give."""
    means = {name: value for name, value in stage.means.items() if name == "encoder"}
    bare = replace(stage, inputs={role: _bare(each) for role, each in stage.inputs.items()}, means=means)
    assert bare.key == stage.key
    return bare


def _written(
    executor: Executor, pieces: Iterator[Piece], n: int, resources: Resources | None, path: Path
) -> dict[int, Written]:
    """What workers say of each of `n` segments, by number; the segments are in place then."""
    found: dict[int, Written] = {}
    done = executor.map(write_piece, pieces, resources)
    try:
        for piece, written in progress(done, total=n, description="index", unit="segments"):
            if piece.number not in found:
                Path(written.folder).rename(path / segment_name(piece.number))
                found[piece.number] = written
    finally:
        shutil.rmtree(path / PARTS, ignore_errors=True)
    return found


def _resources(stage: Stage, vectors: Ragged) -> Resources | None:
    """What the executor's config says, and how much memory a segment takes."""
    given: Any = getattr(stage.means["executor"], "resources", None)
    if given is None:
        return None
    build = stage.settings["build"]
    tokens = min(build.segment_tokens, vectors.n_rows)
    held = int(PROCESS) + BYTES_PER_TOKEN * (tokens + build.chunk_tokens * vectors.dim)
    return Resources(cpus=given.cpus, gpus=given.gpus, memory=given.memory or held)
