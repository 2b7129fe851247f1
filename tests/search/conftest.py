"""One small index with words and token vectors, and helpers that score by hand."""

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.index import Index, build_index
from colbert_research.index.build import BuildConfig
from colbert_research.ragged import Ragged, offsets_of

N, DIM = 50, 16
EPS = float(np.finfo(np.float32).eps)
WORDS = ["apple", "banana", "cherry", "damson", "elder", "fig", "grape", "hazel", "iris", "juniper"]


@pytest.fixture(scope="session")
def collection() -> Collection:
    """Document i says word i % 10 some times, then its number; every fifth has a title."""
    texts = [" ".join([WORDS[i % 10]] * (1 + i // 10)) + f" note {i}" for i in range(N)]
    titles = [WORDS[(i + 3) % 10] if i % 5 == 0 else "" for i in range(N)]
    return Collection.from_texts(texts, ids=[f"d{i}" for i in range(N)], titles=titles)


@pytest.fixture(scope="session")
def vectors() -> Ragged:
    rng = np.random.default_rng(11)
    directions = rng.standard_normal((6, DIM))
    lengths = rng.integers(1, 15, N)
    values = directions[rng.integers(0, 6, lengths.sum())] + 0.7 * rng.standard_normal((lengths.sum(), DIM))
    return Ragged((values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32), offsets_of(lengths))


@pytest.fixture(scope="session")
def queries() -> Ragged:
    rng = np.random.default_rng(12)
    values = rng.standard_normal((4 + 1 + 9, DIM)).astype(np.float32)
    return Ragged(values / np.linalg.norm(values, axis=1, keepdims=True), offsets_of([4, 1, 9]))


@pytest.fixture(scope="session")
def index(collection, vectors, tmp_path_factory) -> Index:
    """Exact vectors in several segments."""
    path = tmp_path_factory.mktemp("search") / "index"
    return build_index(path, collection, vectors, ExactConfig(), build=BuildConfig(segment_tokens=120, chunk_tokens=50))


@pytest.fixture(scope="session")
def whole(collection, vectors, tmp_path_factory) -> Index:
    """The same in one segment."""
    return build_index(tmp_path_factory.mktemp("search") / "index", collection, vectors, ExactConfig())


@pytest.fixture(scope="session")
def truth(vectors, queries) -> np.ndarray:
    """MaxSim of every query and document in float64."""
    return kernels.maxsim(queries, vectors, backend="reference")


def built(structure, index: Index) -> list:
    """The arrays of each segment of a structure that needs no other, built anew."""
    return [structure.build(index.codec, segment, {}) for segment in index.segments]


def positions_of(ranking, query: int) -> set[int]:
    return {int(document[1:]) for document, _ in ranking.top(query)}
