"""Comparisons line values up by query, say what they can, and refuse what cannot be compared."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from colbert_research.evaluation.comparison import Comparison, compare
from colbert_research.evaluation.difference import FIGURES, Criteria, verdict
from colbert_research.evaluation.evaluated import Evaluated
from colbert_research.evaluation.paired import EPS
from colbert_research.evaluation.significance import holm
from colbert_research.ranking import Ranking

QUICK = Criteria(resamples=2_000)


def table(measure: str = "nDCG@10", **values: float) -> pd.DataFrame:
    """A value for each query."""
    return pd.DataFrame({"query_id": list(values), "measure": measure, "value": list(values.values())})


def column(values, measure: str = "nDCG@10") -> pd.DataFrame:
    return table(measure, **{f"q{i}": float(v) for i, v in enumerate(values)})


@pytest.fixture
def systems(rng) -> dict[str, pd.DataFrame]:
    """Of 200 queries: a baseline, one clearly worse, one clearly better, one that hardly differs, one too noisy to judge."""
    base = rng.uniform(0.2, 0.8, 200)
    noise = rng.standard_normal((4, 200))
    noise -= noise.mean(axis=1, keepdims=True)
    shifts = {"worse": (-0.05, 0.05), "better": (0.05, 0.05), "close": (-0.0005, 0.005), "noisy": (-0.004, 0.15)}
    made = {name: base + shift + spread * z for (name, (shift, spread)), z in zip(shifts.items(), noise, strict=True)}
    return {"exact": column(base), **{name: column(values) for name, values in made.items()}}


@pytest.fixture
def comparison(systems) -> Comparison:
    return compare(systems, "exact", criteria=QUICK)


class TestFigures:
    def test_verdicts(self, comparison):
        assert {row.system: row.verdict for row in comparison.rows} == {
            "worse": "worse",
            "better": "better",
            "close": "not inferior by more than 0.01",
            "noisy": "cannot tell",
        }

    def test_each_is_what_it_says(self, comparison, systems):
        values = {name: each["value"].to_numpy() for name, each in systems.items()}
        rows = {row.system: row for row in comparison.rows}
        for name, row in rows.items():
            d = values[name] - values["exact"]
            # means of 200 terms
            assert row.mean == pytest.approx(values[name].mean(), abs=200 * EPS)
            assert row.delta == pytest.approx(d.mean(), abs=200 * EPS)
            assert row.low < row.delta < row.high
            # the bootstrap's deviation of a mean is that of Student's within a tenth, for 200 queries and 10^4 samples
            assert row.high - row.low == pytest.approx(2 * 1.96 * d.std(ddof=1) / math.sqrt(200), rel=0.1)
            assert row.outcomes == ((d > 0).sum(), 0, (d < 0).sum())
            assert row.effect_size == pytest.approx(d.mean() / d.std(ddof=1), rel=1e5 * EPS)
            assert row.detectable.queries == 200
            assert row.detectable.alpha == 0.05 / 4
        assert [row.p_holm for row in comparison.rows] == holm([row.p for row in comparison.rows]).tolist()
        margins = [stats.ttest_1samp(values[n] - values["exact"], -0.01, alternative="greater").pvalue for n in rows]
        assert [row.p_margin for row in comparison.rows] == pytest.approx(holm(margins), rel=1e5 * EPS)

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ((0.02, 0.01, 0.01), "better"),
            ((-0.02, 0.01, 0.9), "worse"),
            ((-0.002, 0.01, 0.01), "worse, by less than 0.01"),
            ((-0.002, 0.2, 0.05), "not inferior by more than 0.01"),
            ((0.02, 0.06, 0.06), "cannot tell"),
            ((0.0, 1.0, 0.0), "not inferior by more than 0.01"),
        ],
    )
    def test_words_of_two_p_values(self, given, says):
        assert verdict(*given, Criteria(), n=300) == says

    def test_queries_are_matched_by_id_and_not_by_place(self, systems, comparison):
        shuffled = {name: each.sample(frac=1, random_state=i) for i, (name, each) in enumerate(systems.items())}
        again = compare({**shuffled, "exact": systems["exact"]}, "exact", criteria=QUICK)
        assert again.rows == comparison.rows
        by_other_order = compare(shuffled, "exact", criteria=QUICK)
        assert [row.p for row in by_other_order.rows] == [row.p for row in comparison.rows]

    def test_the_baseline_and_a_system_change_places(self, systems):
        pair = {name: systems[name] for name in ("exact", "noisy")}
        (row,), (back,) = (compare(pair, name, criteria=QUICK).rows for name in pair)
        assert (row.delta, row.p, row.effect_size) == (-back.delta, back.p, -back.effect_size)
        assert row.outcomes == back.outcomes[::-1]
        assert row.detectable == back.detectable

    def test_the_family_is_all_systems_by_one_measure(self, systems):
        both = {name: pd.concat([each, each.assign(measure="AP")]) for name, each in systems.items()}
        found = compare(both, "exact", criteria=QUICK)
        one = compare(systems, "exact", criteria=QUICK)
        assert [row.p_holm for row in found.rows] == [row.p_holm for row in one.rows] * 2
        assert [row.measure for row in found.rows] == ["nDCG@10"] * 4 + ["AP"] * 4
        assert list(compare(both, "exact", measures=["AP"], criteria=QUICK).values) == ["AP"]
        pair = compare({name: systems[name] for name in ("exact", "noisy")}, "exact", criteria=QUICK)
        assert pair.rows[0].p_holm == pair.rows[0].p


class TestShown:
    def test_the_table(self, comparison):
        found = comparison.table()
        assert found.index.names == ["measure", "system"]
        assert list(found.index.get_level_values("system")) == ["exact", "worse", "better", "close", "noisy"]
        assert list(found.columns) == list(FIGURES)
        first = found.iloc[0]
        assert first["verdict"] == "baseline" and math.isnan(first["p"]) and first["wins"] is pd.NA
        assert found.loc[("nDCG@10", "worse"), "losses"] > found.loc[("nDCG@10", "worse"), "wins"]
        assert found["wins"].dtype == found["losses"].dtype == "Int64"

    def test_facts_are_columns(self, systems):
        known = {
            name: Evaluated(each, facts={"ms": i, **({"bits": 4} if i else {})})
            for i, (name, each) in enumerate(systems.items())
        }
        found = compare(known, "exact", criteria=QUICK).table()
        assert list(found["ms"]) == [0, 1, 2, 3, 4]
        assert list(found["bits"].isna()) == [True, False, False, False, False]
        with pytest.raises(ValueError, match="facts of 'exact' are named p, as figures"):
            compare({**systems, "exact": Evaluated(systems["exact"], facts={"p": 1})}, "exact")

    def test_the_words(self, comparison):
        how, worse, _, _, noisy = comparison.words()
        assert "corrected (Holm) over 4 systems" in how and "margin 0.01" in how
        row = comparison.rows[0]
        assert worse == (
            f"nDCG@10 of worse: {row.mean:.4f}, {row.delta:+.4f} against exact "
            f"(95 % interval {row.low:+.4f} to {row.high:+.4f}, corrected p {row.p_holm:.2g}): worse."
        )
        assert "cannot tell. 200 queries cannot show a difference below" in noisy

    def test_the_biggest_losers(self):
        runs = {"a": table(q1=0.9, q2=0.5, q3=0.1, q4=0.3), "b": table(q4=0.3, q3=0.0, q2=0.9, q1=0.2)}
        found = compare(runs, "a", criteria=QUICK)
        losers = found.biggest_losers("b", 5)
        assert list(losers.columns) == ["query_id", "value", "baseline", "difference"]
        assert losers.to_numpy().tolist() == [["q1", 0.2, 0.9, 0.2 - 0.9], ["q3", 0.0, 0.1, -0.1]]
        assert list(found.biggest_losers("b", 1)["query_id"]) == ["q1"]
        assert list(compare(runs, "a", criteria=Criteria(tolerance=0.1)).biggest_losers("b")["query_id"]) == ["q1"]
        assert not len(compare({"a": runs["a"], "b": runs["a"]}, "a").biggest_losers("b"))
        for wrong, says in (("a", "not compared with 'a'"), ("c", "Valid: b")):
            with pytest.raises(ValueError, match=says):
                found.biggest_losers(wrong)
        with pytest.raises(ValueError, match=r"did you mean 'nDCG@10'"):
            found.biggest_losers("b", measure="nDCG@1")
        with pytest.raises(ValueError, match="at least 1 query"):
            found.biggest_losers("b", 0)


class TestFewQueries:
    def test_all_ties(self):
        same = column([0.5, 0.25, 1.0])
        (row,) = compare({"a": same, "b": same}, "a").rows
        assert (row.delta, row.low, row.high, row.p, row.p_holm, row.effect_size) == (0, 0, 0, 1, 1, 0)
        assert row.outcomes == (0, 3, 0)
        assert row.verdict == "cannot tell"
        assert row.words("a", 0.95).endswith("3 queries cannot show any difference.")
        same = column([0.5, 0.25, 1.0, 0.5, 0.5, 0.5])
        assert compare({"a": same, "b": same}, "a").rows[0].verdict == "not inferior by more than 0.01"

    def test_one_query_tells_nothing(self):
        found = compare({"a": column([0.5]), "b": column([0.1])}, "a")
        (row,) = found.rows
        assert (row.low, row.high, row.p, row.p_margin) == (-math.inf, math.inf, 1, 1)
        assert row.detectable.difference == math.inf
        assert found.words()[1].endswith("cannot tell. 1 query cannot show any difference.")
        assert list(found.biggest_losers("b")["query_id"]) == ["q0"]
        assert len(found.table()) == 2

    def test_no_query(self):
        nothing = column([])
        for measures in ([], ["nDCG@10"]):
            with pytest.raises(ValueError, match="'a' has no values: no query was evaluated"):
                compare({"a": nothing, "b": nothing}, "a", measures=measures)


class TestRefused:
    def test_other_queries(self):
        one, other = table(q1=1.0, q2=0.5, q3=0.2), table(q1=1.0, q7=0.0)
        with pytest.raises(ValueError) as error:
            compare({"exact": one, "plaid": other}, "exact")
        assert str(error.value) == (
            "'exact' and 'plaid' cannot be compared by nDCG@10, since their queries are not the same: 2 of 'exact' alone "
            "('q2', 'q3'); 1 of 'plaid' alone ('q7'); evaluate both on the same queries"
        )
        many = column(range(9))
        with pytest.raises(ValueError, match=r"7 of 'b' alone \('q2', 'q3', 'q4', …\)"):
            compare({"a": column([0, 1]), "b": many}, "a")

    def test_a_query_twice(self):
        twice = pd.concat([column([0.1, 0.2]), table(q1=0.3)])
        with pytest.raises(ValueError, match="'b' has two values of nDCG@10 for query 'q1'"):
            compare({"a": column([0.1, 0.2]), "b": twice}, "a")

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_value_that_is_none(self, value):
        with pytest.raises(ValueError, match=f"nDCG@10 of query 'q1' is {value} in 'b'; expected a number"):
            compare({"a": column([0.1, 0.2]), "b": column([0.1, value])}, "a")

    def test_other_measures(self):
        with pytest.raises(ValueError, match="'b' has no values of nDCG@10; it has AP: name some of these"):
            compare({"a": column([0.1]), "b": column([0.1], "AP")}, "a")

    def test_another_table(self):
        for baseline, lacking in (("a", "value"), ("b", "measure")):
            runs = {"a": column([0.1]), "b": column([0.1]).drop(columns=lacking)}
            with pytest.raises(ValueError, match=f"'b': expected a table with columns .*; it lacks {lacking}"):
                compare(runs, baseline)

    def test_no_baseline_and_nothing_beside_it(self):
        with pytest.raises(ValueError, match=r"no values of the baseline 'exakt': did you mean 'exact'\?"):
            compare({"exact": column([0.1]), "b": column([0.1])}, "exakt")
        with pytest.raises(ValueError, match="the baseline 'exact' alone"):
            compare({"exact": column([0.1])}, "exact")

    def test_other_collections(self):
        one, other = (Evaluated(column([0.1, 0.2]), collection=name) for name in ("2e60", "ab12"))
        with pytest.raises(ValueError, match="'a' searched the collection 2e60 and 'b' the collection ab12"):
            compare({"a": one, "b": other}, "a")
        assert compare({"a": one, "b": one, "c": column([0.1, 0.2])}, "a").rows

    @pytest.mark.parametrize(
        "wrong", [{"margin": 0.0}, {"tolerance": -1.0}, {"alpha": 0.9}, {"power": 1.0}, {"resamples": 0}, {"seed": -1}]
    )
    def test_odd_criteria(self, wrong):
        with pytest.raises(ValueError, match="given"):
            Criteria(**wrong)


class TestOracle:
    @pytest.fixture
    def rankings(self) -> dict[str, Ranking]:
        orders = {"exact": [[0, 1, 2], [2, 1, 0], []], "half": [[0, 3, 4], [2, 4, 3], [1]], "none": [[4, 3], [4, 3], []]}
        return {
            name: Ranking.of(
                [(np.array(each, np.int64), -np.arange(len(each), dtype=np.float32)) for each in lists],
                query_ids=["q0", "q1", "q2"],
                document_ids=[f"d{i}" for i in range(5)],
            )
            for name, lists in orders.items()
        }

    def test_agreement_is_compared_as_measures_are(self, rankings):
        values = column([0.1, 0.2, 0.3])
        runs = {name: Evaluated(values, ranking) for name, ranking in rankings.items()}
        runs["half"] = Evaluated(values, rankings["half"].take([2, 0, 1]))
        found = compare(runs, "exact", oracle=rankings["exact"])
        assert list(found.values) == ["nDCG@10", "overlap@10", "RBO(p=0.9)"]
        overlaps = found.values["overlap@10"]
        assert overlaps.to_dict("list") == {"exact": [1.0, 1.0], "half": [1 / 3, 1 / 3], "none": [0.0, 0.0]}
        assert list(overlaps.index) == ["q0", "q1"], "the oracle found nothing for q2"
        assert list(compare(runs, "exact", oracle=rankings["exact"], measures=["nDCG@10"]).values) == list(found.values)

    def test_it_needs_rankings_of_its_queries(self, rankings):
        runs = {name: Evaluated(column([0.1, 0.2, 0.3]), ranking) for name, ranking in rankings.items()}
        with pytest.raises(ValueError, match="needs the ranking of 'half'"):
            compare({**runs, "half": runs["half"].values}, "exact", oracle=rankings["exact"])
        with pytest.raises(
            ValueError, match=r"the oracle and 'exact' cannot be compared by rankings.*1 of 'exact' alone \('q2'\)"
        ):
            compare(runs, "exact", oracle=rankings["exact"].take([0, 1]))
        already = Evaluated(column([0.1, 0.2], "overlap@10"), rankings["exact"])
        with pytest.raises(ValueError, match="'exact' has values of overlap@10 already"):
            compare({**runs, "exact": already}, "exact", oracle=rankings["exact"])
