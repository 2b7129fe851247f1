"""Verdicts come from records alone, every rule can fail, and a claim has no place for a verdict."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from colbert_research.cli import main
from colbert_research.ledger import Ablation, Claim, Evidence, Ledger, View, plot_grid
from colbert_research.ledger.evidence import Item
from colbert_research.ledger.findings import REFUTED, REPRODUCED, TREND, UNTESTABLE
from colbert_research.ledger.ledger import finding_of, found_by
from colbert_research.ledger.relations import Correlation, Exists, Gain, Shares, Slope
from colbert_research.ledger.rules import Figure, MeanDifference, Ordered, Ratio
from colbert_research.settings import ConfigError

QUERIES = [f"q{i}" for i in range(60)]
CLAIM = {
    "id": "two-bits",
    "claim": "Two bits per dimension lose nothing",
    "paper": "Santhanam et al. 2022",
    "where": "Table 9",
    "published": "MRR@10 36.2 and 36.2",
    "rule": {
        "kind": "mean_difference",
        "measure": "RR@10",
        "of": {"codec.nbits": 2},
        "to": {"codec.kind": "exact"},
        "low": -0.01,
    },
}
ABLATION = {"name": "03", "question": "How many bits?", "ours": "frozen MiniLM", "claims": [CLAIM]}


def item(nbits, mean, *, collection="nfcorpus", wobble=0.0, centroids=64, **figures):
    """A record whose queries lie around `mean`, alternating by `wobble`."""
    values = {query: mean + wobble * (-1) ** i * (1 + i // 2 % 7) for i, query in enumerate(QUERIES)}
    codec = {"codec.kind": "exact"} if nbits is None else {"codec.kind": "residual", "codec.nbits": nbits}
    if nbits is not None:
        codec["codec.centroids"] = centroids
    return Item(
        f"{collection}-{nbits}-{centroids}-{mean}",
        collection,
        {**codec, "search.kind": "exhaustive", "dataset.path": collection},
        {"RR@10": sum(values.values()) / len(values), **figures},
        lambda: {"RR@10": values},
    )


def difference(**bounds):
    return MeanDifference(measure="RR@10", of={"codec.nbits": 2}, to={"codec.kind": "exact"}, **bounds)


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


WEAKER = {"kind": "figure", "figure": "overlap@10", "of": {"codec.nbits": 2}, "low": 0.9}
UNTOLD = {"kind": "untestable", "reason": "LoTTE is needed."}


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


EVIDENCE = Evidence(
    tuple(
        item(
            bits,
            0.5 + (bits or 9) / 1000,
            collection=name,
            **{"overlap@10": 0.9 + (bits or 9) / 100, "bytes/token": bits or 512},
        )
        for bits in (None, 1, 2, 4)
        for name in ("nfcorpus", "scifact")
    )
)
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


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"kind": "correlation", "figure": "a", "beside": "b", "low": -1}, "always lies between"),
        ({"kind": "exists", "of": {}, "conditions": [{"figure": "a", "low": 1, "ratio": True}]}, "needs `to`"),
        ({"kind": "exists", "of": {}, "conditions": [{"figure": "a"}]}, "it is no rule"),
        ({"kind": "exists", "of": {}, "conditions": []}, "at least 1"),
    ],
)
def test_a_rule_of_several_figures_that_holds_always_is_none(rule, message):
    with pytest.raises(ValueError, match=message):
        Claim.model_validate({**CLAIM, "rule": rule})


def test_a_claim_is_judged_by_the_first_grid_that_has_what_it_asks_for(tmp_path):
    """A full grid that has begun hides no finished quick one, and what neither has is not testable."""
    from tests.ledger.made_up import make_up

    grid = {"base": str(Path("configs/residual.yaml").resolve()), "overrides": {"measures": ["RR@10"]}}
    points = {"full": [{"codec.nbits": 4}], "quick": [{"codec.nbits": 2}, {"codec.kind": "exact"}]}
    for name, each in points.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**grid, "points": each}))
        make_up(tmp_path / f"{name}.yaml", tmp_path / "03" / name)
    sixteen = {**CLAIM, "id": "four", "rule": {"kind": "figure", "figure": "RR@10", "of": {"codec.nbits": 4}, "low": 0.1}}
    nothing = {**CLAIM, "id": "eight", "rule": {**CLAIM["rule"], "of": {"codec.nbits": 8}}}
    text = yaml.safe_dump({**ABLATION, "claims": [CLAIM, sixteen, nothing]})
    (tmp_path / "03" / "claims.yaml").write_text(text)
    entries = Ledger.load(tmp_path).entries
    assert [Path(each.folder).name for each in entries] == ["quick", "full", "full"]
    assert [bool(each.finding.records) for each in entries] == [True, True, False]


def committed():
    return sorted(Path("experiments/ablations").rglob("claims.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("file", committed(), ids=lambda file: file.parent.name)
def test_every_committed_claim_can_fail(file):
    """By made-up records that contradict it, a claim that records support is not reproduced."""
    ablation = Ablation.load(file)
    for name in ablation.records:
        evidence = Evidence.below(file.parent / name)
        for claim in ablation.claims if evidence.items else ():
            for rule in claim.rules:
                if found_by(rule, evidence).verdict != UNTESTABLE:
                    assert rule.judge(rule.violated(evidence)).verdict == REFUTED, claim.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "reproduced"}, "verdict"),
        ({"rule": {**CLAIM["rule"], "verdict": "reproduced"}}, "verdict"),
        ({"rule": {**CLAIM["rule"], "low": None}}, "it is no rule"),
        ({"rule": {**CLAIM["rule"], "low": 0.2, "high": 0.1}}, "it is no rule"),
        ({"rule": {"kind": "ratios"}}, r"claim 'two-bits': rule: unknown kind 'ratios': did you mean 'ratio'\?"),
        ({"rule": {"low": 0.1}}, r"claim 'two-bits': rule: a rule is a mapping with a `kind` \(mean_difference, "),
        ({"rule": "ratio"}, "a mapping with a `kind` .*; given 'ratio'"),
        ({"rule": {**CLAIM["rule"], "of": "codec.nbits=2"}}, "claim 'two-bits': .*of: expected a mapping, as {name: value}"),
        ({"rule": {**CLAIM["rule"], "mesure": "AP"}}, "claim 'two-bits': .*did you mean 'measure'"),
        ({"id": "Two Bits"}, "claim 'Two Bits': id"),
    ],
)
def test_a_verdict_cannot_be_written_and_a_rule_that_holds_always_is_none(change, message, tmp_path):
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump({**ABLATION, "claims": [{**CLAIM, **change}]}))
    with pytest.raises(ConfigError, match=message):
        Ablation.load(file)


def test_a_list_is_called_a_list(tmp_path):
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({**ABLATION, "records": "quick"}))
    with pytest.raises(ConfigError, match=r"records: expected a list, as \[a, b\] \(given 'quick'\)"):
        Ablation.load(tmp_path / "claims.yaml")


def test_two_claims_of_one_name_are_refused(tmp_path):
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({**ABLATION, "claims": [CLAIM, CLAIM]}))
    with pytest.raises(ConfigError, match="two claims are called 'two-bits'"):
        Ablation.load(tmp_path / "claims.yaml")


def test_a_setting_that_no_record_has_is_named():
    with pytest.raises(ConfigError, match=r"codec\.nbit is no setting.*codec\.nbits"):
        Figure(figure="RR@10", of={"codec.nbit": 2}, low=0.1).judge(EVIDENCE)
    with pytest.raises(ConfigError, match=r"codec\.nbit is no setting.*Valid: codec\.centroids, codec\.kind, codec\.nbits$"):
        Shares(figure="RR@10", axes=("codec.centroids", "codec.nbit")).judge(EVIDENCE)


def test_the_ledger_without_records_says_that_nothing_was_run(tmp_path):
    (tmp_path / "03").mkdir()
    (tmp_path / "03" / "claims.yaml").write_text(yaml.safe_dump(ABLATION))
    ledger = Ledger.load(tmp_path)
    assert ledger.counts() == {REPRODUCED: 0, TREND: 0, REFUTED: 0, UNTESTABLE: 1}
    assert ledger.entries[0].finding.reason.endswith("the sweep has not run")
    run = CliRunner().invoke(main, ["ledger", str(tmp_path), "--write", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    assert "1 claims: 0 reproduced, 0 trend only, 0 not reproduced, 1 not testable here." in run.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ledger.md", "ledger.csv", "ledger.html"}
    empty = CliRunner().invoke(main, ["ledger", str(tmp_path / "out")])
    assert empty.exit_code == 1
    assert "no claims.yaml" in empty.output


def test_what_records_lack_is_the_reason():
    """As after the first runs of a sweep, none of which has the setting that a claim names."""
    exact = Evidence((item(None, 0.5),))
    rule = {"kind": "figure", "figure": "overlap@10", "of": {"codec.kind": "exact"}, "low": 0.9}
    lacking = finding_of(Claim.model_validate({**CLAIM, "rule": rule}), exact)
    assert lacking.reason.startswith("record nfcorpus-None-64-0.5 has no overlap@10; ")
    early = finding_of(Claim.model_validate(CLAIM), exact)
    assert (early.verdict, early.reason.split(";")[0]) == (UNTESTABLE, "codec.nbits is no setting of these records")


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


def test_a_metric_of_another_name_is_told_the_nearest():
    found = finding_of(Claim.model_validate({**CLAIM, "rule": {**CLAIM["rule"], "measure": "MRR@10"}}), EVIDENCE)
    assert found.reason == "record nfcorpus-2-64-0.502 has no values of MRR@10; did you mean 'RR@10'? Valid: RR@10"


def test_the_command_names_the_records_behind_a_verdict(tmp_path):
    from tests.ledger.made_up import make_up

    grid = {"base": str(Path("configs/residual.yaml").resolve()), "overrides": {"measures": ["RR@10"]}}
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump({**grid, "points": [{"codec.nbits": 2}, {"codec.kind": "exact"}]}))
    make_up(tmp_path / "quick.yaml", tmp_path / "03" / "quick")
    (tmp_path / "03" / "claims.yaml").write_text(yaml.safe_dump(ABLATION))
    (entry,) = Ledger.load(tmp_path).entries
    printed = CliRunner().invoke(main, ["ledger", str(tmp_path)]).output
    assert f"Records in {tmp_path / '03' / 'quick'}: {' '.join(entry.finding.records)}\n" in printed


def test_a_grid_says_of_which_collections_it_is_the_mean():
    view = View(Ablation.model_validate(ABLATION), Path("none"), EVIDENCE)
    figure = plot_grid(view, rows="codec.centroids", columns="codec.nbits", value="overlap@10")
    assert figure.axes[0].get_title(loc="left") == "overlap@10, mean of nfcorpus, scifact"


@pytest.mark.slow
def test_claims_are_judged_by_records_of_experiments(tmp_path):
    """From an experiment to a verdict: the bundled collection, exact and at two bits."""
    from colbert_research import Experiment
    from colbert_research.config import load_config
    from colbert_research.experiment import ExperimentConfig

    folder = tmp_path / "03" / "quick"
    for number, codec in enumerate(("codec.kind=exact", "codec.kind=residual codec.nbits=2 codec.centroids=64")):
        settings = f"encoder.kind=hashing search.kind=exhaustive k=20 measures=[RR@10] {codec}"
        Experiment(load_config(ExperimentConfig, "configs/tiny.yaml", settings), output=folder / str(number)).save()
    (tmp_path / "03" / "claims.yaml").write_text(yaml.safe_dump(ABLATION))
    (entry,) = Ledger.load(tmp_path).entries
    ids = {json.loads((folder / str(n) / "record.json").read_text())["id"] for n in range(2)}
    assert set(entry.finding.records) == ids
    assert entry.finding.verdict in (REPRODUCED, TREND, REFUTED, UNTESTABLE)
    assert entry.finding.ours
