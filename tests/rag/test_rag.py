"""RAGatouille's surface: its methods, arguments, defaults and return shapes, without the defects that are listed of it."""

import inspect
import subprocess
import sys

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.data import Collection
from colbert_research.data.splitting import rebuilt
from colbert_research.encoders import TextPipeline
from colbert_research.index import IndexMissingError, build_index
from colbert_research.rag import RAGPretrainedModel, store
from colbert_research.search import Exhaustive
from colbert_research.settings import ConfigError
from tests.conftest import ROOT
from tests.rag.conftest import ENCODER, IDS, TEXTS, ids_of

SURFACE = {
    "from_pretrained": ["pretrained_model_name_or_path", "n_gpu=-1", "verbose=1", "index_root=None"],
    "from_index": ["index_path", "n_gpu=-1", "verbose=1"],
    "index": [
        *("collection", "document_ids=None", "document_metadatas=None", "index_name=None", "overwrite_index=True"),
        *("max_document_length=256", "split_documents=True", "document_splitter_fn=None", "preprocessing_fn=None"),
        *("bsize=32", "use_faiss=False"),
    ],
    "add_to_index": [
        *("new_collection", "new_document_ids=None", "new_document_metadatas=None", "index_name=None", "split_documents=True"),
        *("document_splitter_fn=None", "preprocessing_fn=None", "bsize=32", "use_faiss=False"),
    ],
    "delete_from_index": ["document_ids", "index_name=None"],
    "search": ["query", "index_name=None", "k=10", "force_fast=False", "zero_index_ranks=False", "doc_ids=None"],
    "rerank": ["query", "documents", "k=10", "zero_index_ranks=False", "bsize='auto'"],
    "encode": ["documents", "bsize='auto'", "document_metadatas=None", "verbose=True", "max_document_length='auto'"],
    "search_encoded_docs": ["query", "k=10", "bsize=32"],
    "clear_encoded_docs": ["force=False"],
    "as_langchain_document_compressor": ["k=5"],
}


@pytest.mark.parametrize("method", SURFACE)
def test_the_arguments_are_those_of_ragatouille(method):
    found = []
    for each in inspect.signature(getattr(RAGPretrainedModel, method)).parameters.values():
        if each.name != "self" and each.kind is each.POSITIONAL_OR_KEYWORD:
            found.append(each.name if each.default is each.empty else f"{each.name}={each.default!r}")
    assert found == SURFACE[method]


def test_index_search_and_open_again(rag, tmp_path):
    path = rag.index(collection=TEXTS, document_ids=IDS, index_name="things", max_document_length=12)
    assert path == str(tmp_path / "colbert" / "indexes" / "things")
    found = rag.search(query="Which animals have large hearts?", k=3)
    assert list(found[0]) == ["content", "score", "rank", "document_id", "passage_id"]
    assert (found[0]["content"], found[0]["document_id"]) == ("Whales have large hearts. ", "whale")
    assert [each["rank"] for each in found] == [1, 2, 3]
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True) and all(type(score) is float for score in scores)
    again = RAGPretrainedModel.from_index(path)
    assert again.search("Which animals have large hearts?", k=3) == found
    assert [each["rank"] for each in rag.search("sea", k=3, zero_index_ranks=True)] == [0, 1, 2]
    assert rag.retriever.index.documents_at(np.array([found[0]["passage_id"]]))[0].text == found[0]["content"]


def test_a_passage_knows_its_place_and_the_document_can_be_put_together_again(indexed):
    for document, text in zip(IDS, TEXTS, strict=True):
        passages = [passage for passage, _ in indexed._open(None).stored(document)]
        assert rebuilt(passages) == text
        assert all(text[each.start : each.end] == each.text for each in passages)
    assert indexed.retriever.index.document_ids[:3] == ("tea#0", "tea#1", "tea#2")


def test_it_is_the_retriever_with_its_exhaustive_search(indexed):
    retriever = indexed.retriever
    ranking = Exhaustive().search(retriever.index, ENCODER.load().encode_queries(["small whales in the sea"]), 100)
    expected = [(document, score) for document, score in ranking.top(0)]
    assert [(hit.document_id, hit.score) for hit in retriever.search("small whales in the sea", 100)] == expected
    found = indexed.search("small whales in the sea", k=100)
    assert [each["score"] for each in found] == [score for _, score in expected]
    assert len(found) == len(retriever.index)  # k is more than there are
    assert len(indexed.search("sea", k=2)) == 2


def test_metadata_is_the_documents(indexed):
    by_document = {each["document_id"]: each for each in indexed.search("tea whale bee", k=100)}
    assert by_document["tea"]["document_metadata"] == {"kind": "plant"}
    assert by_document["whale"]["document_metadata"] == {"kind": "animal", "legs": 0}
    assert "document_metadata" not in by_document["bee"]


def test_several_queries_give_as_many_lists_and_one_in_a_list_gives_one(indexed):
    one, other = indexed.search("honey", k=2), indexed.search("leaves", k=2)
    assert indexed.search(["honey", "leaves"], k=2) == [one, other]
    assert indexed.search(["honey"], k=2) == [one]
    assert indexed.search([], k=2) == []
    assert indexed.search(("honey",), k=2) == [one]


@pytest.mark.parametrize("queries", ["tea", ["tea", "sea"]])
def test_doc_ids_restrict_every_query(indexed, queries):
    found = indexed.search(queries, k=100, doc_ids=["bee", "whale"])
    for results in [found] if isinstance(queries, str) else found:
        assert set(ids_of(results)) == {"bee", "whale"}
        assert len(results) == sum(len(ids) for ids in indexed._open(None).passages_of(["bee", "whale"]))
    assert indexed.search("tea", doc_ids=[]) == []


def test_filters_are_by_the_metadata_of_documents(indexed):
    assert set(ids_of(indexed.search("tea", k=100, filter={"kind": "animal"}))) == {"whale"}
    both = indexed.search(["tea", "sea"], k=100, filter={"kind": {"$in": ["animal", "plant"]}})
    assert [set(ids_of(found)) for found in both] == [{"tea", "whale"}] * 2
    assert set(ids_of(indexed.search("tea", k=100, filter={"legs": {"$lt": 2}}, doc_ids=["tea", "whale"]))) == {"whale"}
    assert indexed.search("tea", filter={"kind": "animal"}, doc_ids=["tea"]) == []
    with pytest.raises(ValueError, match="kind"):
        indexed.search("tea", filter={"kin": "animal"})


def test_unknown_documents_are_named(indexed):
    with pytest.raises(KeyError, match=r"1 documents are not in .*things, such as \['be'\]"):
        indexed.search("tea", doc_ids=["bee", "be"])
    with pytest.raises(KeyError, match="are not in"):  # a passage is no document
        indexed.search("tea", doc_ids=["bee#0"])
    with pytest.raises(TypeError, match="Put it in a list"):
        indexed.search("tea", doc_ids="bee")


def test_a_name_is_kept_and_another_index_brings_its_own_texts(rag, tmp_path):
    assert rag.index(TEXTS[:1], IDS[:1], index_name="one").endswith("one")
    assert rag.index(TEXTS[1:], IDS[1:], index_name="two").endswith("two")
    assert ids_of(rag.search("tea", index_name="one")) == ["tea"]
    assert set(ids_of(rag.search("tea", index_name="two"))) == {"whale", "bee"}
    assert rag.search("hive", index_name="two")[0]["content"].startswith("Bees")
    assert set(ids_of(rag.search("tea"))) == {"whale", "bee"}
    assert rag.index(TEXTS[:2]).endswith("two")  # the name that was set before
    assert RAGPretrainedModel.from_pretrained(ENCODER, index_root=tmp_path).index(TEXTS).endswith("hashingnew_index")
    other = RAGPretrainedModel.from_index(tmp_path / "colbert" / "indexes" / "one")
    assert len(other.search("tea", index_name="two")) == 2


def test_ids_are_made_of_the_texts(rag):
    rag.index([*TEXTS, TEXTS[0]], index_name="a")
    first = [i.partition("#")[0] for i in rag.retriever.index.document_ids]
    rag.index([*TEXTS, TEXTS[0]], index_name="b")
    assert [i.partition("#")[0] for i in rag.retriever.index.document_ids] == first
    assert len(set(first)) == 4


BAD = [
    ({"collection": "tea"}, TypeError, "Put it into a list"),
    ({"collection": []}, ValueError, "no documents to index"),
    ({"collection": ["tea", 7]}, TypeError, "text 1 is a int"),
    ({"collection": ["tea", " \n"]}, ValueError, r"document 1 is blank \(' \\n'\)"),
    ({"collection": ["tea", "half \ud800"]}, ValueError, "document 1 holds half a character"),
    ({"collection": ["tea"], "document_ids": [7]}, ValueError, r"non-empty strings; number 0 is 7 \(int\)"),
    ({"collection": ["tea"], "document_ids": [""]}, ValueError, "non-empty strings"),
    ({"collection": ["tea", "bee"], "document_ids": ["a", "a"]}, ValueError, "'a' is there more than once"),
    ({"collection": ["tea"], "document_ids": ["a", "b"]}, ValueError, "one entry for each of the 1 documents; given 2"),
    ({"collection": ["tea"], "document_ids": "a"}, ValueError, "given 'a'"),
    ({"collection": ["tea"], "document_metadatas": {"a": 1}}, ValueError, "one entry for each"),
    ({"collection": ["tea"], "document_metadatas": [{"_start": 1}]}, ValueError, "'_start' is kept for a passage's place"),
    ({"collection": ["tea"], "document_metadatas": [{"a": {1}}]}, ValueError, "cannot be written as JSON"),
    ({"collection": ["tea"], "index_name": "a/b"}, ValueError, "without slashes"),
    ({"collection": ["tea"], "index_name": ".."}, ValueError, "leading dot"),
    ({"collection": ["tea"], "max_document_length": 0}, ValueError, "counts tokens"),
    ({"collection": ["tea"], "max_document_length": "180"}, ValueError, "counts tokens"),
    ({"collection": ["tea"], "document_splitter_fn": 7}, TypeError, r"document_splitter_fn is fn\(text\)"),
    ({"collection": ["tea"], "document_splitter_fn": lambda text: [text, 7]}, TypeError, "gives a list of strings"),
    ({"collection": ["tea"], "document_splitter_fn": lambda text: []}, ValueError, "no passage left"),
    ({"collection": ["tea"], "preprocessing_fn": lambda passages, ids: [{"document_id": "x"}]}, ValueError, "passages are"),
]


@pytest.mark.parametrize(("given", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_what_cannot_be_indexed(rag, tmp_path, given, error, message):
    with pytest.raises(error, match=message):
        rag.index(**given)
    assert not list(tmp_path.iterdir())


def test_there_must_be_an_index(rag, tmp_path):
    for ask in (lambda: rag.search("tea"), lambda: rag.retriever, lambda: rag.add_to_index(TEXTS)):
        with pytest.raises(ConfigError, match="there is no index yet"):
            ask()
    with pytest.raises(IndexMissingError, match="no finished index"):
        rag.search("tea", index_name="nowhere")
    with pytest.raises(IndexMissingError, match="no finished index"):
        RAGPretrainedModel.from_index(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="at least one word"):
        rag.index(TEXTS) and rag.search(" ")
    with pytest.raises(ValueError, match="at least 1"):
        rag.search("tea", k=0)


def test_a_small_collection_is_searched_exactly_and_a_large_one_is_compressed(rag, monkeypatch):
    rag.index(TEXTS)
    assert rag.retriever.index.codec.config == ExactConfig()
    monkeypatch.setattr(store, "EXACT_TOKENS", 20)
    rag.index(TEXTS)
    assert rag.retriever.index.codec.config == ResidualConfig(nbits=4)
    assert len(rag.search("tea", k=100)) == len(rag.search("tea", k=100, force_fast=True)) == len(rag.retriever.index)
    rag.index(TEXTS, codec=ResidualConfig(nbits=2))
    assert rag.retriever.index.codec.config == ResidualConfig(nbits=2)


def test_any_index_with_a_pipeline_is_opened(tmp_path):
    collection = Collection.from_texts(["green tea", "whales", "bees"], ids=["issue#3", "b", "c"], metadata=[{"n": 1}, {}, {}])
    pipeline = TextPipeline.of(ENCODER)
    build_index(tmp_path / "i", collection, pipeline.documents(collection.texts), ExactConfig(), pipeline=pipeline)
    rag = RAGPretrainedModel.from_index(tmp_path / "i")
    found = rag.search("tea", k=1)
    assert found == [
        {"content": "green tea", "score": found[0]["score"], "rank": 1, "document_id": "issue#3", "passage_id": 0}
        | {"document_metadata": {"n": 1}}
    ]
    assert ids_of(rag.search("tea", doc_ids=["issue#3", "b"])) == ["issue#3", "b"]
    with pytest.raises(KeyError):
        rag.search("tea", doc_ids=["issue"])


@pytest.mark.slow
def test_nothing_heavy_is_imported_and_nothing_is_printed(tmp_path):
    code = f"""
import sys
import colbert_research.rag
assert not {{"langchain_core", "llama_index", "pyterrier", "torch", "transformers", "pandas"}} & set(sys.modules), sys.modules
from colbert_research.encoders import HashingConfig
rag = colbert_research.rag.RAGPretrainedModel.from_pretrained(HashingConfig(), index_root={str(tmp_path)!r})
rag.index(["one", "two"])
rag.search("two")
rag.encode(["one"])
rag.clear_encoded_docs()
rag.rerank("two", ["one"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
