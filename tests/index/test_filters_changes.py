"""Filters of an index that changes: only live documents are admitted, by the metadata that they have now."""

import random

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.index import FilterError, Index, build_index
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import Exhaustive
from tests.index.filter_oracle import InvalidError, admitted
from tests.index.test_filters_fuzz import TYPED, condition, drawn

DIM = 8


def given(ids: list[str], metadata) -> tuple[Collection, Ragged]:
    vectors = Ragged(np.eye(DIM, dtype=np.float32)[[int(each[1:]) % DIM for each in ids]], offsets_of([1] * len(ids)))
    return Collection.from_texts(["a text"] * len(ids), ids=ids, metadata=metadata), vectors


def some(rng: random.Random, n: int) -> list[dict]:
    """Metadata of the fields that have one type."""
    found = [document.metadata for seed in rng.sample(range(500), n) for document in drawn(seed)[0][:1]]
    return [{name: value for name, value in each.items() if name in TYPED} for each in found]


@pytest.mark.slow
def test_any_changes(tmp_path):
    """What a filter admits, and the search behind it finds, is what plain Python says of the live documents."""
    rng, numbers, tried = random.Random(3), iter(range(1000)), 0
    first = [f"d{next(numbers)}" for _ in range(6)]
    index = build_index(tmp_path / "i", *given(first, some(rng, 6)), ExactConfig())
    for step in range(24):
        ids = [*index.document_ids]
        change = rng.choice(["add", "add", "delete", "update", "compact"]) if step else "add"
        if change == "add":
            new = [f"d{next(numbers)}" for _ in range(rng.randint(1, 4))]
            index = index.add(*given(new, some(rng, len(new))))
        elif change == "delete":
            index = index.delete(rng.sample(ids, min(2, len(ids) - 1)))
        elif change == "update":
            changed = rng.sample(ids, min(2, len(ids)))
            index = index.update(*given(changed, some(rng, len(changed))))
        else:
            index = index.compact()
        opened = Index.open(index.path) if step % 3 == 0 else index
        live = opened.documents(opened.document_ids)
        for _ in range(12):
            asked = condition(rng)
            try:
                expected = {live[i].id for i in admitted(asked, live)}
                scope = opened.scope(filter=asked)
            except (InvalidError, FilterError):
                continue
            tried += 1
            assert {opened.ids_by_position[position] for position in scope.positions} == expected, (change, asked)
            found = Exhaustive().search(opened, Ragged(np.eye(DIM, dtype=np.float32)[:2], offsets_of([2])), 1000, filter=asked)
            assert {document for document, _ in found.top(0)} == expected
    assert tried > 100


def test_a_document_without_metadata_of_one_type_is_mended(tmp_path):
    """An update gives the field one type; the index forgets the other when it is compacted."""
    index = build_index(tmp_path / "i", *given(["d0", "d1"], [{"year": 1990}, {"year": "1991"}]), ExactConfig())
    index = index.update(*given(["d1"], [{"year": 1991}]))
    with pytest.raises(
        FilterError, match=r"it holds an integer \(document 'd0'\) and a string \(document 'd1'\).*compact the index"
    ):
        index.scope(filter={"year": {"$gt": 1990}})
    index = index.compact()
    assert [index.ids_by_position[i] for i in index.scope(filter={"year": {"$gt": 1990}}).positions] == ["d1"]
    index = index.delete(["d1"])
    assert index.scope(filter={"year": {"$gt": 1990}}).size == 0
