"""An experiment small enough to judge by hand: twelve documents about three things, and a question about each."""

import json
from pathlib import Path

from colbert_research.cache import StageCache
from colbert_research.config import load_config
from colbert_research.experiment import Experiment, ExperimentConfig, Workspace
from colbert_research.settings import merge, parse_overrides

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs" / "tiny.yaml"
SUBJECTS = ("apple orchard cider", "banana peel yellow", "cherry blossom pink")
FILES = ("config.yaml", "ranking.parquet", "per_query.parquet", "record.json")
SETTINGS = "codec.centroids=8 search.ncells=8 search.ndocs=12 search.n_exact=12 k=10 measures=[nDCG@10,R@10,RR@10,AP]"


def write_folder(path: Path, document: str = "{subject} note {i}") -> Path:
    """A BEIR folder whose documents are `document` with their `subject` and number `i`."""
    (path / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{i}", "title": "", "text": document.format(subject=SUBJECTS[i % 3], i=i)} for i in range(12)]
    queries = [{"_id": f"q{i}", "text": text} for i, text in enumerate(["apple cider", "yellow banana", "pink cherry"])]
    (path / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in documents))
    (path / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    rows = [f"q{q}\td{d}\t1\n" for q in range(3) for d in range(q, 12, 3)]
    (path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return path


def make(
    cache: Path | Workspace, folder: Path, overrides: str | tuple[str, ...] = "", output: Path | None = None
) -> Experiment:
    """An experiment over such a folder, with overrides laid over each other: in a workspace, or, as another process would have
    it, in one of its own over the cache in a folder."""
    workspace = cache if isinstance(cache, Workspace) else Workspace(StageCache(cache))
    settings = parse_overrides(f"dataset.path={folder} {SETTINGS}")
    for each in (overrides,) if isinstance(overrides, str) else overrides:
        settings = merge(settings, parse_overrides(each))
    config = load_config(ExperimentConfig, TINY, settings)
    return Experiment(config, workspace=workspace, output=output)


def states(experiment: Experiment) -> dict[str, str]:
    """Stage -> whether it was cached or computed, of the stages that were asked for."""
    return dict(experiment.status()["state"])
