"""An index that grows and shrinks: what is found is what is there."""

import logging
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.data.passages import source_of
from colbert_research.encoders import HashingConfig
from colbert_research.rag import RAGPretrainedModel, store
from tests.rag.conftest import ENCODER, IDS, TEXTS, ids_of


@pytest.fixture
def rag(tmp_path):
    made = RAGPretrainedModel.from_pretrained(ENCODER, index_root=tmp_path)
    made.index(TEXTS[:1], IDS[:1], [{"kind": "plant"}], "things", max_document_length=12)
    return made


def documents_of(rag) -> list[str]:
    index = rag.retriever.index
    return list(dict.fromkeys(source_of(d.id, d.metadata).document_id for d in index.documents(index.document_ids)))


def test_added_documents_are_found_with_the_others(rag, tmp_path):
    before = rag.search("green tea", k=1)
    assert rag.add_to_index(TEXTS[1:], IDS[1:], [{"kind": "animal"}, {}]) is None
    assert documents_of(rag) == IDS
    assert rag.search("green tea", k=1) == before
    found = rag.search("queen in a hive", k=1)[0]
    assert (found["document_id"], "document_metadata" in found) == ("bee", False)
    again = RAGPretrainedModel.from_index(tmp_path / "colbert/indexes/things")
    assert again.search("hearts of whales", k=100) == rag.search("hearts of whales", k=100)
    fresh = RAGPretrainedModel.from_pretrained(ENCODER, index_root=tmp_path)
    fresh.index(TEXTS, IDS, [{"kind": "plant"}, {"kind": "animal"}, {}], "fresh", max_document_length=12)
    assert fresh.search("hearts of whales", k=100) == rag.search("hearts of whales", k=100)


def test_what_is_there_already_is_left_out_and_never_silently_changed(rag, caplog):
    with caplog.at_level(logging.INFO, "colbert_research"):
        rag.add_to_index(TEXTS[:2], IDS[:2], [{"kind": "plant"}, {"kind": "animal"}])
    assert "1 of 2 documents are in the index already and left out" in caplog.text
    assert documents_of(rag) == ["tea", "whale"]
    for text, metadata in ((TEXTS[0] + " More.", {"kind": "plant"}), (TEXTS[0], {"kind": "animal"}), (TEXTS[0], {})):
        with pytest.raises(ValueError, match=r"document 'tea' is in the index with another text or other metadata.*delete"):
            rag.add_to_index(["New text.", text], ["new", "tea"], [{}, metadata])
    rag.add_to_index(TEXTS[:1], IDS[:1])  # of which no metadata is given
    assert documents_of(rag) == ["tea", "whale"]
    rag.delete_from_index(["tea"])
    rag.add_to_index(["Tea is cold."], ["tea"])
    assert rag.search("tea", k=1)[0]["content"] == "Tea is cold."
    rag.add_to_index([])
    rag.add_to_index(TEXTS[2:])
    n = len(rag.retriever.index)
    rag.add_to_index(TEXTS[2:])  # ids are made of the texts
    assert len(rag.retriever.index) == n


def test_deleting_is_by_the_exact_id_and_takes_all_passages(rag):
    rag.add_to_index(TEXTS[1:], ["te", "tea#1"])
    with pytest.raises(KeyError, match=r"1 documents are not in .*'t'"):
        rag.delete_from_index("t")
    with pytest.raises(KeyError):
        rag.delete_from_index(["te", "tea#0"])  # a passage is no document; nothing is deleted
    assert documents_of(rag) == ["tea", "te", "tea#1"]
    rag.delete_from_index("tea")
    assert documents_of(rag) == ["te", "tea#1"]
    assert set(ids_of(rag.search("green tea", k=100))) == {"te", "tea#1"}
    with pytest.raises(KeyError):
        rag.search("tea", doc_ids=["tea"])
    rag.delete_from_index(["te", "tea#1", "te"])
    assert rag.search("tea") == []
    rag.add_to_index(TEXTS, IDS)
    assert len(set(ids_of(rag.search("tea", k=100)))) == 3
    rag.delete_from_index([])


def test_added_passages_are_as_long_as_those_of_the_index(rag, tmp_path, caplog):
    again = RAGPretrainedModel.from_index(tmp_path / "colbert/indexes/things")
    again.add_to_index(TEXTS[1:], IDS[1:])
    assert max(again.retriever.index.vectors_of(again.retriever.index.document_ids).lengths) <= 12
    assert again.index(TEXTS, index_name="things")  # with a length of its own
    assert len(again.retriever.index) == 3
    with caplog.at_level(logging.WARNING, "colbert_research"):
        again.add_to_index(["long " * 300], ["long"], split_documents=False)
    assert "1 of 1 texts are longer than the 256 word pieces" in caplog.text


def test_it_is_compressed_when_it_has_grown(rag, monkeypatch, caplog):
    rag.add_to_index(TEXTS[1:2], ["whale"])
    assert rag.retriever.index.codec.config == ExactConfig()
    exact = {each["content"]: each["score"] for each in rag.search("tea and whales", k=100)}
    monkeypatch.setattr(store, "EXACT_TOKENS", rag.retriever.index.n_tokens)
    rag.add_to_index(TEXTS[1:2], ["whale"])  # nothing is added
    assert rag.retriever.index.codec.config == ExactConfig()
    with caplog.at_level(logging.INFO, "colbert_research"):
        rag.add_to_index(TEXTS[2:], ["bee"])
    assert "it is compressed" in caplog.text
    assert rag.retriever.index.codec.config == ResidualConfig(nbits=4)
    assert documents_of(rag) == IDS
    found = {each["content"]: each["score"] for each in rag.search("tea and whales", k=100)}
    assert exact.keys() <= found.keys()
    assert len(found) == len(rag.retriever.index)
    rag.delete_from_index(["tea"])
    assert documents_of(rag) == ["whale", "bee"]


DOCUMENT = st.integers(0, 7)
STEP = st.tuples(st.sampled_from(["add", "delete", "reopen", "index"]), st.lists(DOCUMENT, max_size=4, unique=True))
STEPS = st.lists(STEP, max_size=7)


@pytest.mark.slow
@given(steps=STEPS)
@settings(
    max_examples=100 if os.environ.get("ALL_TRIALS") else 8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_sequence_gives_what_its_end_gives(steps, tmp_path_factory):
    texts = {f"d{i}": f"Document {i} says word{i} thing. " * (1 + i % 3) for i in range(8)}
    root = tmp_path_factory.mktemp("sequence")
    rag = RAGPretrainedModel.from_pretrained(HashingConfig(dim=16), index_root=root)
    path, there = rag.index(["First of all."], ["first"], index_name="i", max_document_length=8), {"first": "First of all."}
    for what, numbers in steps:
        ids = [f"d{i}" for i in numbers]
        if what == "add" or (what == "index" and ids):
            there = {**(there if what == "add" else {}), **{i: texts[i] for i in ids}}
            given_texts = [texts[i] for i in ids]
            if what == "add":
                rag.add_to_index(given_texts, ids)
            else:
                rag.index(given_texts, ids, index_name="i", max_document_length=8)
        elif what == "delete":
            ids = [i for i in ids if i in there]
            rag.delete_from_index(ids)
            there = {i: text for i, text in there.items() if i not in ids}
        else:
            rag = RAGPretrainedModel.from_index(path)
    assert sorted(documents_of(rag)) == sorted(there)
    if there:
        fresh = RAGPretrainedModel.from_pretrained(HashingConfig(dim=16), index_root=root)
        fresh.index(list(there.values()), list(there), index_name="fresh", max_document_length=8)
        shape = [
            {(each["content"], each["document_id"], each["score"]) for each in r.search("document says word3 first", k=1000)}
            for r in (rag, fresh)
        ]
        assert shape[0] == shape[1]
    rag.retriever.index.verify()
