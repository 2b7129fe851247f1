"""`anatomy.json` beside a record: the clusters of its index, and how high centroids score, from artifacts in the cache."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.cache import StageCache
from colbert_research.encoders.reduce import project
from colbert_research.encoders.stored import open_stored
from colbert_research.evaluation.clusters import Anatomy, anatomy
from colbert_research.experiment.beside import read_beside, write_beside
from colbert_research.experiment.record import ANATOMY, FILE, Record, found_records
from colbert_research.experiment.stages.index import FOLDER
from colbert_research.index import Index
from colbert_research.ragged import Ragged

logger = logging.getLogger("colbert_research")
DISTINCT = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SCORES = tuple(round(0.1 * i, 1) for i in range(-2, 11))
"""Of the distributions that are kept: distinct tokens of a cluster, shares of the majority, centroid scores."""
QUERIES = 15
"""So many first queries, as in PLAID's figure 4."""
SEED = 42
FORMAT = 2
"""1 had no homogeneity."""


def measure_clusters(folder: str | Path, *, cache: StageCache | None = None) -> None:
    """Write `anatomy.json` beside each record below `folder` whose codes have centroids and whose artifacts are in the cache.

    It holds figures, and the key of the index that they are of. What is there already is kept, unless it is of an earlier
    format. Pooled indexes are left out, since their vectors are of no one token.
    """
    cache = cache or StageCache.default()
    for path, record in found_records(folder):
        if not _is_clustered(path, record):
            continue
        known = read_beside(path / ANATOMY)
        if (known.get("index"), known.get("format", 1)) == (record.stages.get("index"), FORMAT):
            continue
        kinds = {"index": "index", "encode": "encode documents", "queries": "encode queries"}
        found = {n: cache.find("encode" if n == "queries" else n, record.stages.get(s, "")) for n, s in kinds.items()}
        if None in found.values():
            logger.warning("%s: its artifacts are not in the cache, so nothing is said of its clusters", path)
            continue
        paths = {name: artifact.path for name, artifact in found.items() if artifact is not None}
        try:
            index = Index.open(paths["index"] / FOLDER)
            tokens = np.asarray(open_stored(paths["encode"]).tokens.token_ids.values)
            queries = open_stored(paths["queries"]).tokens.vectors
        except (ValueError, OSError, LookupError) as error:  # damaged; whoever computes from it next makes it anew
            logger.warning("%s: its artifacts cannot be read, so nothing is said of its clusters: %s", path, error)
            continue
        told = dict(_figures(index, tokens)) | dict(_scores(index, queries.slice(0, min(QUERIES, len(queries)))))
        write_beside(path / ANATOMY, {"figures": told, "format": FORMAT, "index": record.stages["index"]})


def clusters_of(path: Path, record: Record) -> dict[str, float]:
    """The figures that were measured for a record's index; none where there are none, or those of another index."""
    known = read_beside(path / ANATOMY)
    if known.get("index") != record.stages.get("index") or "index" not in known:
        return {}
    return {str(name): float(value) for name, value in known.get("figures", {}).items()}


def _figures(index: Index, tokens: NDArray[Any]) -> Iterator[tuple[str, float]]:
    centroids = np.concatenate([segment.codes["centroid_ids"] for segment in index.segments]).astype(np.int64)
    found = anatomy(tokens, centroids)
    yield from found.figures().items()
    yield from _distributions(found)
    shuffled = anatomy(np.random.default_rng(SEED).permutation(tokens), centroids)
    for most in DISTINCT:
        yield f"clusters of at most {most} tokens, shuffled", float(np.mean(shuffled.distinct_tokens <= most))


def _distributions(found: Anatomy) -> Iterator[tuple[str, float]]:
    for most in DISTINCT:
        yield f"clusters of at most {most} tokens", float(np.mean(found.distinct_tokens <= most))
    for share in SHARES:
        yield f"clusters of purity up to {share:g}", float(np.mean(found.cluster_purity <= share))
        yield f"tokens of purity up to {share:g}", float(np.mean(found.token_purity <= share))


def _scores(index: Index, queries: Ragged) -> Iterator[tuple[str, float]]:
    """PLAID's figure 4: of each centroid the highest score with any token of a query, over some queries."""
    projection = index.pipeline.projection if index.pipeline is not None else None
    assert index.codec.centroids is not None
    products = project(np.asarray(queries.values), projection) @ index.codec.centroids.T
    highest = np.maximum.reduceat(products, queries.offsets[:-1], axis=0)
    for score in SCORES:
        yield f"centroids scoring up to {score:g}", float(np.mean(highest <= score))


def _is_clustered(path: Path, record: Record) -> bool:
    """Whether a record is of an index with centroids, and of vectors that are of one token each."""
    try:
        pooled = record.config.get("pooling", {"kind": "none"})["kind"] != "none"
        return bool(record.config["codec"].get("centroids")) and not pooled
    except (LookupError, TypeError, AttributeError) as error:
        logger.warning("passed over: %s: %s: %s", path / FILE, type(error).__name__, error)
        return False
