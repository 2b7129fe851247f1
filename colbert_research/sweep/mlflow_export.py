"""Records in MLflow, for those who look at their runs there; the files stay the truth.

Needs the extra `mlflow`: mlflow-skinny, and SQLAlchemy and Alembic for a database.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from colbert_research.artifacts import sha256_file
from colbert_research.config import no_imports
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.record import FILE, Record
from colbert_research.settings import ConfigError, flat

ID, HASH = "colbert_research.id", "colbert_research.record_sha256"
"""Tags by which a record is found again: of which experiment it is, and whether it is still the same."""
LONGEST = 500
"""Characters of a parameter, of which every version of MLflow takes so many."""


@dataclass(frozen=True)
class Exported:
    """How many records were added, replaced because they were computed anew since, and there already."""

    uri: str
    added: int
    replaced: int
    there: int

    def __str__(self) -> str:
        return f"{self.uri}: records added {self.added}, replaced {self.replaced}, there already {self.there}"


def export(
    records: Iterable[tuple[Path, Record]], *, uri: str, experiment: str, location: Path, varied: Sequence[str] = ()
) -> Exported:
    """Put records, with their folders, into the MLflow experiment of a name, each as one run; those that are there stay.

    Parameters: the settings that do not stand at their defaults, and those that are `varied`. Metrics: measures, milliseconds
    per query, bytes, seconds of stages. Tags: id, collection, commit, and the folder of the record, whose files stay where they
    are (`location`: what the experiment calls the folder of its artifacts). Raises ConfigError without MLflow.
    """
    client = _client(uri)
    found, artifacts = client.get_experiment_by_name(experiment), location.resolve().as_uri()
    place = found.experiment_id if found else client.create_experiment(experiment, artifact_location=artifacts)
    counts = {"added": 0, "replaced": 0, "there": 0}
    for folder, record in records:
        digest = sha256_file(folder / FILE)
        known = client.search_runs([place], f"tags.`{ID}` = '{record.id}'")
        finished = [run for run in known if run.info.status == "FINISHED" and run.data.tags.get(HASH) == digest]
        for run in known:
            if run not in finished[:1]:  # of a record that there was before, or of an export that was interrupted
                client.delete_run(run.info.run_id)
        if finished:
            counts["there"] += 1
            continue
        _add(client, place, folder, record, digest, varied)
        counts["replaced" if known else "added"] += 1
    return Exported(uri, **counts)


def _client(uri: str) -> Any:
    try:
        from mlflow import MlflowClient

        return MlflowClient(uri)
    except ImportError as error:
        raise ConfigError(f"MLflow is not there ({error}); pip install 'colbert-research[mlflow]'") from error


def _add(client: Any, place: str, folder: Path, record: Record, digest: str, varied: Sequence[str]) -> None:
    """One run, which is FINISHED when all of it is there."""
    from mlflow.entities import Metric, Param, RunTag

    finished = record.recorded.get("finished")
    end = int(datetime.fromisoformat(finished).timestamp() * 1000) if finished else 0
    seconds = record.measured.get("seconds", {})
    start = end - int(1000 * sum(seconds.values()))
    tags = {
        ID: record.id,
        HASH: digest,
        "collection": str(record.dataset["name"]),
        "folder": str(folder.resolve()),
        "mlflow.source.name": str((folder / "notebook.ipynb").resolve()),
        "mlflow.source.type": "NOTEBOOK",
        "mlflow.source.git.commit": str(record.recorded.get("commit", "")),
    }
    run = client.create_run(place, start_time=start, run_name=record.id, tags=tags).info.run_id
    metrics = {**record.metrics, "bytes in all": record.bytes_in_all, **record.index_figures()}
    metrics["bytes per token"] = metrics.pop("bytes/token")
    metrics |= {f"ms per query, {name}": value for name, value in (record.query_ms or {}).items()}
    metrics |= {f"seconds of {name}": value for name, value in seconds.items()}
    client.log_batch(
        run,
        metrics=[Metric(name_of(name), float(value), end, 0) for name, value in metrics.items()],
        params=[Param(name_of(name), str(value)[:LONGEST]) for name, value in settings(record.config, varied).items()],
        tags=[RunTag(f"stage {name}", key) for name, key in record.stages.items()],
    )
    client.set_terminated(run, "FINISHED", end_time=end)


def settings(config: Mapping[str, Any], varied: Sequence[str] = ()) -> dict[str, Any]:
    """The settings of a record's config, by dotted name, that do not stand at their defaults, or that are `varied`.

    All of them, where the config is no longer valid.
    """
    every = dict(flat(config))
    with no_imports():
        try:
            own = dict(flat(ExperimentConfig.model_validate(dict(config)).identity()))
        except ValueError:
            return every
    return own | {name: every[name] for name in varied if name in every}


def name_of(name: str) -> str:
    """A name as MLflow takes it: `nDCG@10` becomes `nDCG_10`."""
    return re.sub(r"[^\w\-./ :]+", "_", name).strip("_")
