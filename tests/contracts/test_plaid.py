"""PLAID stage by stage: each looks at what the one before it left."""

import numpy as np
import pytest

from colbert_research.search import Plaid, Trace
from tests.contracts.strategy_cases import N_DOCUMENTS


@pytest.mark.parametrize("parts", ["one", "several"])
def test_each_stage_looks_at_what_the_one_before_it_left(indexes, queries, parts):
    """The candidates by hand, then the best of each stage's own scores, as many as its setting says."""
    index, threshold = indexes["residual-4", parts], {"quantile": 0.5}
    plaid = Plaid(ncells=2, ndocs=16, n_exact=8, centroid_score_threshold=threshold)
    query = queries.slice(3, 4)
    trace = Trace()
    ranking = plaid.search(index, query, 5, trace=trace)
    explained = plaid.explain(index, query, 5)
    names = ["candidates", "pruned interaction", "interaction", "exact", "result"]
    assert [step.stage for step in explained.steps] == names
    cells = set(np.argsort(-(query[0] @ index.codec.centroids.T), axis=1, kind="stable")[:, :2].ravel().tolist())
    ids = [set(each.tolist()) for segment in index.segments for each in segment.centroid_ids]
    candidates, *later = explained.steps
    assert candidates.positions.tolist() == [i for i, own in enumerate(ids) if own & cells]
    assert later[0].positions.tolist() == candidates.positions.tolist()
    for before, after, size in zip(later, later[1:], (16, 8, 5), strict=False):
        best = sorted(before.positions.tolist(), key=before.rank)[:size]
        assert after.positions.tolist() == sorted(best)
    assert set(ranking.positions) <= set.intersection(*(set(step.positions.tolist()) for step in explained.steps))
    assert [len(step) for step in later[:-1]] == [trace.work()[name]["documents"] for name in names[1:-1]]


def test_where_a_document_was_lost(indexes, queries):
    index = indexes["residual-4", "one"]
    explained = Plaid(ncells=1, ndocs=16, n_exact=8).explain(index, queries.slice(1, 2), 5)
    candidates, interaction, *_ = explained.steps
    last = max(interaction.positions.tolist(), key=interaction.rank)
    never = next(i for i in range(N_DOCUMENTS) if i not in candidates)
    table = explained.table(f"d{last}", f"d{never}")
    assert table[f"rank of d{last}"].tolist() == ["in", len(interaction), "-", "-"]
    assert table[f"rank of d{never}"].tolist() == ["-"] * 4
    assert f"d{last}" in explained.documents()["interaction"]
    with pytest.raises(ValueError, match=r"no document 'nowhere' in the index; its ids are like 'd0'"):
        explained.table("d1", "nowhere")
    with pytest.raises(ValueError, match="one query is explained at a time; given 4"):
        Plaid(ncells=2, ndocs=16, n_exact=8).explain(index, queries, 5)


def test_it_prunes(indexes, queries):
    index = indexes["residual-4", "one"]
    narrow, wide = Trace(), Trace()
    Plaid(ncells=1, ndocs=12, n_exact=10).search(index, queries, 10, trace=narrow)
    Plaid(ncells=16, ndocs=60, n_exact=60).search(index, queries, 10, trace=wide)
    assert narrow.work()["exact"]["documents"] == 10 * len(queries)
    assert narrow.work()["exact"]["tokens"] < wide.work()["exact"]["tokens"]


def test_the_threshold_leaves_tokens_out(indexes, queries):
    index = indexes["residual-4", "one"]
    everything = {"quantile": 0.0}
    settings = {"ncells": 16, "ndocs": 30, "n_exact": 30}
    plain = Plaid(**settings).search(index, queries, 10)
    same = Plaid(**settings, centroid_score_threshold=everything).search(index, queries, 10)
    assert np.array_equal(plain.positions, same.positions)
    pruned = Plaid(**settings, centroid_score_threshold={"quantile": 1.0})
    trace = Trace()
    pruned.search(index, queries, 10, trace=trace)
    assert "pruned interaction" in trace.work()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ndocs": 10, "n_exact": 20}, "n_exact=20 is more than the ndocs=10"),
        ({"ncells": 0}, "greater than or equal to 1"),
        ({"centroid_score_threshold": {"value": 0.4, "quantile": 0.5}}, "either a value or a quantile"),
        ({"centroid_score_threshold": {"quantile": 1.5}}, "less than or equal to 1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Plaid(**settings)


def test_settings_that_cannot_serve_the_index(indexes, queries):
    with pytest.raises(ValueError, match="needs an index whose codec has centroids"):
        Plaid().search(indexes["exact", "one"], queries, 5)
    with pytest.raises(ValueError, match="ncells=17, but the index has 16"):
        Plaid(ncells=17).search(indexes["residual-4", "one"], queries, 5)
    with pytest.raises(ValueError, match="k=50 results cannot come from n_exact=20"):
        Plaid(ncells=2, ndocs=20, n_exact=20).search(indexes["residual-4", "one"], queries, 50)
