"""One small collection with token vectors, and the codecs with and without centroids."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colbert_research.artifacts import read_json, write_json
from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.config import content_hash
from colbert_research.data import Collection
from colbert_research.index.build import BuildConfig
from colbert_research.index.manifest import CHECKED
from colbert_research.ragged import Ragged, offsets_of

N, DIM = 40, 16
SEVERAL = BuildConfig(segment_tokens=60, chunk_tokens=25)
CODECS = [ExactConfig(), ResidualConfig(nbits=4, centroids=8)]


@pytest.fixture
def collection() -> Collection:
    metadata = [{"number": i, "name": "Łódź"} for i in range(N)]
    return Collection.from_texts([f"text {i} é" for i in range(N)], ids=[f"d{i}" for i in range(N)], metadata=metadata)


@pytest.fixture
def vectors(rng) -> Ragged:
    lengths = rng.integers(1, 12, N)
    values = rng.standard_normal((lengths.sum(), DIM)).astype(np.float32)
    return Ragged(values / np.linalg.norm(values, axis=1, keepdims=True), offsets_of(lengths))


def edit_manifest(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of an index in place; one of an earlier version then vouches for itself no more."""
    manifest = read_json(path / "manifest.json")
    del manifest["check"]
    edit(manifest)
    if manifest.get("version") not in range(CHECKED):
        manifest["check"] = content_hash(manifest)
    write_json(path / "manifest.json", manifest)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
