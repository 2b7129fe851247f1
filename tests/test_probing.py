"""What a query's tokens find among the centroids, and what one setting of a search does to it, against counting by hand."""

from collections import Counter

import numpy as np
import pytest

from colbert_research.codecs import ResidualConfig
from colbert_research.config import Threshold
from colbert_research.data import Collection
from colbert_research.evaluation.probing import probe
from colbert_research.evaluation.varied import vary
from colbert_research.index import build_index
from colbert_research.index.build import BuildConfig
from colbert_research.search import Exhaustive, Plaid, Queries
from colbert_research.settings import ConfigError
from tests.conftest import random_ragged

N, DIM, K = 40, 16, 8


@pytest.fixture(scope="module", params=[None, BuildConfig(segment_tokens=100, chunk_tokens=32)], ids=["one", "several"])
def index(request, tmp_path_factory):
    vectors = random_ragged(np.random.default_rng(2), [8] * N, DIM)
    collection = Collection.from_texts([f"text {i}" for i in range(N)], ids=[f"d{i}" for i in range(N)])
    codec = ResidualConfig(nbits=4, centroids=K)
    return build_index(tmp_path_factory.mktemp("probing") / "index", collection, vectors, codec, build=request.param)


@pytest.fixture(scope="module")
def query():
    return random_ragged(np.random.default_rng(3), [3], DIM)


def test_cells_are_those_that_plaid_opens(index, query):
    token_ids = np.random.default_rng(4).integers(0, 5, index.n_tokens).astype(np.int32)
    names = {i: f"token{i}" for i in range(5)}
    found = probe(
        index,
        query[0],
        2,
        query_tokens=list("abc"),
        token_ids=token_ids,
        names=lambda ids: [names[i] for i in ids.tolist()],
        threshold=Threshold(quantile=0.5),
    )
    exact = query[0].astype(np.float64) @ index.codec.centroids.T.astype(np.float64)
    assert np.abs(found.scores - exact).max() <= DIM * np.finfo(np.float32).eps
    nearest = np.argsort(-exact, axis=1)[:, :2]
    assert found.probed.tolist() == nearest.tolist()
    centroid_of = np.concatenate([segment.centroid_ids.values for segment in index.segments])
    document_of = np.repeat(np.arange(N), 8)
    for cell in np.unique(nearest).tolist():
        inside = centroid_of == cell
        counted = Counter(token_ids[inside].tolist())
        most_frequent = sorted(counted, key=lambda i: (-counted[i], i))[:3]
        expected = (int(inside.sum()), len(set(document_of[inside].tolist())), tuple(names[i] for i in most_frequent))
        assert found.cells[cell] == expected
    assert found.threshold == pytest.approx(float(np.quantile(exact.max(axis=0), 0.5)))
    table = found.table()
    assert list(table.index) == [(1, "a"), (1, "a"), (2, "b"), (2, "b"), (3, "c"), (3, "c")]
    assert table["cell"].tolist() == nearest.ravel().tolist()
    figure = found.plot()
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] <= 3.8
    shown = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    reached = int(np.sum(exact.max(axis=0) >= found.threshold))
    assert f"all {K} centroids" in shown and any(text.endswith(f"reached by {reached}") for text in shown)
    explained = Plaid(ncells=2, ndocs=40, n_exact=40).explain(index, query, 5)
    assert len(explained.steps[0]) == len(set(document_of[np.isin(centroid_of, nearest)].tolist()))


def test_one_setting_up_and_down(index, query):
    plaid = Plaid(ncells=2, ndocs=20, n_exact=10)
    asked = Queries(query, ("q",))
    best = [document for document, _ in Exhaustive().search(index, query, 10).top(0)]
    table = vary(plaid, "ncells", [1, 2, 8], index, asked, 10, documents=best[:1], repeats=1)
    assert list(table.columns) == [1, 2, 8, "exhaustive"] and table.columns.name == "ncells"
    assert list(table.index) == ["candidates", "interaction", "exact", f"rank of {best[0]}", "overlap@10", "ms"]
    assert table["exhaustive"].tolist()[:5] == ["-", "-", N, 1, 1.0]
    assert (table.loc["ms"] >= 0).all()
    for ncells in (1, 2, 8):
        own = plaid.model_copy(update={"ncells": ncells})
        explained, column = own.explain(index, query, 10), table[ncells]
        for step in explained.steps[:-1]:
            assert column[step.stage] == len(step)
        found = [document for document, _ in own.search(index, query, 10).top(0)]
        assert column["overlap@10"] == pytest.approx(len(set(found) & set(best)) / 10)
        assert column[f"rank of {best[0]}"] == (1 + found.index(best[0]) if best[0] in found else "-")
    assert all(isinstance(count, int) for count in table.loc["exact"])
    assert table.loc["candidates", 1] < table.loc["candidates", 8] == N


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("ncell", 1, "unknown key 'ncell', did you mean 'ncells'"),
        ("ncells", "many", "ncells='many': ncells: .*valid integer"),
        ("n_exact", 21, "n_exact=21 is more than the ndocs=20"),
        ("ncells", 9, "ncells=9, but the index has 8 centroids; lower search.ncells to at most 8"),
        ("n_exact", 5, "k=10 results cannot come from n_exact=5 documents"),
    ],
)
def test_a_setting_that_it_does_not_have(index, query, setting, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        vary(Plaid(ncells=2, ndocs=20, n_exact=10), setting, [value], index, Queries(query, ("q",)), 10)
    assert isinstance(caught.value, ConfigError) or value in (9, 5)
