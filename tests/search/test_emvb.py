"""EMVB: each stage against the same stage by hand, and what its thresholds do."""

import re

import numpy as np
import pytest

from colbert_research.codecs import ResidualConfig
from colbert_research.index import build_index
from colbert_research.index.build import BuildConfig
from colbert_research.kernels.cpu.prepare import decoder_of, worst_error
from colbert_research.search import Emvb, Exhaustive, Plaid, Trace
from tests.search.conftest import DIM, EPS, N

K = 12
ALL = {"ncells": K, "n_filtered": N, "n_exact": N}


@pytest.fixture(scope="module")
def coded(collection, vectors, tmp_path_factory):
    """Residual codes in several segments."""
    build = BuildConfig(segment_tokens=120, chunk_tokens=50)
    return build_index(
        tmp_path_factory.mktemp("emvb") / "index", collection, vectors, ResidualConfig(nbits=4, centroids=K), build=build
    )


def parts(index, query: np.ndarray):
    """Of every document: its centroids; and in float64 its tokens' scores and those of their centroids."""
    decoded = index.vectors_of(index.document_ids)
    ids = decoded.map(lambda _: np.concatenate([segment.codes["centroid_ids"] for segment in index.segments]).astype(int))
    centroid = query.astype(np.float64) @ index.codec.centroids.astype(np.float64).T
    return [(ids[d], query.astype(np.float64) @ decoded[d].astype(np.float64).T, centroid[:, ids[d]]) for d in range(N)]


def tolerance(index, query: np.ndarray) -> float:
    norm = max(1.0, *(float(segment.codes["inverse_norms"].max()) for segment in index.segments))
    return norm * worst_error(query, decoder_of(index.codec.table)) + 2 * EPS * DIM * (1 + len(query))


@pytest.mark.parametrize("limit", [-1e30, 0.2, 0.8, 1e30])
def test_terms_below_the_threshold_do_not_count(coded, queries, limit):
    trace = Trace()
    ranking = Emvb(**ALL, term_threshold={"value": limit}).search(coded, queries, N, trace=trace)
    scored = terms = tokens = 0
    for q, query in enumerate(queries):
        expected = {}
        for document, (_, exact, centroid) in enumerate(parts(coded, query)):
            total = 0.0
            for row, stand_in in zip(exact, centroid, strict=True):
                above = row[stand_in > limit]
                total += above.max() if len(above) else stand_in.max()
            expected[document] = total
            scored, terms = scored + int((centroid > limit).sum()), terms + centroid.size
            tokens += int((centroid > limit).any(axis=0).sum())
        found = {int(document[1:]): score for document, score in ranking.top(q)}
        assert found == pytest.approx(expected, abs=tolerance(coded, query))
    (note,) = trace.notes
    assert [int(number) for number in re.findall(r"\d+", note)[:2]] == [scored, terms]
    assert trace.work()["exact"]["tokens"] == tokens


def test_no_threshold_or_the_lowest_is_maxsim(coded, queries):
    exact = Exhaustive().search(coded, queries, N)
    for threshold in (None, {"value": -1e30}):
        ranking = Emvb(**ALL, term_threshold=threshold).search(coded, queries, N)
        assert np.array_equal(ranking.positions, exact.positions)
        assert np.array_equal(ranking.scores, exact.scores)


@pytest.mark.parametrize("limit", [0.1, 0.4, 1.0])
@pytest.mark.parametrize("size", [5, 20])
def test_documents_that_cover_most_query_tokens_stay(coded, queries, limit, size):
    settings = {"ncells": K, "n_filtered": size, "n_exact": size, "term_threshold": None}
    ranking = Emvb(**settings, bit_threshold={"value": limit}).search(coded, queries, size)
    for q, query in enumerate(queries):
        covered = [int((centroid >= limit).any(axis=1).sum()) for _, _, centroid in parts(coded, query)]
        expected = sorted(range(N), key=lambda d, covered=covered: (-covered[d], d))[:size]
        assert {int(document[1:]) for document, _ in ranking.top(q)} == set(expected)


def test_without_its_own_stages_it_is_plaid(coded, queries):
    emvb = Emvb(ncells=2, n_filtered=N, n_exact=8, term_threshold=None).search(coded, queries, 8)
    plaid = Plaid(ncells=2, ndocs=N, n_exact=8).search(coded, queries, 8)
    assert np.array_equal(emvb.positions, plaid.positions)
    assert np.array_equal(emvb.scores, plaid.scores)


def test_a_quantile_is_of_all_the_querys_centroid_scores(coded, queries):
    query = queries.slice(0, 1)
    scores = query.values @ coded.codec.centroids.T
    value = float(np.sort(scores.ravel())[24:26].mean())  # between two of them: rounding decides nothing
    by_value, by_quantile = (
        Emvb(**ALL, term_threshold=threshold).search(coded, query, N)
        for threshold in ({"value": value}, {"quantile": 24.5 / (scores.size - 1)})
    )
    assert np.array_equal(by_value.scores, by_quantile.scores)


def test_bad_settings(coded, index, queries):
    with pytest.raises(ValueError, match="n_exact=20 is more than the n_filtered=10"):
        Emvb(n_filtered=10, n_exact=20)
    with pytest.raises(ValueError, match="ncells=13, but the index has 12"):
        Emvb(ncells=13).search(coded, queries, 5)
    with pytest.raises(ValueError, match="k=50 results cannot come from n_exact=20"):
        Emvb(ncells=2, n_exact=20).search(coded, queries, 50)
    for call in (lambda: Emvb(ncells=1).search(index, queries, 5), lambda: Emvb().exhaustive_equivalent(index)):
        with pytest.raises(ValueError, match="emvb needs an index whose codec has centroids"):
            call()
