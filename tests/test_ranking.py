"""Ragged arrays, rankings and measures: the values that everything else passes around."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_research.evaluation import evaluate, mean_measures, overlap
from colbert_research.ragged import NpyWriter, Ragged
from colbert_research.ranking import Ranking
from colbert_research.settings import ConfigError

ITEMS = st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=6)


def ragged(items) -> Ragged:
    return Ragged.from_list([np.array(item, np.int64) for item in items], dtype=np.int64)


def lists(value: Ragged) -> list[list[int]]:
    return [item.tolist() for item in value]


@given(ITEMS, st.data())
def test_ragged_agrees_with_lists(items, data):
    value = ragged(items)
    assert lists(value) == items
    start, stop = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 6))
    assert lists(value.slice(start, stop)) == items[start:stop]
    if items:
        chosen = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=8))
        assert lists(value.take(chosen)) == [items[i] for i in chosen]
    assert lists(Ragged.concat([value, value])) == items + items
    size = data.draw(st.integers(1, 5))
    pieces = list(value.chunks(size))
    assert [x for _, piece in pieces for x in lists(piece)] == items
    assert [start for start, _ in pieces] == [sum(len(p) for _, p in pieces[:i]) for i in range(len(pieces))]
    assert all(piece.n_rows <= size or len(piece) == 1 for _, piece in pieces)


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 1, 3], [], [[0, 3]]])
def test_bad_offsets(offsets):
    with pytest.raises(ValueError, match="offsets must"):
        Ragged(np.zeros(3), np.array(offsets, np.int64))


def test_save_and_open(tmp_path, monkeypatch):
    monkeypatch.setattr("colbert_research.ragged.MAPPED_BYTES", 0)  # small files, too
    value = Ragged.from_list([np.ones((2, 3), np.float16), np.zeros((0, 3), np.float16)])
    value.save(tmp_path)
    opened = Ragged.open(tmp_path)
    assert isinstance(opened.values, np.memmap)
    assert np.array_equal(opened.values, value.values)
    assert np.array_equal(opened.offsets, [0, 2, 2])


@pytest.mark.parametrize("cut", [0, 3, 5])
def test_npy_writer_resumes(tmp_path, cut):
    rows = np.arange(20, dtype=np.float32).reshape(5, 4)
    writer = NpyWriter(tmp_path / "a.npy", np.float32, (4,))
    writer.append(rows)
    writer.close()
    with NpyWriter(tmp_path / "a.npy", np.float32, (4,), rows=cut) as again:
        again.append(rows[cut:])
    assert np.array_equal(np.load(tmp_path / "a.npy"), rows)
    with pytest.raises(ValueError, match="fewer than the 9 rows"):
        NpyWriter(tmp_path / "a.npy", np.float32, (4,), rows=9)


def ranking(rows, n=6, queries=None) -> Ranking:
    results = [(np.array(list(r), np.int64), np.array(list(r.values()), np.float32)) for r in rows]
    ids = queries or [f"q{i}" for i in range(len(rows))]
    return Ranking.of(results, query_ids=ids, document_ids=[f"d{i}" for i in range(n)])


def test_ties_go_to_the_smaller_position():
    assert [d for d, _ in ranking([{4: 1.0, 2: 1.0, 0: 0.5, 3: 2.0}]).top(0)] == ["d3", "d2", "d4", "d0"]


def test_an_unordered_ranking_cannot_exist():
    arguments = (("q",), ["a", "b"], np.array([0, 2]), np.array([1, 0]), np.array([1, 1], np.float32))
    with pytest.raises(ValueError, match="not ordered"):
        Ranking(*arguments)
    with pytest.raises(ValueError, match="NaN"):
        ranking([{0: float("nan")}])


@given(
    st.lists(st.dictionaries(st.integers(0, 5), st.sampled_from([0.0, 1.0, 2.0]), max_size=6), max_size=3), st.integers(1, 6)
)
def test_merged_shards_are_the_whole(rows, k):
    whole = ranking(rows)
    parts = [ranking([{d: s for d, s in row.items() if d % 2 == side} for row in rows]) for side in (0, 1)]
    merged = Ranking.merge(parts, k)
    assert np.array_equal(merged.positions, whole.truncate(k).positions)
    assert np.array_equal(merged.scores, whole.truncate(k).scores)


def test_files_round_trip(tmp_path):
    value = ranking([{1: 0.5, 2: 0.25}, {}, {0: 1 / 3}])
    value.to_parquet(tmp_path / "r.parquet")
    value.to_trec(tmp_path / "r.trec")
    arguments = {"document_ids": value.document_ids, "query_ids": value.query_ids}
    for opened in (
        Ranking.from_parquet(tmp_path / "r.parquet", **arguments),
        Ranking.from_trec(tmp_path / "r.trec", **arguments),
    ):
        assert opened.query_ids == value.query_ids
        assert np.array_equal(opened.offsets, value.offsets)
        assert np.array_equal(opened.positions, value.positions)
        assert np.array_equal(opened.scores, value.scores)
    (tmp_path / "bad.trec").write_text("q0 Q0 d1 1 0.5 x\nq0 Q0 d77 2 0.4 x\n")
    with pytest.raises(ValueError, match=r"line 2: unknown query 'q0' or document 'd77'"):
        Ranking.from_trec(tmp_path / "bad.trec", **arguments)


def test_without_self():
    assert [d for d, _ in ranking([{0: 3.0, 1: 2.0}], queries=["d0"]).without_self().top(0)] == ["d1"]


MEASURES = ["nDCG@10", "RR@10", "R@1", "Success@5", "AP"]


def test_measures_by_hand():
    found = ranking([{0: 3.0, 1: 2.0, 2: 1.0}, {}])
    qrels = {"q0": {"d1": 2, "d2": 1, "d5": 1}, "q1": {"d0": 1}}
    values = {(q, m): v for q, m, v in evaluate(found, qrels, MEASURES).itertuples(index=False)}
    gain = 2 / np.log2(3) + 1 / np.log2(4)
    best = 2 / np.log2(2) + 1 / np.log2(3) + 1 / np.log2(4)
    assert values["q0", "nDCG@10"] == pytest.approx(gain / best)
    assert values["q0", "RR@10"] == 0.5
    assert values["q0", "R@1"] == 0.0
    assert values["q0", "AP"] == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert values["q0", "Success@5"] == 1.0
    assert all(values["q1", m] == 0 for m in MEASURES), "a query that found nothing counts 0"
    assert mean_measures(evaluate(found, qrels, MEASURES))["RR@10"] == 0.25


def test_all_measures_see_one_order_of_ties():
    """ir-measures' providers break ties by identifier, ascending in one and descending in another."""
    for relevant, place in (("d1", 1), ("d4", 2)):
        metrics = mean_measures(evaluate(ranking([{1: 1.0, 4: 1.0}]), {"q0": {relevant: 1}}, ["RR@10", "R@1", "nDCG@10"]))
        assert metrics["RR@10"] == 1 / place
        assert metrics["R@1"] == float(place == 1)
        assert metrics["nDCG@10"] == pytest.approx(1 / np.log2(place + 1))


def test_unknown_measures():
    with pytest.raises(ConfigError, match="unknown measure 'nDGC@10'"):
        evaluate(ranking([{}]), {"q0": {"d0": 1}}, ["nDGC@10"])
    with pytest.raises(ConfigError, match="no measures"):
        evaluate(ranking([{}]), {"q0": {"d0": 1}}, [])


def test_overlap():
    assert overlap(ranking([{0: 2.0, 1: 1.0}, {3: 1.0}]), ranking([{1: 2.0, 2: 1.0}, {3: 1.0}]), 2) == 0.75


@pytest.mark.parametrize(
    ("offsets", "positions", "scores", "message"),
    [
        ([0, 2], [0, 0], [1, 1], "not ordered"),  # the same document twice
        ([0, 2], [0, 1], [1, 2], "not ordered"),
        ([1, 2], [0, 1], [2, 1], "start at 0"),  # a row that belongs to no query
        ([0, 2], [0, 2], [2, 1], "between 0 and 1"),
        ([0, 2], [-1, 1], [2, 1], "between 0 and 1"),
        ([0, 2], [0, 1], [1], "one score a position"),
        ([0, 1, 2], [0, 1], [2, 1], "offsets plus one"),
    ],
)
def test_construction_checks(offsets, positions, scores, message):
    with pytest.raises(ValueError, match=message):
        Ranking(("q",), ("a", "b"), np.array(offsets), np.array(positions, np.int64), np.array(scores, np.float32))


def test_offsets_that_fall():
    with pytest.raises(ValueError, match="not fall"):
        Ranking(("q", "r"), ("a",), np.array([0, 2, 1]), np.zeros(1, np.int64), np.ones(1, np.float32))


def test_order_restarts_with_every_query():
    value = ranking([{5: 1.0}, {0: 9.0, 1: 8.0}])
    assert value.ranks.tolist() == [1, 1, 2]
    assert value.take([1, 0]).top(0) == [("d0", 9.0), ("d1", 8.0)]
    assert value.take([1, 0]).query_ids == ("q1", "q0")


def test_truncate_keeps_queries_that_found_less():
    value = ranking([{0: 1.0, 1: 2.0, 2: 3.0}, {}, {4: 1.0}]).truncate(2)
    assert [[d for d, _ in value.top(i)] for i in range(3)] == [["d2", "d1"], [], ["d4"]]
    with pytest.raises(ValueError, match="at least 1; given 0"):
        value.truncate(0)


def test_without_self_touches_only_the_query_whose_document_it_is():
    value = ranking([{0: 3.0, 1: 2.0}, {0: 3.0, 1: 2.0}, {0: 1.0}], queries=["d1", "other", "d0"]).without_self()
    assert [[d for d, _ in value.top(i)] for i in range(3)] == [["d0"], ["d0", "d1"], []]


def test_what_cannot_be_merged():
    one = ranking([{0: 1.0}])
    with pytest.raises(ValueError, match="nothing to merge"):
        Ranking.merge([], 1)
    with pytest.raises(ValueError, match="same queries"):
        Ranking.merge([one, ranking([{1: 1.0}], queries=["x"])], 1)
    with pytest.raises(ValueError, match="in two of the rankings"):
        Ranking.merge([one, one], 1)


def test_trec_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="white space: query 'a b'"):
        ranking([{0: 1.0}], queries=["a b"]).to_trec(tmp_path / "r")
    with pytest.raises(ValueError, match="white space"):
        ranking([{0: 1.0}]).to_trec(tmp_path / "r", tag="two words")
    for line, message in [
        ("q0 Q0 d1 1 0.5\n", "line 1: expected"),
        ("q0 Q0 d1 1 0.5 x\nq0 Q0 d1 2 0.4 x\n", "line 2: .* twice"),
        ("q9 Q0 d1 1 0.5 x\n", "unknown query 'q9'"),
    ]:
        (tmp_path / "bad").write_text(line)
        with pytest.raises(ValueError, match=message):
            Ranking.from_trec(tmp_path / "bad", document_ids=["d1"], query_ids=["q0"])


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=6))
def test_trec_keeps_every_float32(tmp_path_factory, scores):
    value = ranking([dict(enumerate(scores))])
    path = tmp_path_factory.mktemp("trec") / "r"
    value.to_trec(path)
    opened = Ranking.from_trec(path, document_ids=value.document_ids)
    assert opened.positions.tolist() == value.positions.tolist()
    assert opened.scores.tolist() == value.scores.tolist()


def test_a_ranking_that_found_nothing_round_trips(tmp_path):
    value = ranking([{}, {}])
    value.to_parquet(tmp_path / "p")
    value.to_trec(tmp_path / "t")
    arguments = {"document_ids": value.document_ids, "query_ids": value.query_ids}
    for opened in (Ranking.from_parquet(tmp_path / "p", **arguments), Ranking.from_trec(tmp_path / "t", **arguments)):
        assert (opened.query_ids, opened.offsets.tolist(), len(opened.positions)) == (("q0", "q1"), [0, 0, 0], 0)
        assert opened.scores.dtype == np.float32
