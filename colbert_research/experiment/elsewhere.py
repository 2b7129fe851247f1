"""Stages of encoding that the workers of an executor compute: each takes a shard of texts and leaves its vectors in a folder.

The shards are those in which one process would encode, one call of the encoder each, so the batches and with them the bytes are
the same. What workers leave is joined here, in order, by the stage's own `compute`, to which the executor's workers stand in
for the encoder; so the folder can be taken up again at every shard, wherever it is continued.
"""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from colbert_research import threads
from colbert_research.artifacts import read_json
from colbert_research.config import canonical_json
from colbert_research.data import Collection
from colbert_research.encoders import Encoder, TokenVectors, rounding_of
from colbert_research.encoders.store import JOURNAL, SHARD_DOCUMENTS
from colbert_research.executors import Executor, Resources
from colbert_research.experiment.origin import host
from colbert_research.experiment.stage import Stage
from colbert_research.memory import MODEL, PROCESS, peak_memory
from colbert_research.ragged import Ragged, load_npy, save_npy
from colbert_research.settings import ConfigError
from colbert_research.threads import one_blas_thread

PARTS = "parts"
FILES = ("vectors", "token_ids", "offsets")


def compute(stage: Stage, folder: Path, collection: Collection) -> dict[str, Any]:
    """What the stage's own `compute` does and notes, and which `workers` did it."""
    config = stage.means["executor"]
    with config.start(shared=[folder.parent]) as executor:
        encoding = Encoding(stage, folder, collection, executor)
        try:
            notes: dict[str, Any] = stage.module.compute(encoding, stage, folder)
        finally:
            encoding.close()
    return {**notes, "executor": config.kind, "workers": encoding.workers, "peak_memory_bytes": encoding.peak}


@dataclass(frozen=True)
class Shard:
    """Texts to encode, from `start`, and where their vectors are to lie."""

    stage: Stage
    texts: Sequence[str]
    start: int
    folder: str

    def __repr__(self) -> str:
        return f"texts {self.start} to {self.start + len(self.texts)} of {self.stage.name}"


class Part(NamedTuple):
    """What a worker says of a shard: the folder of its vectors, the most memory that it held, and what it is."""

    folder: str
    peak_memory_bytes: int
    worker: dict[str, Any]


def encode_shard(shard: Shard) -> Part:
    """Encode a shard, in a worker. Raises ConfigError where this machine would give other bytes than the stage is named by."""
    stage, config = shard.stage, shard.stage.means["encoder"]
    stage.check_sources()
    if (rounding := rounding_of(config)) != (expected := stage.settings["rounding"]):
        raise ConfigError(
            f"this worker would encode with {rounding}, and {stage.name} is named by {expected}: let encoder.device and "
            "encoder.precision say which is meant, and executor.gpus give each worker a GPU where it is cuda"
        )
    encoder = _encoder(config, stage.settings["encoder"])
    documents = stage.settings["side"] == "documents"
    with peak_memory() as peak, one_blas_thread():
        encoded = (encoder.encode_documents if documents else encoder.encode_queries)(shard.texts)
    # of this attempt alone: a worker that was taken for dead may still write
    folder = Path(shard.folder) / f"{shard.start}.{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    arrays = (encoded.vectors.values, encoded.token_ids.values, encoded.vectors.offsets)
    for name, array in zip(FILES, arrays, strict=True):
        save_npy(folder / f"{name}.npy", array)
    return Part(str(folder), peak.bytes, {**host(), "threads": threads.count()})


class Encoding:
    """What the stage's `compute` takes for a workspace, and what that takes for an encoder: vectors come from workers."""

    def __init__(self, stage: Stage, folder: Path, collection: Collection, executor: Executor) -> None:
        self._folder, self._collection, self._executor = folder, collection, executor
        self._stage = replace(stage, means={"encoder": stage.means["encoder"]})  # texts are handed on, not the collection
        self._resources = _resources(stage)
        documents = stage.settings["side"] == "documents"
        self._texts: Sequence[str] = collection.document_texts() if documents else list(collection.query_texts)
        self._parts: Iterator[tuple[Shard, Part]] | None = None
        self._found: dict[int, Part] = {}
        self._next, self.peak = -1, 0
        self.workers: list[dict[str, Any]] = []

    def collection_of(self, stage: Stage) -> Collection:
        return self._collection

    def encoder_of(self, stage: Stage) -> "Encoding":
        return self

    def encode_documents(self, texts: Sequence[str]) -> TokenVectors:
        """The vectors of the next shard, which `texts` are: the journal of the folder says where that begins."""
        start = int(read_json(self._folder / JOURNAL)["documents"])
        if start != self._next:  # the first one, or begun anew
            self.close()
            self._parts = iter(self._executor.map(encode_shard, self._shards(start), self._resources))
        assert self._parts is not None
        while start not in self._found:
            shard, part = next(self._parts)
            self._found[shard.start] = part
            self.peak = max(self.peak, part.peak_memory_bytes)
            self.workers += [] if part.worker in self.workers else [part.worker]
        self._next = start + len(texts)
        return self._opened(Path(self._found.pop(start).folder))

    encode_queries = encode_documents

    def _shards(self, start: int) -> Iterator[Shard]:
        assert self._stage.key  # travels with it, to be compared with what the worker's own code would give
        where = str(self._folder / PARTS)
        for first in range(start, max(len(self._texts), 1), SHARD_DOCUMENTS):
            yield Shard(self._stage, self._texts[first : first + SHARD_DOCUMENTS], first, where)

    @staticmethod
    def _opened(folder: Path) -> TokenVectors:
        vectors, token_ids, offsets = (load_npy(folder / f"{name}.npy", mmap=False) for name in FILES)
        shutil.rmtree(folder)
        return TokenVectors(Ragged(vectors, offsets), Ragged(token_ids, offsets))

    def close(self) -> None:
        """End the workers, and remove what is not needed any more."""
        if self._parts is not None:
            self._parts.close()  # type: ignore[attr-defined]
        self._parts, self._found = None, {}
        shutil.rmtree(self._folder / PARTS, ignore_errors=True)


def _resources(stage: Stage) -> Resources | None:
    """What the executor's config says, and what is known of the encoder: that it takes memory, and a GPU where it is on one."""
    given: Any = getattr(stage.means["executor"], "resources", None)
    if given is None:
        return None
    light = stage.means["encoder"].kind == "hashing"
    on_gpu = stage.settings["rounding"].get("device") == "cuda"
    return Resources(
        cpus=given.cpus,
        gpus=given.gpus or float(on_gpu),
        memory=given.memory or int(PROCESS if light else MODEL),
    )


_encoders: dict[str, Encoder] = {}


def _encoder(config: Any, fingerprint: str) -> Encoder:
    """The encoder of a config, loaded once in a process. Raises ConfigError where it is not the one of a fingerprint."""
    name = canonical_json([fingerprint, config.model_dump(mode="json")])
    encoder = _encoders[name] if name in _encoders else config.load()
    if (found := encoder.fingerprint()) != fingerprint:
        raise ConfigError(
            f"the encoder that this worker loads from {config.model_dump(mode='json')} has the fingerprint {found}, expected "
            f"{fingerprint}: its files are others here than where the stage was planned"
        )
    _encoders[name] = encoder
    return encoder
