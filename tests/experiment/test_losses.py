"""What an experiment's search loses against an exact ranking, over all its queries."""

import pytest

from colbert_research.experiment.losses import COLUMNS, losses_of
from colbert_research.settings import ConfigError
from tests.experiment.small import make


def test_over_all_queries(cache, folder):
    exact = make(cache, folder, "codec.kind=exact search.kind=exhaustive")
    same = losses_of(exact, exact.ranking)
    assert same.words() == f"of {len(same)} documents, 0 were lost"
    assert len(same) == 12, "four relevant documents of each of three queries"
    assert len(same.table()) == 0
    assert set(same.table(lost=False)["cause"]) == {"found"}
    narrow = make(cache, folder, "search.ncells=1 search.ndocs=2 search.n_exact=2 k=2 measures=[RR@2]")
    found = losses_of(narrow, exact.ranking, k=2)
    table = found.table(lost=False)
    assert list(table.columns) == [*COLUMNS.values()]
    assert (table["grade"] == 1).all()
    assert (table["rank, exact"] <= 2).all()
    ranked = {q: {d for d, _ in narrow.ranking.top(i)} for i, q in enumerate(narrow.collection.query_ids)}
    for row in table.itertuples():
        assert (row.document_id in ranked[row.query_id]) == (row.cause == "found")
    assert len(losses_of(narrow, exact.ranking, k=2, judged=False, queries=1)) == 2


def test_what_does_not_fit(cache, folder, tmp_path):
    made = make(cache, folder)
    with pytest.raises(ConfigError, match="k=11 documents of exact search cannot be found among k=10"):
        losses_of(made, made.ranking, k=11)
    with pytest.raises(ConfigError, match="the exact ranking is of other queries"):
        losses_of(made, made.ranking.take([0, 1]))
