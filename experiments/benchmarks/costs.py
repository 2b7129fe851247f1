"""The measurements that ship with `colbert-research cost`: those of the records and of the lines of benchmarks below a folder.

What the book prints of that command (`docs/explanation/scale.md`) is printed anew.

    python experiments/benchmarks/costs.py [--records experiments]

Refused where records or lines lie there that are not committed, for then nobody could tell where a measurement comes from.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click

from colbert_research.artifacts import write_text
from colbert_research.costs import read_measurements
from colbert_research.costs.measurements import SHIPPED

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "scale.md"
PRINTED = re.compile(r"```sh\ncolbert-research (cost[^\n]*)\n```\n\n```text\n.*?\n```", re.DOTALL)


@click.command()
@click.option("--records", default=ROOT / "experiments", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(records: Path) -> None:
    """Write measured.json into the package."""
    if strange := uncommitted(records):
        raise click.ClickException(
            f"{len(strange)} records or lines below {records} are not committed as they are, such as {strange[0]}; commit or "
            "remove them, or give a clone"
        )
    found = read_measurements(records)
    write_text(ROOT / "colbert_research" / "costs" / SHIPPED, found.to_json())
    write_text(PAGE, PRINTED.sub(printed, PAGE.read_text(encoding="utf-8")))
    click.echo(
        f"{len(found.timings)} times, {len(found.latencies)} latencies, {len(found.sizes)} sizes, {len(found.tails)} tails"
    )


def printed(block: re.Match[str]) -> str:
    """A command of the page, and what it prints now."""
    command = [sys.executable, "-m", "colbert_research", *shlex.split(block[1])]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return f"```sh\ncolbert-research {block[1]}\n```\n\n```text\n{out.rstrip()}\n```"


def uncommitted(records: Path) -> list[str]:
    """Records and lines of benchmarks below a folder of a git checkout that are untracked, ignored or changed."""
    command = ["git", "-C", str(records), "status", "--porcelain", "-z", "--ignored", "--untracked-files=all", "--", "."]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line[3:] for line in said.split("\0") if line.endswith(("record.json", ".jsonl"))]


if __name__ == "__main__":
    main()
