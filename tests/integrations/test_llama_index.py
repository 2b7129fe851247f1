"""LlamaIndex: nodes with scores, synchronously and not."""

import asyncio

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.schema import QueryBundle

from colbert_research.integrations.llama_index import LateInteractionRetriever

QUESTION = "Which animals have large hearts?"


def test_nodes_are_the_hits(rag, retriever):
    found = LateInteractionRetriever(retriever, k=2).retrieve(QUESTION)
    assert [(node.node_id, node.text, node.score) for node in found] == [
        (hit.document_id, hit.text, hit.score) for hit in retriever.search(QUESTION, 2)
    ]
    assert found[0].metadata["document_id"] == "whale" and found[0].metadata["start"] == 0
    assert asyncio.run(LateInteractionRetriever(retriever, k=2).aretrieve(QueryBundle(QUESTION))) == found
    assert [node.node_id for node in LateInteractionRetriever(retriever, ids=["bee#0"]).retrieve(QUESTION)] == ["bee#0"]


def test_in_a_query_engine(retriever, monkeypatch):
    monkeypatch.setenv("IS_TESTING", "1")  # it looks for a default model, used or not: its own mock
    engine = RetrieverQueryEngine.from_args(
        LateInteractionRetriever(retriever, k=1), llm=MockLLM(), response_mode=ResponseMode.NO_TEXT
    )
    assert [node.node_id for node in engine.query(QUESTION).source_nodes] == ["whale#0"]


def test_a_filter_is_passed_through():
    from tests.integrations.test_langchain import _Asked

    asked = _Asked()
    LateInteractionRetriever(asked, k=3, filter={"year": 2001}).retrieve("tea")
    assert asked.asked == (("tea", 3, None), {"filter": {"year": 2001}})
