"""Make the pictures of README anew, in experiments/figures/: from the bundled collection, and from the records of a sweep.

python experiments/figures.py
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from colbert_research.config import load_config
from colbert_research.evaluation.tradeoff import plot_tradeoff
from colbert_research.experiment import Experiment, ExperimentConfig, summarize

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
FIGURES, RECORDS = ROOT / "experiments" / "figures", ROOT / "experiments" / "tradeoff"
QUESTION = "What animation studio did Miyazaki found?"


@click.command()
@click.option("--into", default=FIGURES, type=click.Path(file_okay=False, path_type=Path), help="Folder of the pictures.")
def main(into: Path) -> None:
    """Write heatmap.png and tradeoff.png."""
    into.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(load_config(ExperimentConfig, ROOT / "configs" / "quickstart.yaml"), output=into / "scratch")
    experiment.plot(QUESTION).savefig(into / "heatmap.png")
    plot_tradeoff(timed_rows()).savefig(into / "tradeoff.png")
    click.echo(f"{into / 'heatmap.png'}\n{into / 'tradeoff.png'}")


def timed_rows() -> "pd.DataFrame":
    """The records of the sweep `tradeoff`, one row each, with a label of codec and search."""
    table = summarize(RECORDS, configs=ROOT / "configs")
    return table.assign(label=[_label(row) for _, row in table.iterrows()])


def _label(row: "pd.Series[str]") -> str:
    """Codec, search, and how many documents that scores in full, where its settings say so."""
    codec = row["codec"].replace("residual ", "").replace("exact float32", "float32")
    exact = [part.split("=")[1] for part in row["settings"].split() if part.startswith("search.n_exact=")]
    return " ".join([f"{codec}, {row['search']}", *exact])


if __name__ == "__main__":
    main()
