"""Records of a sweep that nobody ran: the settings of its points, and numbers from a seed. What reads records can be tried on
them, and a claim that asks for a setting that no point has is found before anything is computed."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from colbert_research.artifacts import sha256_file
from colbert_research.config import content_hash, load_config
from colbert_research.experiment import ExperimentConfig, Record
from colbert_research.experiment.anatomies import DISTINCT, SCORES, SHARES
from colbert_research.experiment.record import ANATOMY, CONFIG, FILE, OVERLAP, PER_QUERY
from colbert_research.sweep.config import Point, SweepConfig
from colbert_research.sweep.sweep import importing

QUERIES = 12
AGREEMENT = ("overlap@100", "RBO(p=0.9)", "RBO(p=0.99)")
WITHIN = {10: (20, 50, 100, 200), 100: (200, 500, 1000)}
CLUSTERS = (
    *("median cluster purity", "median token purity", "clusters of purity above .95", "tokens of purity above .95"),
    "homogeneity",
    *(f"clusters of at most {n} tokens{more}" for n in DISTINCT for more in ("", ", shuffled")),
    *(f"{what} of purity up to {share:g}" for what in ("clusters", "tokens") for share in SHARES),
    *(f"centroids scoring up to {score:g}" for score in SCORES),
)
UNITS = ("centroids", "documents", "tokens", "bytes")
STAGES = ("probe", "candidates", "first stage", "pruned interaction", "interaction", "exact", "score", "scan", "terms")


def make_up(sweep: Path, folder: Path, *, most: int = 400) -> int:
    """Write a record for each point of a sweep's file below a folder, at most so many; returns how many."""
    points = list(SweepConfig.load(sweep).expand())
    for number, point in enumerate(points[:most]):
        _write(folder / f"{number:03}", config_of(sweep, point), np.random.default_rng(number))
    return min(most, len(points))


def config_of(sweep: Path, point: Point) -> ExperimentConfig:
    """The experiment of a point of a sweep's file; what it names need not be there."""
    with importing([str(sweep.parent)]):  # modules of a sweep's own
        return _config(str((sweep.parent / point.base).resolve()), point.text)


@cache
def _config(base: str, overrides: str) -> ExperimentConfig:
    return load_config(ExperimentConfig, base, overrides)


def _write(folder: Path, config: ExperimentConfig, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    settings = config.model_dump(mode="json")
    name = Path(str(settings["dataset"].get("path", "made-up"))).name
    values = {measure: rng.uniform(0.2, 0.9, QUERIES) for measure in config.measures}
    rows = [(f"q{i}", measure, value) for measure, each in values.items() for i, value in enumerate(each)]
    pd.DataFrame(rows, columns=["query_id", "measure", "value"]).to_parquet(folder / PER_QUERY, index=False)
    (folder / CONFIG).write_text(yaml.safe_dump(settings))
    size = int(rng.integers(1_000, 2_000))
    record = Record(
        id=content_hash("made up", settings)[:12],
        config=settings,
        dataset={"name": name, "fingerprint": name, "documents": 100, "queries": QUERIES, "judgements": 40},
        stages={"encode documents": name, "index": name},
        metrics={measure: float(each.mean()) for measure, each in values.items()},
        results={"queries": QUERIES, "fewer_than_k": 0, "shortest": config.k},
        work={stage: {unit: int(rng.integers(100, 10_000)) for unit in UNITS} for stage in STAGES},
        index={
            "tokens": size,
            "dim": 128,
            "segments": 1,
            "bytes": {"codes": 40 * size, "codec": size, "inverted": size, "documents": size, "total": 43 * size},
            "structures": {},
            "code_bytes_per_token": 40,
            "anisotropy": float(rng.uniform(0, 0.5)),
        },
        latency={"query_ms": dict.fromkeys(("median", "p95", "mean"), float(rng.uniform(1, 9))), "threads": 1, "stage_ms": {}},
        measured={
            "seconds": {stage: float(rng.uniform(1, 9)) for stage in ("encode documents", "cluster", "index", "rank")},
            "search_notes": [f"emvb scored {int(rng.integers(1, 100))} of 100 terms, in words"],
        },
    )
    file = {"bytes": (folder / PER_QUERY).stat().st_size, "sha256": sha256_file(folder / PER_QUERY)}
    (folder / FILE).write_text(record.text({PER_QUERY: file}))
    figures = {name: float(rng.uniform(0.5, 1)) for name in AGREEMENT}
    figures |= {f"nRecall@{k} within {depth}": float(rng.uniform(0.5, 1)) for k in WITHIN for depth in WITHIN[k]}
    told = {"overlap@10": float(rng.uniform(0.5, 1)), "figures": figures, "rankings": {"own": ""}}
    told["codes"] = dict(told)
    (folder / OVERLAP).write_text(json.dumps(told))
    shares = {name: float(rng.uniform(0, 1)) for name in CLUSTERS} if settings["codec"].get("centroids") else {}
    (folder / ANATOMY).write_text(json.dumps({"figures": shares, "index": name}))
