"""An index that can be asked in words, in several segments."""

import numpy as np
import pytest

from colbert_research.codecs import ResidualConfig
from colbert_research.data import Collection
from colbert_research.encoders import HashingConfig, TextPipeline
from colbert_research.index import build_index
from colbert_research.index.build import BuildConfig

N = 240
WORDS = (
    "apple",
    "orchard",
    "cider",
    "banana",
    "yellow",
    "cherry",
    "blossom",
    "whale",
    "tea",
    "green",
    "honey",
    "river",
    "north",
)


@pytest.fixture(scope="session")
def index_path(tmp_path_factory):
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 12))) for _ in range(N)]
    metadata = [{"number": i, "kind": "even" if i % 2 == 0 else "odd"} for i in range(N)]
    collection = Collection.from_texts(texts, ids=[f"d{i}" for i in range(N)], metadata=metadata)
    pipeline = TextPipeline.of(HashingConfig(dim=32))
    vectors = pipeline.documents(collection.document_texts()).vectors
    folder = tmp_path_factory.mktemp("serving") / "index"
    build = BuildConfig(segment_tokens=300)
    build_index(folder, collection, vectors, ResidualConfig(nbits=4, centroids=32), build=build, pipeline=pipeline)
    return folder
