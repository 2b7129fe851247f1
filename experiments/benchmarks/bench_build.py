"""Building an index with a clock on each part."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from colbert_research.codecs import CODECS
from colbert_research.codecs.clustering import Clustering
from colbert_research.config import Config, component_of_line
from colbert_research.data import Collection
from colbert_research.index import Index, build_index
from colbert_research.index.inverted import InvertedLists
from colbert_research.ragged import Ragged, sample_rows
from colbert_research.search import SearchStrategy


def codec_of(text: str) -> Config:
    """The codec that a line such as `residual nbits=4` describes. Raises ConfigError."""
    found: Config = component_of_line("codec", CODECS, text)
    return found


class Clock(dict[str, float]):
    """Part -> seconds."""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self[name] = self.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class _TimedCodec:
    codec: Any
    clock: Clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self.codec, name)

    def encode(self, vectors: Any) -> Any:
        with self.clock.part("encode"):
            return self.codec.encode(vectors)


@dataclass(frozen=True)
class _TimedConfig:
    config: Any
    clock: Clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self.config, name)

    def fit(self, *arguments: Any, **settings: Any) -> _TimedCodec:
        with self.clock.part("fit"):
            return _TimedCodec(self.config.fit(*arguments, **settings), self.clock)


def build_in_parts(
    path: Path, collection: Collection, vectors: Ragged, codec: Any, *, seed: int = 42
) -> tuple[Index, dict[str, float]]:
    """Build an index as an experiment does; gives it and the seconds of its parts, which add up to `total`.

    `cluster`: sampling and k-means, where the codec has centroids; `fit`: buckets and the like; `encode`: vectors to codes;
    `invert`: inverted lists; `write`: everything else, such as sampling for the fit, writing, checksums and flushing.
    """
    clock = Clock()
    start, centroids = time.perf_counter(), None
    if isinstance(codec, Clustering):
        with clock.part("cluster"):
            sample = sample_rows(vectors, codec.sample_size(vectors.n_rows), seed=seed)
            centroids = codec.cluster(sample, n_tokens=vectors.n_rows, seed=seed)
            del sample
    index = build_index(path, collection, vectors, _TimedConfig(codec, clock), seed=seed, centroids=centroids)
    total = time.perf_counter() - start
    if index.codec.centroids is not None:
        for segment in index.segments:  # done once more, because a build has no seam there to put a clock in
            ids = Ragged(segment.codes["centroid_ids"], segment.offsets)
            with clock.part("invert"):
                InvertedLists.build(ids, len(index.codec.centroids))
    return index, {**clock, "write": total - sum(clock.values()), "total": total}


def open_structures(index: Index, strategy: SearchStrategy) -> tuple[float, int]:
    """Build what a strategy keeps beside the codes: seconds (almost none for what another one had built), and bytes on disk."""
    start = time.perf_counter()
    for structure in strategy.structures():
        index.structure(structure)
    seconds = time.perf_counter() - start
    return seconds, sum(map(index.structure_bytes, strategy.structures()))


def load_libraries() -> None:
    """Build a small index, so that loading is not counted, and all that has threads is there when they are pinned.

    Kernels are compiled once for an installation; that is no part of a build's time.
    """
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40_000, 128)).astype(np.float32)
    vectors = Ragged(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.arange(0, len(rows) + 1, 100))
    with TemporaryDirectory(prefix="load-") as folder:
        build_index(Path(folder) / "index", Collection.from_texts([""] * len(vectors)), vectors, codec_of("residual"))
