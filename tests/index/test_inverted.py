"""Inverted lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from colbert_research.index import build_index
from colbert_research.index.inverted import InvertedLists
from colbert_research.ragged import Ragged, offsets_of
from tests.index.conftest import CODECS, SEVERAL


def test_inverted_lists(tmp_path, collection, vectors):
    index = build_index(tmp_path / "i", collection, vectors, CODECS[1], build=SEVERAL)
    for start, segment in zip(index.starts, index.segments, strict=False):
        ids = Ragged(segment.codes["centroid_ids"], segment.offsets)
        for centroid in range(8):
            expected = [d for d in range(len(segment)) if centroid in ids[d]]
            assert segment.inverted.documents_of(np.array([centroid]), len(segment)).tolist() == expected
        both = segment.inverted.documents_of(np.array([1, 5]), len(segment))
        assert both.tolist() == [d for d in range(len(segment)) if {1, 5} & set(ids[d].tolist())]
        assert start >= 0


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=8), st.lists(st.integers(0, 5), max_size=4))
def test_inverted_lists_by_definition(documents, asked):
    ids = Ragged(np.array([c for d in documents for c in d], np.uint16), offsets_of([len(d) for d in documents]))
    lists = InvertedLists.build(ids, 6)
    expected = [[i for i, d in enumerate(documents) if c in d] for c in range(6)]
    assert [lists.documents[low:high].tolist() for low, high in zip(lists.offsets, lists.offsets[1:], strict=False)] == expected
    assert lists.documents_of(np.array(asked, np.int64), len(documents)).tolist() == sorted(
        {i for c in asked for i in expected[c]}
    )
