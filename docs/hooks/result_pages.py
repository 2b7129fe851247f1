"""Pages of results: the tables that are committed, the diary, the ledger of claims, and their figures."""

import re
from pathlib import Path

from notebook_pages import ablations as notebooks
from notebook_pages import page_of

from colbert_research.ledger import Ablation, Judged, Ledger

PLACES = {
    "experiments/RESULTS.md": "results/index.md",
    "EXPERIMENTS.md": "results/diary.md",
    "CHANGELOG.md": "results/changelog.md",
}
"""Files of the project that are pages of the book."""

INTRODUCED = """
What papers claim, and what the records of this project say of it. Every verdict is computed from records, by the rule in a
`claims.yaml`, as `colbert-research ledger` does; none is written by hand. A claim that fails on a frozen encoder is a finding
about that encoder, not about the paper. Behind each claim stands its id, behind each number the records that it comes from:
[how to trace one](../how-to/claims.md).
"""


def pages(root: Path) -> dict[str, str | bytes]:
    """Every page of results, and every figure, by its place in the book."""
    figures = {f"figures/{path.name}": path.read_bytes() for path in sorted((root / "experiments/figures").glob("*.png"))}
    copies = {place: relinked((root / file).read_text(encoding="utf-8"), "../") for file, place in PLACES.items()}
    return {**figures, **copies, "results/ledger.md": ledger(root)}


def relinked(text: str, up: str) -> str:
    """Links into the project as links of the book, from a page that lies `up` folders below its root."""
    text = re.sub(r"\]\((?:\.\./)*experiments/figures/", f"]({up}figures/", text)
    for file, place in PLACES.items():
        text = text.replace(f"]({file})", f"]({up}{place})")
    return text


def ledger(root: Path) -> str:
    """Every claim of the project's ablations, under the question that it belongs to, with the verdict that records give it."""
    folder = root / "experiments/ablations"
    found = Ledger.load(folder)
    ablations = {each.name: each for each in map(Ablation.load, sorted(folder.rglob("claims.yaml")))}
    lines = ["# Ledger of claims", "", INTRODUCED.strip(), "", f"**{found.words()}**", ""]
    lines += _table(["paper", *found.counts()], found.by_paper().to_numpy().tolist())
    for name, ablation in ablations.items():
        lines += ["", f"## {name}: {ablation.question}", "", f"Here: {' '.join(ablation.ours.split())}", ""]
        pages = [page_of(root, path) for path in notebooks(root) if path.name.startswith(f"{name}_")]
        lines += [
            line for page in pages for line in (f"[Its notebook](../{page}): tables and figures of the same records.", "")
        ]
        entries = [each for each in found.entries if each.ablation == name]
        lines += _table(["verdict", "claim", "published", "here"], [_row(each, root) for each in entries])
    return "\n".join(lines) + "\n"


def _row(judged: Judged, root: Path) -> list[object]:
    claim, finding = judged.claim, judged.finding
    folder = Path(judged.folder).relative_to(root).as_posix()
    records = f" `{folder}`: `{' '.join(finding.records)}`" if finding.records else ""
    published = f"{claim.paper}, {claim.where}: {claim.published}"
    here = f"{finding.ours} ({finding.reason})" if finding.ours else finding.reason
    return [f"**{finding.verdict}**", f"{claim.claim} `{claim.id}`", published, here + records]


def _table(heads: list[str], rows: list[list[object]]) -> list[str]:
    """A Markdown table; what would end a cell is escaped."""
    cells = [[" ".join(str(cell).split()).replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *cells)]
