"""The contract of the search axis, filters: every member of STRATEGIES finds what it finds in the subset that one admits."""

import numpy as np
import pytest

from colbert_research.data import Collection
from colbert_research.index import FilterError, build_index
from colbert_research.index.build import BuildConfig
from colbert_research.search import Trace
from tests.contracts.strategy_cases import CASES, CODECS, IDS, N_DOCUMENTS, clustered

METADATA = [{"number": i, "even": i % 2 == 0, **({"third": i / 3} if i % 3 == 0 else {})} for i in range(N_DOCUMENTS)]
# a filter, and who passes it
FILTERS = {
    "few": ({"number": {"$in": [3, 7, 50]}}, lambda i: i in (3, 7, 50)),
    "half": ({"even": True}, lambda i: i % 2 == 0),
    "most": ({"$not": {"$and": [{"even": True}, {"number": {"$lt": 12}}]}}, lambda i: i % 2 or i >= 12),
    "unknown": ({"third": {"$ne": 0}}, lambda i: i % 3 == 0 and i > 0),
}


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """Each codec's index, in several segments; only some of them have a document with the field `third`."""
    folder, names = tmp_path_factory.mktemp("filtered"), [f"d{i}" for i in range(N_DOCUMENTS)]
    collection = Collection.from_texts([f"text {i}" for i in range(N_DOCUMENTS)], ids=names, metadata=METADATA)
    documents = clustered(1, np.random.default_rng(2).integers(1, 30, N_DOCUMENTS))
    several = BuildConfig(segment_tokens=300, chunk_tokens=64)
    return {
        name: build_index(folder / name, collection, documents, codec, seed=5, build=several) for name, codec in CODECS.items()
    }


@pytest.fixture(scope="module")
def queries():
    return clustered(3, [5, 12])


@pytest.mark.parametrize(("strategy", "codec"), CASES, ids=IDS)
@pytest.mark.usefixtures("_device")
def test_a_filter_is_the_subset_that_it_admits(indexes, queries, strategy, codec):
    index = indexes[codec]
    for asked, admits in FILTERS.values():
        subset, by_filter, by_ids = [f"d{i}" for i in range(N_DOCUMENTS) if admits(i)], Trace(), Trace()
        filtered = strategy.search(index, queries, 10, filter=asked, trace=by_filter)
        chosen = strategy.search(index, queries, 10, subset=subset, trace=by_ids)
        assert np.array_equal(filtered.positions, chosen.positions)
        assert np.array_equal(filtered.scores, chosen.scores)
        assert np.array_equal(filtered.offsets, chosen.offsets)
        assert by_filter.work() == by_ids.work(), "the filter comes before the candidates"
        assert {d for q in range(len(queries)) for d, _ in filtered.top(q)} <= set(subset)
    for found in (
        strategy.search(index, queries, 10, filter={"number": {"$in": []}}),
        strategy.search(index, queries, 10, filter={"even": True}, subset=[]),
        strategy.search(index, queries, 10, filter={"even": True}, subset=["d1", "d57"]),
    ):
        assert len(found) == len(queries)
        assert len(found.positions) == 0
    both = strategy.search(index, queries, 10, filter={"even": True}, subset=["d1", "d4", "d8"])
    assert {d for d, _ in both.top(0)} == {"d4", "d8"}
    explained = strategy.explain(index, queries.slice(0, 1), 10, filter={"even": True}, subset=["d1", "d4", "d8"])
    assert explained.documents()["result"] == ["d4", "d8"]
    with pytest.raises(FilterError, match="did you mean 'number'"):
        strategy.search(index, queries, 10, filter={"numbr": 3})
