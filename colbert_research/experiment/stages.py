"""The stages of an experiment: each names its folder by a hash of its config and of its inputs, and is computed only if absent.

Bump a stage's version when its code would write other bytes from the same inputs.
"""

import logging
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research import threads
from colbert_research.artifacts import StageCache, StageResult, read_json, write_json
from colbert_research.codecs.clustering import Clustering
from colbert_research.config import content_hash
from colbert_research.data import Collection
from colbert_research.encoders import Encoder, TokenVectors, encode_to_folder, open_vectors
from colbert_research.encoders.reduce import project
from colbert_research.evaluation.timing import measure
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.index import Index, build_index
from colbert_research.index.build import sample_rows, sampled
from colbert_research.progress import progress
from colbert_research.ragged import NpyWriter, Ragged, float_rows, load_npy, offsets_of
from colbert_research.ranking import Ranking
from colbert_research.search import Queries

VERSIONS = {"encode": 1, "reduce": 1, "pool": 1, "cluster": 2, "index": 4, "search": 4}
CHUNK_ROWS = 65_536
logger = logging.getLogger("colbert_research")


@dataclass(frozen=True)
class Stage:
    """A stage that may or may not have run: what it depends on, and how its folder is filled."""

    cache: StageCache
    kind: str
    inputs: Mapping[str, Any]
    compute: Callable[[Path], Mapping[str, Any]]

    @cached_property
    def depends_on(self) -> dict[str, Any]:
        return {"version": VERSIONS[self.kind], **self.inputs}

    @cached_property
    def key(self) -> str:
        return self.cache.key(self.kind, self.depends_on)

    @property
    def folder(self) -> Path:
        return self.cache.path(self.kind, self.key)

    @property
    def cached(self) -> bool:
        return self.cache.has(self.kind, self.key)

    def run(self) -> StageResult:
        """Compute the stage unless it is cached; its time and peak memory are among its notes."""
        result = self.cache.run(self.kind, self.depends_on, self._measured)
        logger.info("%s %s: %s", self.kind, result.key, "found in the cache" if result.hit else "computed")
        return result

    def _measured(self, folder: Path) -> dict[str, Any]:
        start = time.perf_counter()
        notes = dict(self.compute(folder))
        return {"seconds": time.perf_counter() - start, "peak_memory_bytes": peak_memory(), **notes}


def peak_memory() -> int:
    """The largest resident size that this process has had, in bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(size if sys.platform == "darwin" else size * 1024)


def encode(cache: StageCache, config: ExperimentConfig, encoder: Encoder, collection: Collection, side: str) -> Stage:
    """Token vectors of the documents or queries (`side`) of a collection; open with `open_vectors`."""
    documents = side == "documents"
    texts = collection.document_texts() if documents else list(collection.query_texts)
    text_hash = collection.documents_fingerprint() if documents else collection.queries_fingerprint()
    method = encoder.encode_documents if documents else encoder.encode_queries

    def compute(folder: Path) -> dict[str, Any]:
        fingerprint = f"{encoder.fingerprint()} {side}"
        return encode_to_folder(
            method, texts, folder, dtype=config.vectors, description=f"encode {side}", fingerprint=fingerprint
        )

    inputs = {"encoder": encoder.fingerprint(), "side": side, "texts": text_hash, "dtype": config.vectors}
    return Stage(cache, "encode", inputs, compute)


def reduce(cache: StageCache, config: ExperimentConfig, encoded: Stage) -> Stage:
    """The reducer fitted on document tokens, `projection.npy`, and the reduced `vectors.npy`; for the identity, `encoded`."""
    if config.reducer.kind == "identity":
        return encoded

    def compute(folder: Path) -> dict[str, Any]:
        vectors = open_vectors(encoded.folder).vectors
        size = config.reducer.sample_size(vectors.n_rows)
        projection = config.reducer.fit(sample_rows(vectors, max(1, size), seed=config.seed), seed=config.seed)
        np.save(folder / "projection.npy", projection)
        with NpyWriter(folder / "vectors.npy", config.vectors, (projection.shape[1],)) as writer:
            for low in range(0, vectors.n_rows, CHUNK_ROWS):
                writer.append(project(vectors.values[low : low + CHUNK_ROWS], projection))
        np.save(folder / "offsets.npy", vectors.offsets)
        return {"tokens": vectors.n_rows, "dim": int(projection.shape[1])}

    return Stage(cache, "reduce", {"vectors": encoded.key, "reducer": config.reducer, "seed": config.seed}, compute)


def pool(cache: StageCache, config: ExperimentConfig, reduced: Stage) -> Stage:
    """Fewer token vectors a document, with their token ids, and what the pooler learnt of the collection, `state.safetensors`.

    Without pooling, `reduced`. Chunk by chunk; queries are not pooled.
    """
    if config.pooling.kind == "none":
        return reduced

    def compute(folder: Path) -> dict[str, Any]:
        from safetensors.numpy import save_file

        documents = document_tokens(reduced)
        state = config.pooling.fit(documents)
        save_file(dict(state), folder / "state.safetensors")
        starts = [start for start, _ in documents.vectors.chunks(CHUNK_ROWS)]
        stops = [*starts[1:], len(documents.vectors)]
        lengths: list[NDArray[np.int64]] = []
        with (
            NpyWriter(folder / "vectors.npy", config.vectors, (documents.vectors.dim,)) as vectors,
            NpyWriter(folder / "token_ids.npy", np.int32) as token_ids,
        ):
            spans = zip(starts, stops, strict=True)
            for start, stop in progress(spans, total=len(starts), description="pool", unit=f"chunks of {CHUNK_ROWS} tokens"):
                chunk = TokenVectors(*(part.slice(start, stop) for part in documents))
                pooled = config.pooling.pool(chunk, state, seed=config.seed)
                vectors.append(pooled.vectors.values)
                token_ids.append(pooled.token_ids.values)
                lengths.append(pooled.vectors.lengths)
        offsets = offsets_of(np.concatenate(lengths) if lengths else [])
        np.save(folder / "offsets.npy", offsets)
        return {"tokens": int(offsets[-1]), "tokens_before": documents.vectors.n_rows}

    return Stage(cache, "pool", {"vectors": reduced.key, "pooling": config.pooling, "seed": config.seed}, compute)


def document_vectors(stored: Stage) -> Ragged:
    """The document vectors that an encode, reduce or pool stage left, memory-mapped."""
    return Ragged(load_npy(stored.folder / "vectors.npy", mmap=True), np.load(stored.folder / "offsets.npy"))


def document_tokens(stored: Stage) -> TokenVectors:
    """`document_vectors` and, for each of them, the id of the token that it stands for, memory-mapped."""
    vectors = document_vectors(stored)
    # a reduce stage changes no token, so it keeps no ids: they are those of the encode stage before it
    folder = stored.cache.path("encode", stored.inputs["vectors"]) if stored.kind == "reduce" else stored.folder
    return TokenVectors(vectors, Ragged(load_npy(folder / "token_ids.npy", mmap=True), vectors.offsets))


def reduce_queries(reduced: Stage, queries: Ragged) -> Ragged:
    """Query vectors through the same reduction as the documents."""
    file = reduced.folder / "projection.npy"
    projection: NDArray[np.float32] | None = np.load(file) if file.is_file() else None
    return queries.map(lambda values: project(values, projection))


def cluster(cache: StageCache, config: ExperimentConfig, stored: Stage) -> Stage | None:
    """`centroids.npy`, shared by all codecs whose settings of the clustering agree; None for a codec without centroids."""
    codec = config.codec
    if not isinstance(codec, Clustering):
        return None

    def compute(folder: Path) -> dict[str, Any]:
        vectors, token_ids = document_tokens(stored)
        rows = sampled(vectors.n_rows, codec.sample_size(vectors.n_rows), seed=config.seed)
        sample = float_rows(vectors.values, rows)
        centroids = codec.cluster(sample, token_ids.values[rows], n_tokens=vectors.n_rows, seed=config.seed)
        np.save(folder / "centroids.npy", centroids)
        return {"tokens": len(sample), "centroids": len(centroids)}

    return Stage(cache, "cluster", {"vectors": stored.key, "clustering": codec.clustering(), "seed": config.seed}, compute)


def index(
    cache: StageCache, config: ExperimentConfig, collection: Collection, *, stored: Stage, clustered: Stage | None
) -> Stage:
    """The index, in the folder's `index`; open with `Index.open`."""

    def compute(folder: Path) -> dict[str, Any]:
        built = build_index(
            folder / "index",
            collection,
            document_vectors(stored),
            config.codec,
            seed=config.seed,
            build=config.index,
            centroids=np.load(clustered.folder / "centroids.npy") if clustered else None,
        )
        return {"tokens": built.n_tokens, "bytes": built.nbytes()}

    inputs = {
        "vectors": stored.key,
        "documents": content_hash(collection.document_ids, collection.titles, collection.texts, collection.metadata),
        "codec": config.codec,
        "centroids": clustered.key if clustered else None,
        "index": config.index,
        "seed": config.seed,
    }
    return Stage(cache, "index", inputs, compute)


def search(
    cache: StageCache, config: ExperimentConfig, collection: Collection, *, built: Stage, queries: Stage, reduced: Stage
) -> Stage:
    """The ranking, `ranking.parquet`, and the work done, `work.json`. Notes: seconds, in all and by stage; ms a query.

    Queries are searched one after another, after a warm-up; each query's time is the median of `repeats` searches, which must
    give identical rankings.
    """
    wanted = config.k + 1 if collection.exclude_self else config.k

    def compute(folder: Path) -> dict[str, Any]:
        opened = Index.open(built.folder / "index")
        opened.verify()  # a record comes from an index that is what it was when it was built
        vectors = reduce_queries(reduced, open_vectors(queries.folder).vectors)
        config.search.check(opened, wanted)  # before anything is built for it
        start = time.perf_counter()
        for structure in config.search.structures():
            opened.structure(structure)
        auxiliary_seconds = time.perf_counter() - start
        asked = Queries(vectors, tuple(collection.query_ids), tuple(collection.query_texts))
        latency = measure(config.search, opened, asked, wanted, threads=threads.count(), repeats=config.repeats)
        ranking = latency.ranking.without_self().truncate(config.k) if collection.exclude_self else latency.ranking
        ranking.to_parquet(folder / "ranking.parquet")
        write_json(folder / "work.json", latency.work)
        return {
            "seconds": float(latency.per_query.sum()) / 1e3,
            "stage_seconds": {name: float(np.median(taken, axis=0).sum()) / 1e3 for name, taken in latency.stages.items()},
            "query_ms": latency.figures(),
            "threads": latency.threads,
            "search_notes": list(latency.notes),
            "auxiliary_seconds": auxiliary_seconds,
            "auxiliary_bytes": sum(map(opened.structure_bytes, config.search.structures())),
        }

    inputs = {
        "index": built.key,
        "queries": queries.key,
        "query_ids": content_hash(collection.query_ids),
        "search": config.search,
        "k": wanted,
        "exclude_self": collection.exclude_self,
        "repeats": config.repeats,
    }
    return Stage(cache, "search", inputs, compute)


def open_ranking(found: Stage, collection: Collection) -> Ranking:
    """The ranking that a search stage left."""
    path = found.folder / "ranking.parquet"
    return Ranking.from_parquet(path, document_ids=collection.document_ids, query_ids=collection.query_ids)


def work_of(found: StageResult) -> dict[str, Any]:
    """The counts that a search stage left."""
    return dict(read_json(found.path / "work.json"))
