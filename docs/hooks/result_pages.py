"""Pages of results: the tables that are committed, the diary, the ledger of claims, and their figures."""

import re
from pathlib import Path

from colbert_research.ledger import Ledger

PLACES = {
    "experiments/RESULTS.md": "results/index.md",
    "EXPERIMENTS.md": "results/diary.md",
    "CHANGELOG.md": "results/changelog.md",
}
"""Files of the project that are pages of the book."""

INTRODUCED = """
What papers claim, and what the records of this project say of it. Every verdict is computed from records, by the rule in a
`claims.yaml`, as `colbert-research ledger` does; none is written by hand. A claim that fails on a frozen encoder is a finding
about that encoder, not about the paper.
"""


def pages(root: Path) -> dict[str, str | bytes]:
    """Every page of results, and every figure, by its place in the book."""
    figures = {f"figures/{path.name}": path.read_bytes() for path in sorted((root / "experiments/figures").glob("*.png"))}
    copies = {place: relinked((root / file).read_text(encoding="utf-8"), "../") for file, place in PLACES.items()}
    return {**figures, **copies, "results/ledger.md": ledger(root / "experiments/ablations")}


def relinked(text: str, up: str) -> str:
    """Links into the project as links of the book, from a page that lies `up` folders below its root."""
    text = re.sub(r"\]\((?:\.\./)*experiments/figures/", f"]({up}figures/", text)
    for file, place in PLACES.items():
        text = text.replace(f"]({file})", f"]({up}{place})")
    return text


def ledger(folder: Path) -> str:
    """Every claim below a folder, under the question that it belongs to, with the verdict that the records give it."""
    found = Ledger.load(folder)
    lines = [
        "# Ledger of claims",
        "",
        INTRODUCED.strip(),
        "",
        f"**{found.words()}**",
        "",
        *_table(["paper", *found.counts()], found.by_paper().to_numpy().tolist()),
    ]
    for ablation in dict.fromkeys(each.ablation for each in found.entries):
        entries = [each for each in found.entries if each.ablation == ablation]
        question, ours = _asked(folder, ablation)
        lines += ["", f"## {ablation}: {question}" if question else f"## {ablation}", ""]
        lines += [f"Here: {ours}", ""] if ours else []
        rows = [
            [
                f"**{each.finding.verdict}**",
                each.claim.claim,
                f"{each.claim.paper}, {each.claim.where}: {each.claim.published}",
                f"{each.finding.ours} ({each.finding.reason})" if each.finding.ours else each.finding.reason,
            ]
            for each in entries
        ]
        lines += _table(["verdict", "claim", "published", "here"], rows)
    return "\n".join(lines) + "\n"


def _asked(folder: Path, ablation: str) -> tuple[str, str]:
    """The question of an ablation, and what its records are of."""
    from colbert_research.ledger import Ablation

    found = [Ablation.load(file) for file in sorted(folder.rglob("claims.yaml"))]
    return next(((each.question, " ".join(each.ours.split())) for each in found if each.name == ablation), ("", ""))


def _table(heads: list[str], rows: list[list[object]]) -> list[str]:
    """A Markdown table; what would end a cell is escaped."""
    cells = [[" ".join(str(cell).split()).replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *cells)]
