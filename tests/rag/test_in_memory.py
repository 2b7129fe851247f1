"""Without an index: rerank, and texts that are kept encoded."""

import logging
import time

import numpy as np
import pytest

from colbert_research import kernels
from colbert_research.encoders import HashingConfig, TransformerConfig
from colbert_research.rag import RAGPretrainedModel
from colbert_research.settings import ConfigError

TEXTS = ["Green tea is a drink.", "Whales have large hearts.", "Bees make honey."]


@pytest.fixture
def rag(tmp_path):
    return RAGPretrainedModel.from_pretrained(HashingConfig(dim=32), index_root=tmp_path)


def test_rerank_is_maxsim(rag):
    found = rag.rerank("large honey bees", TEXTS, k=10)
    assert [list(each) for each in found] == [["content", "score", "rank", "result_index"]] * 3
    assert [each["content"] for each in found] == [TEXTS[each["result_index"]] for each in found]
    assert [each["rank"] for each in found] == [1, 2, 3]
    encoder = HashingConfig(dim=32).load()
    scores = kernels.maxsim(
        encoder.encode_queries(["large honey bees"]).vectors, encoder.encode_documents(TEXTS).vectors, backend="reference"
    )[0]
    assert [each["result_index"] for each in found] == np.argsort(-scores).tolist()
    rounding = 32 * 3 * np.finfo(np.float32).eps
    assert np.abs([each["score"] for each in found] - np.sort(scores)[::-1]).max() <= rounding


def test_fewer_documents_than_k(rag):
    assert len(rag.rerank("tea", TEXTS[:2], k=5)) == 2
    assert len(rag.rerank("tea", TEXTS, k=2)) == 2
    assert rag.rerank("tea", []) == []
    assert rag.rerank(["tea", "bees"], []) == [[], []]


def test_shapes_follow_the_query(rag):
    one = rag.rerank("tea", TEXTS)
    assert rag.rerank(["tea"], TEXTS) == [one]
    assert rag.rerank(["tea", "bees"], TEXTS) == [one, rag.rerank("bees", TEXTS)]
    assert [each["rank"] for each in rag.rerank("tea", TEXTS, zero_index_ranks=True)] == [0, 1, 2]


def test_encoded_documents_add_up(rag):
    rag.encode(TEXTS[:1], document_metadatas=[{"n": 0}])
    rag.encode(TEXTS[1:])  # without metadata after a first with it
    found = rag.search_encoded_docs("large hearts of bees", k=10)
    assert [each["rank"] for each in found] == [1, 2, 3]
    assert {each["result_index"]: each.get("document_metadata") for each in found} == {0: {"n": 0}, 1: None, 2: None}
    several = rag.search_encoded_docs(["large hearts of bees", "tea"], k=2)  # several queries and metadata
    assert several[0] == found[:2]
    assert several[1][0] == {**rag.rerank("tea", TEXTS)[0], "document_metadata": {"n": 0}}
    assert rag.search_encoded_docs(["tea"], k=1) == [several[1][:1]]


def test_they_are_forgotten(rag):
    rag.encode(TEXTS)
    rag.clear_encoded_docs()
    with pytest.raises(ConfigError, match=r"encode\(documents\) comes first"):
        rag.search_encoded_docs("tea")


def test_nothing_sleeps(rag, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"sleeps {seconds} s"))
    rag.encode(TEXTS)
    rag.clear_encoded_docs()
    rag.index(TEXTS)
    rag.index(TEXTS)


def test_a_text_of_negative_similarity_is_not_better_than_it_is(tmp_path):
    """Padding has no vector here, so that no zero row can win over negative similarities."""

    class Opposite:
        dim = 2

        def _encode(self, texts, sign):
            from colbert_research.encoders import TokenVectors
            from colbert_research.ragged import Ragged, offsets_of

            lengths = [len(text.split()) for text in texts]
            values = np.tile(np.float32([[sign, 0]]), (sum(lengths), 1))
            return TokenVectors(
                Ragged(values, offsets_of(lengths)), Ragged(np.zeros(sum(lengths), np.int32), offsets_of(lengths))
            )

        def encode_queries(self, texts):
            return self._encode(texts, 1)

        def encode_documents(self, texts):
            return self._encode(texts, -1)

        def fingerprint(self):
            return "opposite"

    class Config:
        kind = "opposite"

        def load(self):
            return Opposite()

        def model_dump(self, **how):
            return {}

    rag = RAGPretrainedModel.from_pretrained(Config(), index_root=tmp_path)
    assert [each["score"] for each in rag.rerank("a", ["b", "b c d"])] == [-1, -1]


def test_bad_input(rag):
    with pytest.raises(ValueError, match="at least one word"):
        rag.rerank(" ", TEXTS)
    with pytest.raises(ValueError, match="at least 1"):
        rag.rerank("tea", TEXTS, k=0)
    with pytest.raises(TypeError, match="Put it into a list"):
        rag.rerank("tea", "a text")
    with pytest.raises(ValueError, match="one entry for each of the 3 documents"):
        rag.encode(TEXTS, document_metadatas=[{}])
    with pytest.raises(ValueError, match="counts tokens"):
        rag.encode(TEXTS, max_document_length="long")


def test_long_documents_get_the_length_that_they_need(rag, caplog):
    long = "word " * 300 + "needle"
    with caplog.at_level(logging.WARNING, "colbert_research"):
        assert rag.rerank("needle", ["tea", long])[0]["result_index"] == 1
        assert not caplog.text
        rag.encode([long], max_document_length=20)
    assert "1 of 1 texts are longer than the 20 word pieces" in caplog.text


@pytest.fixture
def model(tmp_path):
    from tests.encoders.conftest import _load_tiny

    return _load_tiny().bare(tmp_path / "model")


@pytest.mark.slow
def test_a_transformer_takes_what_its_positions_allow(model, tmp_path, caplog):
    config = TransformerConfig(model=str(model), query_length=10, document_length=12)
    rag = RAGPretrainedModel.from_pretrained(config, index_root=tmp_path)
    most = rag.model.pipeline().encoder.model[0].config.max_position_embeddings
    text = "the heart " * 10
    with caplog.at_level(logging.WARNING, "colbert_research"):
        rag.rerank("heart", ["the diet", text])
    assert set(rag.model._pipelines) == {12, most}
    assert not caplog.text
    path = rag.index([text, "the diet of the heart"], max_document_length=14)
    assert max(rag.retriever.index.segments[0].offsets[1:] - rag.retriever.index.segments[0].offsets[:-1]) <= 14
    with pytest.raises(ConfigError, match=f"document_length {most + 1} is more than the {most} positions"):
        rag.index([text], max_document_length=most + 1)
    again = RAGPretrainedModel.from_index(path, n_gpu=0)
    assert again.search("heart") == rag.search("heart")
    assert again.model.encoder.device == "cpu"
