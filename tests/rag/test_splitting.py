"""How documents become passages: cut, split by functions of one's own, preprocessed."""

import logging

import pytest

from tests.rag.conftest import IDS, TEXTS


def test_long_documents_that_are_not_split_are_cut_with_a_warning(rag, caplog):
    with caplog.at_level(logging.WARNING, "colbert_research"):
        rag.index([*TEXTS, "Tea."], max_document_length=12, split_documents=False)
    assert len(rag.retriever.index) == 4
    assert "3 of 4 texts are longer than the 12 word pieces that the encoder takes of a document" in caplog.text
    caplog.clear()
    rag.index(TEXTS, max_document_length=12)
    rag.search("tea")
    assert not caplog.text
    with caplog.at_level(logging.WARNING, "colbert_research"):
        rag.search("tea " * 50)
    assert "1 of 1 texts are longer than the 48 word pieces that the encoder takes of a query" in caplog.text


def of_ragatouille(documents, document_ids, chunk_size=256):
    """A splitter in its manner."""
    pairs = zip(document_ids, documents, strict=True)
    return [{"document_id": i, "content": part.strip()} for i, text in pairs for part in text[: chunk_size * 100].split(". ")]


class OfLangChain:
    def split_text(self, text):
        return text.split(". ")


@pytest.mark.parametrize("splitter", [of_ragatouille, OfLangChain(), lambda text: text.split(". ")])
def test_splitters_of_ones_own(rag, splitter):
    rag.index(TEXTS, IDS, document_splitter_fn=splitter)
    found = rag.search("queen in a hive", k=1)[0]
    assert found["content"] == "Bees live in a hive with a queen, and they dance to show where flowers are."
    (hit,) = rag.retriever.search("queen in a hive", 1)
    assert TEXTS[2][hit.metadata["_start"] : hit.metadata["_end"]] == hit.text


def test_splitters_of_langchain(rag):
    splitters = pytest.importorskip("langchain_text_splitters")
    rag.index(TEXTS, IDS, document_splitter_fn=splitters.RecursiveCharacterTextSplitter(chunk_size=40, chunk_overlap=10))
    documents = rag.retriever.index.documents(rag.retriever.index.document_ids)
    assert len(documents) > 6
    for document in documents:
        text = TEXTS[IDS.index(document.id.partition("#")[0])]
        assert text[document.metadata["_start"] : document.metadata["_end"]] == document.text


def test_passages_are_preprocessed(rag):
    def lower(passages, document_ids):
        assert document_ids == IDS
        return [{**each, "content": each["content"].lower()} for each in passages]

    def without_krill(passages, document_ids):
        return [each for each in passages if "krill" not in each["content"]]

    rag.index(TEXTS, IDS, max_document_length=12, preprocessing_fn=[lower, without_krill])
    texts = [hit.text for hit in rag.retriever.search("whales eat krill", 100)]
    assert texts and all(text == text.lower() and "krill" not in text for text in texts)
    by_place = {hit.metadata["_start"] is None for hit in rag.retriever.search("whales", 100)}
    assert by_place == {True, False}  # what was changed is not in the document any more
