"""What the front door refuses before anything is encoded, and that it stays where it was made."""

import pytest

from colbert_research.encoders import TextPipeline
from colbert_research.rag import RAGPretrainedModel
from tests.rag.conftest import ENCODER, IDS, TEXTS, ids_of


@pytest.mark.parametrize("given", [{"tea": "Green tea"}, {"Green tea"}, None, 5, b"tea", "tea"], ids=repr)
def test_what_is_no_list_of_texts_is_refused(rag, given):
    with pytest.raises(TypeError, match="expected a list of texts"):
        rag.index(given)
    if not isinstance(given, str):
        rag.index(TEXTS, IDS)
        with pytest.raises(TypeError, match="expected a list of texts"):
            rag.search(given)


@pytest.mark.parametrize("blank", ["", " \n", "\x00", "\ufeff", "\u200b"], ids=ascii)
def test_what_nobody_sees_is_no_document_and_no_query(rag, blank):
    for door in (lambda: rag.index([blank]), lambda: rag.encode(["tea", blank]), lambda: rag.rerank("tea", ["tea", blank])):
        with pytest.raises(ValueError, match=r"document \d is blank"):
            door()
    rag.index(TEXTS, IDS)
    with pytest.raises(ValueError, match="a query needs at least one word"):
        rag.search(blank)


def test_a_mistaken_codec_or_name_is_refused_before_anything_is_encoded(rag, monkeypatch):
    monkeypatch.setattr(TextPipeline, "documents", lambda *_: pytest.fail("it was encoded"))
    with pytest.raises(TypeError, match="codec is a codec's config"):
        rag.index(TEXTS, IDS, codec="residual")
    with pytest.raises(ValueError, match="an index name is the name of a folder"):
        rag.index(TEXTS, IDS, index_name="")
    for path in (None, 5, ""):
        with pytest.raises(TypeError, match="expected the path of an index"):
            RAGPretrainedModel.from_index(path)


def test_the_working_folder_may_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rag = RAGPretrainedModel.from_pretrained(ENCODER, index_root="here")
    rag.index(TEXTS[:2], IDS[:2], index_name="things")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    rag.add_to_index(TEXTS[2:], IDS[2:])
    assert set(ids_of(rag.search("honey", k=100))) == set(IDS)


def test_a_mistyped_name_names_its_neighbours(rag):
    rag.index(TEXTS, IDS, index_name="teas")
    with pytest.raises(FileNotFoundError, match=r"there is no index 'tea' in .*; did you mean 'teas'\? Valid: teas"):
        rag.search("tea", index_name="tea")
    with pytest.raises(FileNotFoundError, match="did you mean 'teas'"):
        RAGPretrainedModel.from_index(rag.folder / "tees")
    assert ids_of(rag.search("green", k=1)), "the index of before is still the one that is meant"
