"""The table of similarities: every value can be pointed at, long documents are cut to windows, and tokens are no markup."""

from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from colbert_research.evaluation import token_map
from colbert_research.evaluation.alignment import MOST_TOKENS
from colbert_research.evaluation.token_map import AROUND


class Table(HTMLParser):
    """Titles and matched cells row by row, names of rows and columns, and the tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.titles: list[list[str]] = []
        self.names: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not any(name.startswith("on") or name in ("href", "src") for name, _ in attrs)
        if tag == "tr":
            self.titles.append([])
        if tag == "td" and "title" in dict(attrs):
            self.titles[-1].append(dict(attrs)["title"])
            assert ("outline" in dict(attrs)["style"]) == dict(attrs)["title"].endswith("the best match")

    def handle_data(self, data):
        self.names.append(data)


def test_every_value_can_be_pointed_at():
    query = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    document = np.array([[0.8, 0.6], [0, 1]], np.float32)
    found = token_map(query, document, query_tokens=["a", "b", "<c>"], document_tokens=["<script>", "&amp;"], title="<i>d1")
    assert found.score == pytest.approx(0.8 + 1 + 0.96)
    html = found._repr_html_()
    table = Table(html)
    assert table.titles[1:] == [
        [
            "a · <script> (token 0): 0.800, the best match",
            "b · <script> (token 0): 0.600",
            "<c> · <script> (token 0): 0.960, the best match",
        ],
        ["a · &amp; (token 1): 0.000", "b · &amp; (token 1): 1.000, the best match", "<c> · &amp; (token 1): 0.800"],
    ]
    assert table.tags == {"div", "b", "table", "tr", "th", "td"}, "tokens and titles are text"
    assert {"a", "b", "<c>", "<script>", "&amp;"} <= {*table.names}
    assert repr(found) == "TokenMap(3 query tokens, 2 of 2 document tokens, MaxSim 2.76, <i>d1)"


@pytest.mark.parametrize("places", [(0, 3, 150), (199,), (100, 104, 105)])
def test_of_a_long_document_the_windows_around_its_matches_are_shown(places):
    n = 5 * MOST_TOKENS
    document = np.eye(n, dtype=np.float32)
    names = [f"t{i}" for i in range(n)]
    found = token_map(document[list(places)], document, query_tokens=["q"] * len(places), document_tokens=names)
    near = sorted({p + d for p in places for d in range(-AROUND, AROUND + 1) if 0 <= p + d < n})
    assert found.shown.tolist() == near
    table = Table(found._repr_html_())
    rows = [row[0].split()[2] if row else "…" for row in table.titles[1:]]
    assert [row for row in rows if row != "…"] == [f"t{i}" for i in near]
    gaps = (near[0] > 0) + sum(b > a + 1 for a, b in pairwise(near)) + (near[-1] < n - 1)
    assert rows.count("…") == gaps
    assert f"({len(near)} of {n} document tokens: those near a match)" in "".join(table.names)


def test_names_that_do_not_fit():
    with pytest.raises(ValueError, match="given 2 and 3 vectors, 2 and 2 names"):
        token_map(np.eye(3)[:2], np.eye(3), query_tokens="ab", document_tokens="ab")
