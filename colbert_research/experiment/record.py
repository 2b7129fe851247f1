"""`Record`: one resolved config and everything that was measured with it, in a folder of its own.

`record.json` is written last, by one rename: it alone says that the experiment is done.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colbert_research.artifacts import read_json, write_json, write_text
from colbert_research.codecs.base import bytes_per_token
from colbert_research.config import flat
from colbert_research.experiment import stages
from colbert_research.experiment.provenance import code_version, package_versions
from colbert_research.ranking import Ranking

if TYPE_CHECKING:
    import pandas as pd

    from colbert_research.experiment.experiment import Experiment

FILE = "record.json"


@dataclass(frozen=True)
class Record:
    """What is the same whenever the experiment is run again stands outside `measured`; times and memory stand within.

    `config`: the resolved config. `dataset`: name, fingerprint, counts. `stages`: stage -> key of its artifact. `metrics`:
    measure -> mean. `work`: stage of the search -> what it touched, all queries together. `index`: bytes by part, and a token.
    `code`, `environment`: commit, hash of uncommitted changes, versions, machine. `measured`: seconds, peak memory, what was
    cached.
    """

    id: str
    config: Mapping[str, Any]
    dataset: Mapping[str, Any]
    stages: Mapping[str, str]
    metrics: Mapping[str, float]
    work: Mapping[str, Any]
    index: Mapping[str, Any]
    code: Mapping[str, Any]
    environment: Mapping[str, Any]
    measured: Mapping[str, Any]

    def save(self, output: Path, *, ranking: Ranking, per_query: "pd.DataFrame") -> None:
        """Write `config.yaml`, `ranking.parquet`, `per_query.parquet`, then `record.json`, into `output`."""
        output.mkdir(parents=True, exist_ok=True)
        write_config(output, self.config)
        ranking.to_parquet(output / "ranking.parquet")
        per_query.to_parquet(output / "per_query.parquet", index=False)
        write_json(output / FILE, asdict(self))

    @classmethod
    def open(cls, output: str | Path) -> "Record":
        """Read the record of a finished experiment."""
        path = Path(output) / FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: the experiment has not finished, or it is another folder")
        return cls(**read_json(path))

    def table(self) -> "pd.DataFrame":
        """Metrics, milliseconds a query, bytes a token: one row a figure."""
        import pandas as pd

        rows = [(name, f"{value:.4f}") for name, value in self.metrics.items()]
        rows += [(f"ms/query, {name}", f"{self.measured['query_ms'][name]:.2f}") for name in ("median", "p95")]
        rows.append(("code bytes/token", f"{self.index['code_bytes_per_token']}"))
        rows.append(("index bytes/token", f"{self.index['bytes']['total'] / self.index['tokens']:.1f}"))
        return pd.DataFrame(rows, columns=["figure", self.id]).set_index("figure")


def write_config(output: Path, config: Mapping[str, Any]) -> None:
    """Write `config.yaml`, from which the same experiment can be run again."""
    import yaml

    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def make_record(experiment: "Experiment") -> Record:
    """The record of an experiment, after running whatever has not run yet."""
    collection, index = experiment.collection, experiment.index
    metrics, results = experiment.metrics, experiment.results
    return Record(
        id=experiment.id,
        config=experiment.config.model_dump(mode="json"),
        dataset={
            "name": collection.name,
            "fingerprint": collection.fingerprint(),
            "documents": len(collection),
            "queries": len(collection.query_ids),
            "judgements": sum(len(grades) for grades in collection.qrels.values()),
        },
        stages={name: result.key for name, result in results.items()},
        metrics=metrics,
        work=stages.work_of(results["search"]),
        index={
            "tokens": index.n_tokens,
            "dim": index.dim,
            "segments": len(index.segments),
            "bytes": index.nbytes(),
            "code_bytes_per_token": bytes_per_token(index.codec),
        },
        code=code_version(),
        environment={
            "packages": package_versions(),
            "python": platform.python_version(),
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
        measured={
            "seconds": {name: result.notes["seconds"] for name, result in results.items()},
            "search_stage_seconds": results["search"].notes["stage_seconds"],
            "query_ms": results["search"].notes["query_ms"],
            "threads": results["search"].notes["threads"],
            "search_notes": results["search"].notes["search_notes"],
            "peak_memory_bytes": max(int(result.notes["peak_memory_bytes"]) for result in results.values()),
            "cached": [name for name, result in results.items() if result.hit],
        },
    )


def load_records(folder: str | Path) -> "pd.DataFrame":
    """Every finished record below a folder as one table: id, settings by dotted name, metrics, measured figures."""
    import pandas as pd

    rows = []
    for path in sorted(Path(folder).rglob(FILE)):
        record = Record.open(path.parent)
        row = {"id": record.id, "folder": str(path.parent)}
        row |= dict(flat(record.config)) | dict(record.metrics) | {"index_bytes": record.index["bytes"]["total"]}
        row |= {f"seconds.{name}": seconds for name, seconds in record.measured["seconds"].items()}
        rows.append(row)
    return pd.DataFrame(rows)
