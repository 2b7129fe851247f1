"""A few documents, or one passage many times: defaults follow the collection, and what is there is found."""

import numpy as np
import pytest

from colbert_research.codecs import ResidualConfig
from colbert_research.data import Collection
from colbert_research.encoders import HashingConfig
from colbert_research.index import build_index
from colbert_research.search import (
    STRATEGIES,
    Auto,
    Emvb,
    FastPlaid,
    NextPlaid,
    Plaid,
    StanfordPlaid,
    Trace,
    Warp,
)


@pytest.mark.parametrize("copies", [300, 1000])
@pytest.mark.parametrize("strategy", [StanfordPlaid, Plaid, FastPlaid, NextPlaid, Emvb, Warp, Auto], ids=lambda s: s.__name__)
def test_a_passage_that_is_there_a_thousand_times_is_found(tmp_path, strategy, copies):
    """Its words were most of the centroids, all of them but one without tokens, and those were probed."""
    words = np.random.default_rng(0).choice([f"word{i}" for i in range(300)], (60, 12))
    texts = ["the quick brown fox jumps over the lazy dog near a river"] * copies + [" ".join(row) for row in words]
    encoder, collection = HashingConfig(dim=32).load(), Collection.from_texts(texts)
    vectors = encoder.encode_documents(texts).vectors
    index = build_index(tmp_path / "i", collection, vectors, ResidualConfig(nbits=4))
    assert len(index.empty_cells), "fewer distinct vectors than centroids"
    asked = encoder.encode_queries(["quick fox jumps", words[7][0]]).vectors
    settings = {"exhaustive_tokens": 0} if strategy is Auto else {}
    found = strategy(**settings).search(index, asked, 10)
    first = [collection.document_ids.index(document) for document, _ in found.top(0)]
    assert len(first) == 10 and max(first) < copies
    assert collection.document_ids.index(found.top(1)[0][0]) >= copies


@pytest.mark.parametrize("strategy", [cls for cls in STRATEGIES.values() if not cls.__name__.startswith("Cuda")])
@pytest.mark.parametrize("n_documents", [1, 2, 6])
def test_defaults_follow_a_small_collection(tmp_path, strategy, n_documents):
    texts = ["red apples", "green pears in autumn", "a blue boat", "yellow sun over sea", "grapes", "brown bread"][:n_documents]
    encoder = HashingConfig(dim=32).load()
    vectors = encoder.encode_documents(texts).vectors
    index = build_index(tmp_path / "i", Collection.from_texts(texts), vectors, ResidualConfig(nbits=4))
    for k in (1, 3, 1000):
        for asked in texts:
            query = encoder.encode_queries([asked]).vectors
            found = strategy().search(index, query, k, query_texts=[asked])
            assert found.top(0)[0][0] == str(texts.index(asked))


def test_what_a_default_became_is_noted_and_what_was_asked_for_is_not_changed(tmp_path):
    texts = ["red apples", "green pears"]
    vectors = HashingConfig(dim=32).load().encode_documents(texts).vectors
    index = build_index(tmp_path / "i", Collection.from_texts(texts), vectors, ResidualConfig(nbits=4))
    trace = Trace()
    Warp().search(index, vectors.slice(0, 2), 1, trace=trace)
    assert trace.notes == ["warp: nprobe=4, all that there are, where the default is 32"]
    for asked in (
        Warp(nprobe=33),
        Plaid(ncells=5),
        FastPlaid(n_ivf_probe=9),
        NextPlaid(n_ivf_probe=5),
        StanfordPlaid(ncells=5),
    ):
        with pytest.raises(ValueError, match="but the index has 4 centroids; lower search"):
            asked.search(index, vectors.slice(0, 1), 1)
