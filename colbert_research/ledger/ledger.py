"""`Ledger`: every claim below a folder with its verdict, as tables."""

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from colbert_research.artifacts import write_text
from colbert_research.experiment.record import RecordError
from colbert_research.experiment.summary import markdown, put_between
from colbert_research.ledger.claims import FILE, Ablation, Claim
from colbert_research.ledger.evidence import Evidence
from colbert_research.ledger.findings import UNTESTABLE, VERDICTS, Finding, LackingError, Rule, with_trend
from colbert_research.settings import ConfigError

if TYPE_CHECKING:
    import pandas as pd

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 76rem; padding: 0 1rem; color: #222 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 13px } th { background: #f4f4f4; text-align: left }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; overflow-wrap: anywhere }
"""


@dataclass(frozen=True)
class Judged:
    """A claim, the ablation that it belongs to, and what the records in `folder` say of it."""

    ablation: str
    claim: Claim
    finding: Finding
    folder: str


@dataclass(frozen=True)
class Ledger:
    """Claims with verdicts, in the order of their files."""

    entries: tuple[Judged, ...]

    @classmethod
    def load(cls, folder: str | Path = "experiments/ablations") -> "Ledger":
        """Judge every claim of each `claims.yaml` below a folder. Raises ConfigError where there is none."""
        files = sorted(Path(folder).rglob(FILE))
        if not files:
            raise ConfigError(f"no {FILE} in {folder} or below it")
        return cls(tuple(each for file in files for each in judge(Ablation.load(file), file.parent)))

    def frame(self) -> "pd.DataFrame":
        """One row for each claim; `records` are the ids of those behind the verdict."""
        import pandas as pd

        rows = [
            {
                "ablation": each.ablation,
                "id": each.claim.id,
                "claim": each.claim.claim,
                "paper": each.claim.paper,
                "where": each.claim.where,
                "published": each.claim.published,
                "ours": each.finding.ours,
                "verdict": each.finding.verdict,
                "reason": each.finding.reason,
                "folder": each.folder,
                "records": " ".join(each.finding.records),
            }
            for each in self.entries
        ]
        return pd.DataFrame(rows)

    def counts(self) -> dict[str, int]:
        """How many claims have each verdict, in the order of `VERDICTS`."""
        found = Counter(each.finding.verdict for each in self.entries)
        return {verdict: found[verdict] for verdict in VERDICTS}

    def by_paper(self) -> "pd.DataFrame":
        """One row for each paper with a verdict that records gave: how many of its claims have each; the last, all others."""
        import pandas as pd

        papers = dict.fromkeys(each.claim.paper for each in self.entries if each.finding.verdict != UNTESTABLE)
        parts = {paper: tuple(each for each in self.entries if each.claim.paper == paper) for paper in papers}
        if others := tuple(each for each in self.entries if each.claim.paper not in papers):
            parts[f"{len({each.claim.paper for each in others})} others"] = others
        return pd.DataFrame([{"paper": paper, **Ledger(entries).counts()} for paper, entries in parts.items()])

    def words(self) -> str:
        """How many claims have each verdict, in a sentence."""
        counts = ", ".join(f"{n} {verdict}" for verdict, n in self.counts().items())
        return f"{len(self.entries)} claims: {counts}."

    def write(self, folder: str | Path) -> list[Path]:
        """Write `ledger.md`, `ledger.csv` and `ledger.html` into a folder; returns their paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        frame = self.frame()
        short = frame[["ablation", "claim", "paper", "where", "published", "ours", "verdict"]]
        files = [folder / f"ledger.{kind}" for kind in ("md", "csv", "html")]
        table = short.map(lambda text: str(text).replace("|", "\\|"))
        write_text(files[0], f"# Ledger of claims\n\n{self.words()}\n\n{markdown(self.by_paper())}\n{markdown(table)}")
        write_text(files[1], frame.to_csv(index=False))
        write_text(files[2], _page(self.words(), frame))
        return files

    def put_into(self, page: Path, folder: str | Path) -> None:
        """Replace the table by paper between the marks `<!-- ledger of FOLDER -->` and `<!-- end of ledger -->` of a page.

        Raises ConfigError for a page without such marks, as where the verdicts are those of a part of what it shows.
        """
        start = f"ledger of {Path(folder).as_posix()}"
        put_between(page, start, "end of ledger", lambda _: f"{self.words()}\n\n{markdown(self.by_paper())}")


def judge(ablation: Ablation, folder: Path) -> list[Judged]:
    """Every claim of an ablation, each by the records in the first of its folders whose records have what it asks for.

    A figure or a setting that records lack, and files that are not those of a record, make a claim not testable, and are the
    reason that is given.
    """
    found = [(str(folder / name), Evidence.below(folder / name)) for name in ablation.records]
    found = [each for each in found if each[1].items] or found[-1:]
    judged = []
    for claim in ablation.claims:
        findings = [Judged(ablation.name, claim, finding_of(claim, evidence), where) for where, evidence in found]
        judged.append(next((each for each in findings if each.finding.records), findings[0]))
    return judged


def finding_of(claim: Claim, evidence: Evidence) -> Finding:
    """What the claim's rules find, or why they cannot tell; the reason says how many records could not be read."""
    finding = found_by(claim.rule, evidence)
    if claim.trend is not None:
        finding = with_trend(finding, found_by(claim.trend, evidence))
    reason = finding.reason
    if claim.needs and not finding.records:
        reason += f"; it needs {claim.needs}"
    if evidence.unread:
        reason += f"; without {evidence.unread[0]}, which cannot be read" + f", and {len(evidence.unread) - 1} more" * (
            len(evidence.unread) > 1
        )
    return replace(finding, reason=reason)


def found_by(rule: Rule, evidence: Evidence) -> Finding:
    """What one rule finds; not testable, and why, where records lack what it asks for."""
    try:
        evidence.check_unmixed()
        return rule.judge(evidence)
    except (LackingError, RecordError, ConfigError) as error:
        return Finding(UNTESTABLE, "", str(error.args[0]))


def _page(words: str, frame: "pd.DataFrame") -> str:
    shown: Sequence[str] = ("ablation", "claim", "paper", "where", "published", "ours", "verdict", "reason")
    table = frame[list(shown)].to_html(index=False, border=0)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Ledger of claims</title><style>{STYLE}</style><h1>Ledger of claims</h1><p>{html.escape(words)}</p>"
        f'<div class="wide">{table}</div></html>\n'
    )
