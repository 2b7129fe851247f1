"""The measurements that ship with `colbert-research cost`: those of the records and of the lines of benchmarks below a folder.

python experiments/benchmarks/costs.py [--records experiments]
"""

from pathlib import Path

import click

from colbert_research.artifacts import write_text
from colbert_research.costs import read_measurements
from colbert_research.costs.measurements import SHIPPED

ROOT = Path(__file__).resolve().parents[2]


@click.command()
@click.option("--records", default=ROOT / "experiments", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(records: Path) -> None:
    """Write measured.json into the package."""
    found = read_measurements(records)
    write_text(ROOT / "colbert_research" / "costs" / SHIPPED, found.to_json())
    click.echo(
        f"{len(found.timings)} times, {len(found.latencies)} latencies, {len(found.sizes)} sizes, {len(found.tails)} tails"
    )


if __name__ == "__main__":
    main()
