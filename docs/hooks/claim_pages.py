"""The page of `claims.yaml`: its keys, those of a claim, and every rule, from the pydantic models."""

from setting_pages import WORDS, described, tabled

from colbert_research.ledger import Ablation, Claim
from colbert_research.ledger.relations import Condition
from colbert_research.ledger.rules import RULES

WORDS |= {Claim: "[claim](#a-claim)", Condition: "[condition](#a-condition)"}
WORDS |= {rule: f"[{kind}](#{kind})" for kind, rule in RULES.items()}
INTRODUCED = """
Made from the models themselves. `colbert-research ledger FOLDER` judges every `claims.yaml` below a folder; how to write one is
[told here](../how-to/claims.md). An unknown key, a rule that cannot fail and a verdict written by hand are errors. Settings
(`of`, `to`, `along`) are written by their dotted names, as in `codec.nbits`; of a list of values, any will do. `collection` is
a setting, too: the name of the collection.
"""


def claims() -> str:
    """Every key of a file of claims, and every kind of rule."""
    lines = ["# Claims", "", INTRODUCED.strip(), "", "## The file", "", described(Ablation), "", *tabled(Ablation)]
    lines += ["", "## A claim", "", described(Claim), "", *tabled(Claim), "", "## Rules", ""]
    lines += [" · ".join(f"[`{kind}`](#{kind})" for kind in RULES)]
    for kind, rule in RULES.items():
        lines += ["", f"### {kind} {{ #{kind} }}", "", described(rule), "", *tabled(rule)]
    return "\n".join([*lines, "", "### A condition", "", described(Condition), "", *tabled(Condition)]) + "\n"
