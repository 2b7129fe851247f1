"""A document with its matched tokens marked: where tokens stand in a text, what is shown of it, and that it is safe to show."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from colbert_research.evaluation import mark
from colbert_research.evaluation.marked import AROUND, LONG
from colbert_research.evaluation.spans import spans_of

TEXT = "Nausicaä of the Valley: ﬁlm “Über-cool” 東京 straße don't 🦊 fox"


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ("[CLS] nausica ##a of the valley : film “ uber - cool ” 東 京 strasse don ' t [UNK] fox [SEP]", None),
        ("<s> ▁Naus ica ä ▁of ▁the ▁Valley : ▁film ▁ fox </s>", None),
        ("[CLS] N aus ica Ã¤ Ġof Ġthe ĠValley : Ġ ðŁ ¦ Ĭ Ġfox", None),
        ("nausicaä valley film fox", ["Nausicaä", "Valley", "ﬁlm", "fox"]),
        ("valley of the", ["Valley", None, None]),
        ("", []),
    ],
)
def test_tokens_are_found_in_their_text(tokens, expected):
    tokens = tokens.split()
    found = [TEXT[span[0] : span[1]] if span else None for span in spans_of(tokens, TEXT)]
    if expected is not None:
        assert found == expected
        return
    for token, piece in zip(tokens, found, strict=True):
        assert (piece is None) == (token in ("[CLS]", "[SEP]", "[UNK]", "<s>", "</s>", "▁", "Ġ", "ðŁ", "¦", "Ĭ")), token
    joined = "".join(piece for piece in found if piece)
    assert "NausicaäoftheValley" in joined and joined.endswith("fox")


def test_spans_ascend_and_do_not_overlap():
    tokens = ["a", "b", "a", "a", "c"]
    spans = spans_of(tokens, "A b, a; a C")
    assert spans == [(0, 1), (2, 3), (5, 6), (8, 9), (10, 11)]
    assert spans_of(["a", "z"], "a" + " x" * 200 + " z")[1] is None, "too far to be the token that follows"


def marked(text: str, tokens: list[str], answers: dict[int, float], **given):
    """Query token `q0`, `q1`, … is matched with the document token at each position, as similar as said."""
    document = np.eye(len(tokens), dtype=np.float32)
    query = np.array([similarity * document[place] for place, similarity in answers.items()], np.float32)
    names = [f"q{i}" for i in range(len(answers))]
    return mark(query, document, query_tokens=names, document_tokens=tokens, text=text, **given)


class Text(HTMLParser):
    """What a browser shows of some HTML, and the tags in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.shown = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not any(name.startswith("on") or name in ("href", "src") for name, _ in attrs)

    def handle_data(self, data):
        self.shown += data


def test_marks_numbers_and_scores():
    found = marked("Big Miyazaki films.", ["[CLS]", "big", "mi", "##yazaki", "films"], {0: 0.5, 3: 0.75, 2: 0.25, 1: 1.0})
    assert found.score == pytest.approx(2.5)
    assert [(p.text, p.answers) for p in found.pieces() if p.answers] == [
        ("[CLS]", (1,)),
        ("Big", (4,)),
        ("Mi", (3,)),
        ("yazaki", (2,)),
    ]
    assert found.rest == "."
    html = Text(found._repr_html_())
    assert "MaxSim 2.50" in html.shown
    assert "Big4 Miyazaki2,3 films." in html.shown, "the pieces of a word share its numbers"
    assert "2 q1 → ##yazaki 0.75" in html.shown
    assert "script" not in html.tags
    shades = [float(a) for a in re.findall(r"rgba\(255,149,0,([\d.]+)\)", found._repr_html_())][:4]
    assert shades[1] > shades[3] > shades[0] > shades[2], "the more similar, the deeper"
    plain = repr(found)
    assert "MaxSim 2.50" in plain and "[Big 4] [Miyazaki 2,3] films" in plain
    assert re.search(r"2 q1\s+0\.75\s+##yazaki", plain)


def test_what_a_document_says_is_text():
    text, tokens = '<b onclick="x">$x$ & <script>', ["<", "b", "$", "x", "$", "&", "<", "script", ">"]
    found = marked(text, tokens, {1: 0.9, 5: 0.8, 7: 0.7}, query_text="<i>why</i>", title="<u>d1</u>")
    html = found._repr_html_()
    for raw in ("<script", "<b ", "<i>why", "<u>d1"):
        assert raw not in html
    shown = re.sub(r"\d", "", Text(html).shown)
    assert '<b onclick="x">$x$ & <script>' in shown and "<i>why</i>" in shown
    assert 'class="tex2jax_ignore mathjax_ignore"' in html, "dollar signs are no formula"


def test_what_the_encoder_cut_off_is_faint():
    found = marked("one two three four", ["one", "two"], {1: 1.0})
    assert found.rest == " three four"
    assert '<span style="opacity:.6"> three four<small> (not in the index)</small></span>' in found._repr_html_()
    assert "one [two 1] three four (not in the index)" in repr(found)
    assert "not in" not in repr(marked("one two.", ["one", "two"], {1: 1.0})), "a full stop is no loss"


def test_of_a_long_text_the_surroundings_of_the_marks_are_shown():
    words = [f"w{i}" for i in range(2000)]
    text = " ".join(words)
    found = marked(text, words, {3: 0.9, 1000: 0.8, 1001: 0.7})
    shown = Text(found._repr_html_()).shown
    assert len(text) > LONG and len(shown) < 8 * AROUND
    assert "w2 w31 w4" in shown and "w999 w10002 w10013 w1002" in shown and shown.count("[…]") == 2
    assert max(map(len, repr(found).splitlines())) <= 100
    whole = marked("w " * 300 + "x", ["w"] * 300 + ["x"], {300: 1.0})
    assert "[…]" not in whole._repr_html_()


def test_nothing_matches_well_and_nothing_is_in_the_text():
    found = marked("word", ["#1", "#2"], {0: -0.5, 1: 0.5})
    assert found.rest == "word"
    assert "#2" in Text(found._repr_html_()).shown
