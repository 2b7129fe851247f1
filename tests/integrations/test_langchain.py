"""LangChain's own tests of a retriever, and what it says of what it found."""

import asyncio
import pickle

import pytest

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from pydantic import ValidationError

from colbert_research.integrations.langchain import LateInteractionCompressor, LateInteractionRetriever
from tests.integrations.conftest import IDS, TEXTS

QUESTION = "Which animals have large hearts?"

try:
    from langchain_tests.integration_tests import RetrieversIntegrationTests
except ImportError:
    RetrieversIntegrationTests = None
else:

    class _Standard(RetrieversIntegrationTests):
        """What langchain-tests asks of every retriever."""

        @pytest.fixture(autouse=True)
        def _given(self, rag):
            self.given = rag.retriever

        @property
        def retriever_constructor(self):
            return LateInteractionRetriever

        @property
        def retriever_constructor_params(self):
            return {"retriever": self.given}

        @property
        def retriever_query_example(self):
            return QUESTION

    class TestRetriever(_Standard):
        """A `Retriever`."""

    class TestOfTheFrontDoor(_Standard):
        """What `as_langchain_retriever` puts in its place."""

        @pytest.fixture(autouse=True)
        def _given(self, rag):
            self.given = rag.as_langchain_retriever().retriever


def test_there_are_standard_tests_where_they_are_installed():
    if RetrieversIntegrationTests is None:
        pytest.skip("langchain-tests is not installed")
    assert {"test_invoke_with_k_kwarg", "test_ainvoke_returns_documents"} <= set(dir(TestRetriever))


def test_documents_say_where_they_come_from(rag):
    first, second = rag.as_langchain_retriever(k=2).invoke(QUESTION)
    score = rag.search(QUESTION, k=1)[0]["score"]
    place = {"document_id": "whale", "passage": 0, "start": 0, "end": 26, "rank": 1}
    assert first == Document(
        id="whale#0", page_content="Whales have large hearts. ", metadata={**place, "kind": "animal", "score": "high"}
    )  # the document has a score of its own
    assert second.metadata["rank"] == 2
    plant = rag.as_langchain_retriever(k=1).invoke("green tea")[0]
    assert plant.metadata["score"] == rag.search("green tea", k=1)[0]["score"] != score
    assert TEXTS[0][plant.metadata["start"] : plant.metadata["end"]] == plant.page_content
    assert rag.as_langchain_retriever(k=1, zero_index_ranks=True).invoke("tea")[0].metadata["rank"] == 0


def test_asynchronously_and_in_batches(rag):
    retriever = rag.as_langchain_retriever(k=2)
    expected = retriever.invoke(QUESTION)
    assert asyncio.run(retriever.ainvoke(QUESTION)) == expected
    assert asyncio.run(retriever.ainvoke(QUESTION, k=1)) == expected[:1]
    assert retriever.batch([QUESTION, "honey"]) == [expected, retriever.invoke("honey")]


def test_restrictions_are_passed_through(rag, retriever):
    only = rag.as_langchain_retriever(doc_ids=["bee"])
    assert {document.metadata["document_id"] for document in only.invoke(QUESTION)} == {"bee"}
    assert {document.metadata["document_id"] for document in only.invoke(QUESTION, ids=["tea"])} == {"tea"}
    assert only.invoke(QUESTION, ids=[]) == []
    bare = LateInteractionRetriever(retriever=retriever, ids=["bee#0"])
    assert [document.id for document in bare.invoke(QUESTION)] == ["bee#0"]


class _Asked:
    """Instead of a retriever: what it was asked."""

    def search(self, *positional, **named):
        self.asked = (positional, named)
        return []


def test_a_filter_is_passed_through():
    asked = _Asked()
    LateInteractionRetriever(retriever=asked, k=3, filter={"year": 2001}).invoke("tea")
    assert asked.asked == (("tea", 3, None), {"filter": {"year": 2001}})
    LateInteractionRetriever(retriever=asked, filter={"year": 2001}).invoke("tea", filter={"lang": "en"})
    assert asked.asked[1] == {"filter": {"lang": "en"}}


def test_settings_are_checked(rag, retriever):
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        LateInteractionRetriever(retriever=retriever, k=0)
    with pytest.raises(ValidationError, match="Extra inputs"):
        LateInteractionRetriever(retriever=retriever, top_k=3)
    with pytest.raises(TypeError, match="top_k"):
        rag.as_langchain_retriever(top_k=3)
    with pytest.raises(TypeError, match="top_k"):
        rag.as_langchain_retriever().invoke("tea", top_k=3)


def test_in_a_chain(rag):
    model = FakeListChatModel(responses=["Whales."])
    prompt = ChatPromptTemplate.from_template("{context}\n{question}")
    seen = []
    chain = (
        {"context": rag.as_langchain_retriever(k=1), "question": RunnablePassthrough()}
        | prompt
        | (lambda given: seen.append(given.to_string()) or given)
        | model
        | StrOutputParser()
    )
    assert chain.invoke(QUESTION) == "Whales."
    assert "Whales have large hearts." in seen[0] and seen[0].endswith(QUESTION)


def test_compress(rag):
    compressor = rag.as_langchain_document_compressor(k=2)
    assert isinstance(compressor, LateInteractionCompressor)
    given = [Document(id=i, page_content=text, metadata={"n": n}) for n, (i, text) in enumerate(zip(IDS, TEXTS, strict=True))]
    before = pickle.dumps(given)
    found = compressor.compress_documents(given, QUESTION)
    assert [document.id for document in found] == [given[each["result_index"]].id for each in rag.rerank(QUESTION, TEXTS, k=2)]
    assert found[0].metadata == {"n": 1, "relevance_score": rag.rerank(QUESTION, TEXTS, k=1)[0]["score"]}
    assert pickle.dumps(given) == before  # those that were given are not changed
    assert len(rag.as_langchain_document_compressor().compress_documents(given, QUESTION)) == 3  # fewer than k
    assert rag.as_langchain_document_compressor().compress_documents([], QUESTION) == []
    assert asyncio.run(compressor.acompress_documents(given, QUESTION)) == found


def test_a_retriever_of_another_index_does_not_become_the_current_one(rag):
    rag.index(TEXTS[:1], IDS[:1], index_name="other")
    other = rag.as_langchain_retriever(index_name="other")
    rag.search("tea", index_name="hashingnew_index")
    assert {document.metadata["document_id"] for document in other.invoke("tea")} == {"tea"}
    assert len(rag.search("tea")) > 2


def test_the_retriever_sees_what_the_index_becomes(rag, tmp_path):
    from colbert_research.encoders import HashingConfig
    from colbert_research.rag import RAGPretrainedModel

    own = RAGPretrainedModel.from_pretrained(HashingConfig(dim=32), index_root=tmp_path)
    own.index(TEXTS[:1], IDS[:1])
    retriever = own.as_langchain_retriever()
    own.index(TEXTS, IDS)
    assert {document.metadata["document_id"] for document in retriever.invoke("tea")} == set(IDS)
