"""Every rule judges by its bounds, and can fail."""

from dataclasses import replace

import pytest

from colbert_research.ledger import Claim, Evidence
from colbert_research.ledger.findings import REFUTED, REPRODUCED, TREND, UNTESTABLE
from colbert_research.ledger.ledger import finding_of
from colbert_research.ledger.relations import Correlation, Exists, Gain, Shares, Slope
from colbert_research.ledger.rules import Figure, MeanDifference, Ordered, Ratio
from colbert_research.settings import ConfigError
from tests.ledger.made_up_items import CLAIM, EVIDENCE, QUERIES, difference, item

WEAKER = {"kind": "figure", "figure": "overlap@10", "of": {"codec.nbits": 2}, "low": 0.9}
UNTOLD = {"kind": "untestable", "reason": "LoTTE is needed."}


@pytest.mark.parametrize(
    ("mean", "wobble", "verdict"),
    [(0.5, 0.001, REPRODUCED), (0.45, 0.001, REFUTED), (0.495, 0.05, TREND), (0.48, 0.05, UNTESTABLE)],
)
def test_a_difference_is_judged_by_its_interval(mean, wobble, verdict):
    """Intervals by hand: of 60 queries that wobble by w (1 to 7 times), half a width of about w."""
    found = difference(low=-0.01).judge(Evidence((item(None, 0.5), item(2, mean, wobble=wobble))))
    assert found.verdict == verdict
    assert f"{mean - 0.5:+.4f}" in found.ours


@pytest.mark.parametrize(("differing", "verdict"), [(4, UNTESTABLE), (5, UNTESTABLE), (6, REFUTED), (30, REFUTED)])
def test_an_interval_from_few_queries_that_differ_decides_nothing(differing, verdict):
    """Of n signs all are alike with p = 2 / 2^n: .0625 for five, .03125 for six, though the interval lies above 0 for four."""
    values = {query: 0.5 + 0.3 * (i < differing) for i, query in enumerate(QUERIES)}
    other = replace(item(2, 0.5), read=lambda: {"RR@10": values})
    found = difference(high=0).judge(Evidence((item(None, 0.5), other)))
    assert found.verdict == verdict
    low = float(found.ours.split("(")[1].split(" to ")[0])
    assert low > 0
    said = "Only 4 of them differ from 0, and signs like theirs come by chance with p = 0.12"
    assert (said in found.reason) == (differing == 4)


def test_what_too_few_queries_cannot_show_is_said():
    found = difference(low=-0.01).judge(Evidence((item(None, 0.5), item(2, 0.48, wobble=0.05))))
    assert "60 queries cannot show a difference below" in found.reason


@pytest.mark.parametrize(
    ("rule", "mean", "overlap", "verdict"),
    [
        (CLAIM["rule"], 0.5, 0.8, REPRODUCED),
        (CLAIM["rule"], 0.4, 0.95, TREND),
        (CLAIM["rule"], 0.4, 0.8, REFUTED),
        (UNTOLD, 0.5, 0.95, TREND),
        (UNTOLD, 0.5, 0.8, REFUTED),
    ],
)
def test_a_trend_is_never_more_than_a_trend(rule, mean, overlap, verdict):
    """Of a rule for what the paper says, and a weaker one: what the first cannot show, the second makes a trend."""
    records = Evidence((item(None, 0.5), item(2, mean, wobble=0.001, **{"overlap@10": overlap})))
    claim = Claim.model_validate({**CLAIM, "rule": rule, "trend": WEAKER})
    found = finding_of(claim, records)
    assert found.verdict == verdict
    assert ("trend:" in found.reason) == (verdict != REPRODUCED)
    assert found.records
    without = finding_of(claim, Evidence((item(None, 0.5),)))
    assert (without.verdict, without.records) == (UNTESTABLE, ())
    assert [each.kind for each in claim.rules] == (["figure"] if rule is UNTOLD else ["mean_difference", "figure"])


def test_a_trend_that_was_not_measured_leaves_what_the_rule_found():
    records = Evidence((item(None, 0.5), item(2, 0.4, wobble=0.001)))
    plain, weaker = (finding_of(Claim.model_validate({**CLAIM, "trend": trend}), records) for trend in (None, WEAKER))
    assert plain == weaker
    assert plain.verdict == REFUTED


@pytest.mark.parametrize("kind", [{}, {"codec.kind": "residual"}])
def test_records_are_paired_by_what_they_share(kind):
    """Where the kind was named, equal or not, every number of centroids was paired with every other."""
    bits = MeanDifference(measure="RR@10", of={**kind, "codec.nbits": 1}, to={**kind, "codec.nbits": 2}, high=0.0)
    items = [
        item(bits, 0.5 + centroids / 1000 - (bits == 1) / 10, centroids=centroids) for bits in (1, 2) for centroids in (1, 100)
    ]
    evidence = Evidence((*items, item(1, 0.9, collection="scifact"), item(2, 0.9, collection="squad")))
    pairs = [
        (one.settings["codec.centroids"], other.settings["codec.centroids"]) for one, other in evidence.pairs(bits.of, bits.to)
    ]
    assert pairs == [(1, 1), (100, 100)]
    assert bits.judge(evidence).ours.startswith("-0.1000")


def test_the_queries_of_collections_are_pooled_and_count_once():
    items = [
        item(None, 0.5),
        item(2, 0.4),
        item(2, 0.6, centroids=128),
        item(None, 0.5, collection="b"),
        item(2, 0.7, collection="b"),
    ]
    found = difference(low=0.0).judge(Evidence(tuple(items)))
    assert found.ours.startswith("+0.1000")
    assert "120 queries" in found.reason


def test_a_figure_holds_on_every_collection():
    rule = Figure(figure="overlap@10", of={"codec.nbits": 4}, low=0.95)
    high, low = item(4, 0.5, **{"overlap@10": 0.97}), item(4, 0.5, collection="b", **{"overlap@10": 0.9})
    assert rule.judge(Evidence((high,))).verdict == REPRODUCED
    assert rule.judge(Evidence((low,))).verdict == REFUTED
    assert rule.judge(Evidence((high, low))).verdict == TREND


def test_ratios_and_orders():
    items = [item(bits, 0.5, **{"bytes/token": 4 + 16 * bits, "overlap@10": 0.9 + bits / 100}) for bits in (1, 2, 4)]
    evidence = Evidence(tuple(items))
    halved = Ratio(figure="bytes/token", of={"codec.nbits": 1}, to={"codec.nbits": 2}, high=0.6)
    assert (halved.judge(evidence).verdict, halved.judge(evidence).ours) == (REPRODUCED, "nfcorpus: 0.5556")
    assert halved.model_copy(update={"high": 0.5}).judge(evidence).verdict == REFUTED
    rising = Ordered(figure="overlap@10", along="codec.nbits", values=(1, 2, 4))
    assert rising.judge(evidence).verdict == REPRODUCED
    assert rising.model_copy(update={"direction": "falling"}).judge(evidence).verdict == REFUTED
    assert rising.model_copy(update={"values": (1, 2, 8)}).judge(evidence).verdict == UNTESTABLE
    level = Evidence(tuple(item(bits, 0.5, **{"overlap@10": 0.9}) for bits in (1, 2, 4)))
    assert rising.judge(level).verdict == REFUTED


RULES = [
    difference(low=-0.01),
    difference(high=0.02),
    difference(low=-0.01, high=0.01),
    Figure(figure="overlap@10", of={"codec.nbits": 4}, low=0.9),
    Figure(figure="bytes/token", of={"codec.nbits": 4}, high=100),
    Ratio(figure="bytes/token", of={"codec.nbits": 2}, to={"codec.kind": "exact"}, high=0.1),
    Ratio(figure="bytes/token", of={"codec.kind": "exact"}, to={"codec.nbits": 2}, low=10),
    Ordered(figure="overlap@10", along="codec.nbits", values=(1, 2, 4)),
    Ordered(figure="bytes/token", along="codec.nbits", values=(4, 2, 1), direction="falling"),
    Correlation(figure="overlap@10", beside="bytes/token", of={"codec.kind": "residual"}, low=0.9),
    Correlation(figure="bytes/token", beside="overlap@10", of={"codec.kind": "residual"}, low=0.5, high=1),
    Slope(figure="bytes/token", over="codec.nbits", of={"codec.kind": "residual"}, low=0.9, high=1.1),
    Slope(figure="bytes/token", over="codec.nbits", of={"codec.kind": "residual"}, high=1.1),
    Gain(figure="overlap@10", along="codec.nbits", values=(1, 2, 4), of={"codec.kind": "residual"}, low=1.9, high=2.1),
    Gain(figure="bytes/token", along="codec.nbits", values=(1, 2, 4), of={"codec.kind": "residual"}, low=1.5),
    Exists(of={"codec.kind": "residual"}, conditions=({"figure": "overlap@10", "low": 0.92},)),
    Exists(
        of={"codec.kind": "residual"},
        to={"codec.kind": "exact"},
        conditions=({"figure": "bytes/token", "ratio": True, "high": 0.01}, {"figure": "overlap@10", "low": 0.92}),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_rule_can_fail(rule):
    assert rule.judge(EVIDENCE).verdict == REPRODUCED
    assert rule.judge(rule.violated(EVIDENCE)).verdict == REFUTED


def test_the_rules_of_several_figures_can_tell():
    falling = [item(bits, 0.5, **{"overlap@10": 1 / bits, "bytes/token": bits**2}) for bits in (1, 2, 4)]
    evidence = Evidence(tuple(falling))
    rising = Correlation(figure="overlap@10", beside="bytes/token", low=0.9)
    assert (rising.judge(evidence).verdict, rising.judge(evidence).ours) == (REFUTED, "nfcorpus: -1")
    slope = Slope(figure="bytes/token", over="codec.nbits", low=0.4, high=0.6)
    assert (slope.judge(evidence).verdict, slope.judge(evidence).ours) == (REFUTED, "3 records: 2; the largest 2: 2")
    few = Evidence(tuple(falling[:2]))
    assert {rule.judge(few).verdict for rule in (rising, slope)} == {UNTESTABLE}
    gain = Gain(figure="overlap@10", along="codec.nbits", values=(4, 2, 1), low=1.9, high=2.1)
    assert gain.judge(evidence).verdict == REPRODUCED
    backwards = gain.model_copy(update={"values": (1, 2, 4)})
    assert "gains nothing" in backwards.judge(evidence).reason
    exists = Exists(of={"codec.kind": "residual"}, conditions=({"figure": "overlap@10", "low": 0.6, "high": 0.9},))
    assert exists.judge(evidence).verdict == REFUTED
    both = Evidence((*falling, item(1, 0.5, collection="b", **{"overlap@10": 0.7})))
    assert (exists.judge(both).verdict, exists.judge(both).ours) == (TREND, "b: b-1-64-0.5; nfcorpus: none")


def test_a_slope_holds_at_the_large_end_too():
    """By hand: the exponent is .5 from 1 to 16 and 1 from 16 to 256, so that least squares over all five give .75."""
    records = [item(n, 0.5, **{"bytes/token": cost}) for n, cost in zip((1, 4, 16, 64, 256), (1, 2, 4, 16, 64), strict=True)]
    found = Slope(figure="bytes/token", over="codec.nbits", low=0.7, high=0.8).judge(Evidence(tuple(records)))
    assert (found.verdict, found.ours) == (TREND, "5 records: 0.75; the largest 3: 1")


def test_shares_of_variance():
    """By hand: bits move a figure by 4, centroids by 1, so that their shares are 16/17 and 1/17."""
    grid = [item(b, 0.5, centroids=c, **{"overlap@10": 4.0 * (b == 2) + (c == 9)}) for b in (1, 2) for c in (8, 9)]
    rule = Shares(figure="overlap@10", axes=("codec.nbits", "codec.centroids"))
    found = rule.judge(Evidence(tuple(grid)))
    assert (found.verdict, found.ours) == (REPRODUCED, "nfcorpus: 0.941, 0.059")
    assert rule.judge(rule.violated(Evidence(tuple(grid)))).verdict == REFUTED
    other = rule.model_copy(update={"axes": ("codec.centroids", "codec.nbits")})
    assert other.judge(Evidence(tuple(grid))).verdict == REFUTED
    assert rule.judge(Evidence(tuple(grid[:2]))).verdict == UNTESTABLE


def test_a_setting_that_no_record_has_is_named():
    with pytest.raises(ConfigError, match=r"codec\.nbit is no setting.*codec\.nbits"):
        Figure(figure="RR@10", of={"codec.nbit": 2}, low=0.1).judge(EVIDENCE)
    with pytest.raises(ConfigError, match=r"codec\.nbit is no setting.*Valid: codec\.centroids, codec\.kind, codec\.nbits$"):
        Shares(figure="RR@10", axes=("codec.centroids", "codec.nbit")).judge(EVIDENCE)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (
            difference(low=0).model_copy(update={"of": {"codec.nbits": 3}}),
            "no records of codec.nbits=3: in the 8 that are here, codec.nbits is 1, 2, 4",
        ),
        (
            Figure(figure="RR@10", of={"codec.nbits": 2, "dataset.path": "squad"}, low=0),
            "no records of codec.nbits=2 dataset.path=squad: in the 8 that are here, dataset.path is nfcorpus, scifact",
        ),
        (
            Figure(figure="RR@10", of={"codec.nbits": 2, "codec.kind": "exact"}, low=0),
            "no records of codec.nbits=2 codec.kind=exact: in the 8 that are here, each has others of these settings",
        ),
        (
            Ratio(figure="RR@10", of={"dataset.path": "scifact"}, to={"dataset.path": "nfcorpus"}, low=1),
            "no record of dataset.path=scifact has one beside it of dataset.path=nfcorpus: "
            "the nearest differ in collection as well, which `of` and `to` do not name",
        ),
        (
            Ordered(figure="RR@10", along="codec.nbits", values=(1, 3)),
            "no records of codec.nbits=3 on nfcorpus, scifact: in those that are here, codec.nbits is 1, 2, 4",
        ),
    ],
)
def test_what_records_there_are_is_said_where_a_claim_names_others(rule, reason):
    found = rule.judge(EVIDENCE)
    assert (found.verdict, found.reason) == (UNTESTABLE, reason)


def test_a_setting_that_keeps_records_from_being_compared_is_named():
    apart = Evidence((item(1, 0.5, centroids=64), item(2, 0.5, centroids=128)))
    found = Ratio(figure="RR@10", of={"codec.nbits": 2}, to={"codec.nbits": 1}, low=1).judge(apart)
    assert found.reason.endswith("the nearest differ in codec.centroids as well, which `of` and `to` do not name")
