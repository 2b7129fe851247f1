"""An experiment small enough to judge by hand: twelve documents about three things, and a question about each."""

import json
from pathlib import Path

from colbert_research.artifacts import StageCache
from colbert_research.config import load_config
from colbert_research.experiment import Experiment, ExperimentConfig

TINY = Path(__file__).resolve().parent.parent / "configs" / "tiny.yaml"
SUBJECTS = ("apple orchard cider", "banana peel yellow", "cherry blossom pink")


def write_folder(path: Path, document: str) -> Path:
    """A BEIR folder whose documents are `document` with their `subject` and number `i`."""
    (path / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{i}", "title": "", "text": document.format(subject=SUBJECTS[i % 3], i=i)} for i in range(12)]
    queries = [{"_id": f"q{i}", "text": text} for i, text in enumerate(["apple cider", "yellow banana", "pink cherry"])]
    (path / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in documents))
    (path / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    rows = [f"q{q}\td{d}\t1\n" for q in range(3) for d in range(q, 12, 3)]
    (path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return path


def make(cache: StageCache, folder: Path, overrides: str = "", output: Path | None = None) -> Experiment:
    text = f"dataset.path={folder} codec.centroids=8 search.ncells=8 search.ndocs=12 search.n_exact=12 k=10 {overrides}"
    return Experiment(load_config(ExperimentConfig, TINY, text), cache=cache, output=output)


def states(experiment: Experiment) -> dict[str, str]:
    """Stage -> whether it was cached or computed, of the stages that have run."""
    return dict(experiment.status()["state"])
