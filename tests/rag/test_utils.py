"""Pages to try things on."""

import pytest

from colbert_research.rag import get_wikipedia_page, utils
from colbert_research.rag.utils import demo_pages
from tests.rag.pages import served


def test_a_page_is_fetched_by_its_title(monkeypatch):
    with served({"Hayao_Miyazaki": "宮崎 駿 is a director."}) as (address, asked):
        monkeypatch.setattr(utils, "WIKIPEDIA", address)
        assert get_wikipedia_page("Hayao_Miyazaki") == "宮崎 駿 is a director."
        assert asked[0]["titles"] == "Hayao_Miyazaki"
        assert asked[0].keys() >= {"explaintext", "redirects"}
        assert "colbert_research" in asked[0]["agent"]
        with pytest.raises(LookupError, match=r"no page 'Nowhere'; titles are written as in its address"):
            get_wikipedia_page("Nowhere")
        with pytest.raises(ConnectionError, match=r"'Broken' could not be fetched \(JSONDecodeError"):
            get_wikipedia_page("Broken")


def test_without_a_network(monkeypatch):
    with served({}) as (address, _):
        pass  # nobody listens there any more
    monkeypatch.setattr(utils, "WIKIPEDIA", address)
    with pytest.raises(ConnectionError, match=r"A network is needed; any text will do as well, such as pathlib"):
        get_wikipedia_page("Hayao_Miyazaki")


def test_demonstration_pages(tmp_path):
    bundled = demo_pages()
    assert list(bundled) == ["Hayao Miyazaki", "Studio Ghibli"]
    assert "founded Studio Ghibli" in bundled["Hayao Miyazaki"]
    with pytest.raises(FileNotFoundError, match=r"no \*\.txt in"):
        demo_pages(str(tmp_path))
    (tmp_path / "b.txt").write_text("two")
    (tmp_path / "a.txt").write_text("one")
    assert list(demo_pages(str(tmp_path)).items()) == [("a", "one"), ("b", "two")]
    (tmp_path / "c_wikipedia.txt").write_text("three")
    assert demo_pages(str(tmp_path)) == {"c": "three"}
