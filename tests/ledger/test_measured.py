"""Lines of benchmarks are evidence, and a claim that lacks records says what a machine needs to make them."""

import json

from colbert_research.ledger import Claim, Evidence
from colbert_research.ledger.findings import REPRODUCED, UNTESTABLE
from colbert_research.ledger.ledger import finding_of

CLAIM = {
    "id": "root",
    "claim": "Latency grows with the square root",
    "paper": "Santhanam et al. 2022",
    "where": "Figure 7",
    "published": "an exponent of .5",
    "rule": {
        "kind": "slope",
        "figure": "plaid.ms",
        "over": "tokens",
        "of": {"settings.model": "tokens"},
        "low": 0.4,
        "high": 0.6,
    },
}


def test_numbers_are_figures_and_all_else_settings(tmp_path, caplog):
    lines = [
        {"tokens": n, "plaid": {"ms": n**0.5, "exact": True}, "settings": {"model": "tokens", "k": [1]}} for n in (4, 9, 16)
    ]
    (tmp_path / "scaling.jsonl").write_text("\n".join([*map(json.dumps, lines), "no JSON", "3"]) + "\n")
    evidence = Evidence.below(tmp_path)
    assert [item.id for item in evidence.items] == ["scaling.jsonl:1", "scaling.jsonl:2", "scaling.jsonl:3"]
    assert evidence.collections == ["scaling"]
    assert evidence.items[1].figures == {"tokens": 9, "plaid.ms": 3}
    assert evidence.items[1].settings["settings.model"] == "tokens"
    assert evidence.items[1].settings["plaid.exact"] is True
    assert caplog.text.count("passed over") == 2
    assert "scaling.jsonl, line 4" in caplog.text
    finding = finding_of(Claim.model_validate(CLAIM), evidence)
    assert (finding.verdict, finding.ours) == (REPRODUCED, "3 records: 0.5; the largest 2: 0.5")


def test_what_a_claim_needs_is_told_where_records_are_lacking(tmp_path):
    claim = Claim.model_validate({**CLAIM, "needs": "a processor with AMX"})
    finding = finding_of(claim, Evidence.below(tmp_path))
    assert finding.verdict == UNTESTABLE
    assert finding.reason.endswith("; it needs a processor with AMX")
