"""Measures by hand, ties, and what counts when nothing was found or judged; alignments sum to MaxSim."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research.evaluation import align, evaluate, mean_measures, overlap, parse_measures
from colbert_research.ranking import Ranking
from colbert_research.settings import ConfigError

# sums and quotients of at most 10 terms in float64, each rounded once, and the hand's own sum as well
TOLERANCE = 20 * float(np.finfo(np.float64).eps)
NAMES = ["nDCG@10", "RR@10", "R@1", "R@3", "P@2", "Success@5", "AP"]


def ranking(scores: dict[str, list[float]], n: int | None = None) -> Ranking:
    """Each query's score of document 0, 1, …"""
    results = [(np.arange(len(s)), np.array(s, np.float32)) for s in scores.values()]
    width = n or max(map(len, scores.values()))
    return Ranking.of(results, query_ids=list(scores), document_ids=[f"d{i}" for i in range(width)])


def values(found: Ranking, qrels, names=NAMES) -> dict[str, float]:
    (query,) = qrels
    table = evaluate(found, qrels, names)
    assert list(table["query_id"]) == [query] * len(names)
    assert list(table["measure"]) == list(names)
    return dict(zip(table["measure"], table["value"], strict=True))


def test_graded_by_hand():
    # order d3 d1 d0 d2 d4; grades 0 2 0 1 -, and a relevant d5 that was not found
    found = ranking({"q": [3, 4, 2, 5, 1]}, n=6)
    got = values(found, {"q": {"d1": 2, "d2": 1, "d5": 3, "d3": 0}})
    gain = 2 / math.log2(3) + 1 / math.log2(5)
    best = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    expected = [gain / best, 1 / 2, 0.0, 1 / 3, 1 / 2, 1.0, (1 / 2 + 2 / 4) / 3]
    assert list(got.values()) == pytest.approx(expected, rel=TOLERANCE, abs=0)


def test_cut_offs_cut():
    found = ranking({"q": [float(-i) for i in range(12)]})
    got = values(found, {"q": {"d10": 1}}, ["nDCG@10", "RR@10", "R@10", "Success@5", "AP", "R@11"])
    assert list(got.values()) == pytest.approx([0, 0, 0, 0, 1 / 11, 1], rel=TOLERANCE, abs=0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=8), st.data())
def test_ties_are_the_ranking_s_for_every_measure(scores, data):
    relevant = data.draw(st.integers(0, len(scores) - 1))
    found = ranking({"q": scores})
    place = 1 + [document for document, _ in found.top(0)].index(f"d{relevant}")
    got = values(found, {"q": {f"d{relevant}": 1}}, ["RR@10", "R@1", "P@1", "Success@1", "AP", "nDCG@10"])
    first = float(place == 1)
    expected = [1 / place, first, first, first, 1 / place, 1 / math.log2(place + 1)]
    assert list(got.values()) == pytest.approx(expected, rel=TOLERANCE, abs=0)


def test_who_counts():
    found = ranking({"judged": [1.0, 2.0], "unjudged": [5.0, 4.0], "empty": []})
    qrels = {"missing": {"d0": 1}, "judged": {"d1": 1}, "empty": {"d1": 1}, "hopeless": {"d0": 0}}
    table = evaluate(found, qrels, ["RR@10", "AP"])
    assert list(table["query_id"].drop_duplicates()) == list(qrels), "rows in the order of qrels; unjudged queries left out"
    rr = table[table["measure"] == "RR@10"]
    assert list(rr["value"]) == [0.0, 1.0, 0.0, 0.0]
    assert mean_measures(table) == {"RR@10": 0.25, "AP": 0.25}


def test_no_query_found_anything():
    got = evaluate(ranking({"a": [], "b": []}, n=1), {"a": {"d0": 1}, "b": {"d0": 1}}, NAMES)
    assert len(got) == 2 * len(NAMES)
    assert (got["value"] == 0).all()


def test_judgements_are_left_as_they_were():
    qrels = {"q": {"d0": 1}}
    evaluate(ranking({"q": [1.0]}), qrels, ["AP"])
    assert qrels == {"q": {"d0": 1}}


@pytest.mark.parametrize("name", ["nope", "nDCG@", "nDCG@ten", "os.system", "", "R@-1x"])
def test_unknown_measures(name):
    with pytest.raises(ConfigError, match="unknown measure"):
        parse_measures(["AP", name])


def test_overlap():
    one, other = ranking({"a": [3, 2, 1], "b": [1, 2, 3]}), ranking({"a": [1, 3, 2], "b": [1, 2, 3]})
    assert overlap(one, other, 1) == 0.5
    assert overlap(one, other, 2) == 0.75
    assert overlap(one, other, 3) == 1.0
    # the reference found one document only, and none for b: b is left out
    assert overlap(one, ranking({"a": [3.0], "b": []}, n=3), 2) == 1.0
    assert overlap(ranking({"a": [], "b": []}, n=3), other, 2) == 0.0
    with pytest.raises(ValueError, match="same queries"):
        overlap(one, ranking({"b": [1.0], "a": [1.0]}), 1)


def test_an_alignment_sums_to_maxsim(rng):
    query, document = rng.standard_normal((3, 8)).astype(np.float32), rng.standard_normal((5, 8)).astype(np.float32)
    table = align(query, document, query_tokens=list("abc"), document_tokens=list("vwxyz"))
    exact = query.astype(np.float64) @ document.T.astype(np.float64)
    assert list(table["position"]) == exact.argmax(axis=1).tolist()
    assert list(table["document_token"]) == ["vwxyz"[i] for i in exact.argmax(axis=1)]
    # a product of 8 terms errs by at most 8 * eps * |q| |d|, and the maximum by no more
    norms = np.linalg.norm(query, axis=1) * np.linalg.norm(document, axis=1).max()
    assert (np.abs(table["similarity"] - exact.max(axis=1)) <= 8 * np.finfo(np.float32).eps * norms).all()


def every_measure() -> list[str]:
    import ir_measures

    names = sorted(ir_measures.measures.registry)
    return [f"{name}{shape}" for name in names for shape in ("", "@10", "(rel=0)@5", "(max_rel=2)@5")]


def test_every_measure_is_refused_at_the_start_or_computed_at_the_end(capfd):
    """Of 69, 28 passed the check of the config and failed after all the computing."""
    found = ranking({"q1": [3.0, 2.0, 1.0], "q2": []}, n=5)
    judged = {"q1": {"d1": 1, "d4": 2}, "q2": {"d0": 2}, "q3": {"d0": 1}}
    computed = []
    for name in every_measure():
        try:
            parse_measures([name])
        except ConfigError as error:
            assert name in str(error) and "<object" not in str(error)
            continue
        values = evaluate(found, judged, [name])["value"]
        assert np.isfinite(values).all() and len(values) == 3, name
        computed.append(name)
    assert {"nDCG@10", "R@10", "RR@10", "AP", "P@10", "Success@10", "Judged@10"} <= set(computed)


def test_a_query_with_results_and_no_value_is_an_error(monkeypatch):
    import ir_measures

    found = ranking({"q1": [3.0], "q2": [2.0]}, n=5)
    judged = {"q1": {"d0": 1}, "q2": {"d0": 1}}
    real = ir_measures.iter_calc
    parse_measures(["nDCG@10"])
    monkeypatch.setattr(ir_measures, "iter_calc", lambda *given: [m for m in real(*given) if m.query_id == "q1"])
    with pytest.raises(ValueError, match=r"nDCG@10 of query 'q2', which found 1 documents, has no value"):
        evaluate(found, judged, ["nDCG@10"])
    monkeypatch.setattr(ir_measures, "iter_calc", lambda *given: [m._replace(value=float("nan")) for m in real(*given)])
    with pytest.raises(ValueError, match="has no value: given nan"):
        evaluate(found, judged, ["nDCG@10"])


@pytest.mark.parametrize("length", [40, 41, 300])
def test_a_plot_shows_no_more_tokens_than_can_be_read(rng, length):
    from colbert_research.evaluation import plot_alignment
    from colbert_research.evaluation.alignment import MOST_TOKENS

    query, document = rng.standard_normal((5, 8)).astype(np.float32), rng.standard_normal((length, 8)).astype(np.float32)
    names = [f"t{i}" for i in range(length)]
    axes = plot_alignment(query, document, query_tokens=list("abcde"), document_tokens=names).axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    matched = (query.astype(np.float64) @ document.T).argmax(axis=1)
    assert shown == (names if length <= MOST_TOKENS else [names[i] for i in sorted(set(matched.tolist()))])
    rings = axes.collections[0].get_offsets()
    assert [shown[int(y)] for _, y in rings] == [names[i] for i in matched]
    assert [int(x) for x, _ in rings] == [*range(5)]
    assert axes.figure.get_size_inches()[0] <= 3.8, "what a phone shows"


def test_a_plot_of_texts_with_dollar_signs(tmp_path):
    """They were taken for mathematics, which `$\\frac$` is not."""
    from colbert_research.evaluation import plot_alignment

    tokens = [r"$\frac$", "$", "x"]
    figure = plot_alignment(np.eye(3), np.eye(3), query_tokens=tokens, document_tokens=tokens, title=r"cost $\frac$ of it")
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
