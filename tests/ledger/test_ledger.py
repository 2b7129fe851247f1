"""Verdicts come from records alone, every rule can fail, and a claim has no place for a verdict."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from colbert_research.cli import main
from colbert_research.ledger import Ablation, Claim, Evidence, Ledger, View, plot_grid
from colbert_research.ledger.findings import REFUTED, REPRODUCED, TREND, UNTESTABLE
from colbert_research.ledger.ledger import finding_of, found_by
from colbert_research.settings import ConfigError
from tests.ledger.made_up_items import ABLATION, CLAIM, EVIDENCE, item


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
