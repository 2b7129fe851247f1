"""`Record`: one resolved config and everything that was measured with it.

`record.json` is written last, by one rename: it alone says that the experiment is done, and it vouches for the files beside it.
"""

import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colbert_research.artifacts import json_text, read_json, sha256_file
from colbert_research.cache import Artifact
from colbert_research.codecs.base import bytes_per_token
from colbert_research.config import content_hash
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.differing import differing, settings_of_now
from colbert_research.experiment.facts import CollectionFacts
from colbert_research.experiment.origin import MAY_DIFFER, origin, package_versions
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages import rank
from colbert_research.index import Index
from colbert_research.settings import flat

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("colbert_research")
FILE, CONFIG, RANKING, PER_QUERY = "record.json", "config.yaml", "ranking.parquet", "per_query.parquet"
OVERLAP, ANATOMY = "overlap.json", "anatomy.json"
FORMAT = 2
"""Of `record.json`: 1 named the code and the machine of whoever wrote it last; 2 quotes an origin for each stage."""
MAPPINGS = (
    *("config", "dataset", "stages", "metrics", "work", "index", "measured"),
    *("results", "origins", "recorded", "sources", "own", "files"),
)
COMMIT = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28}\b")


class RecordError(ValueError):
    """A record that cannot be read, or files beside it that are not those it was written with."""


class NewerRecordError(RecordError):
    """A record that a later version of this package wrote, in a format that this one does not know."""


@dataclass(frozen=True, repr=False)
class Record:
    """What is the same whenever the experiment is run again, then, from `latency` on, what is not.

    `config`: the resolved config. `dataset`: name, fingerprint, counts. `encoder`: its fingerprint. `stages`: stage -> key
    of its artifact. `metrics`: measure -> mean. `results`: how many queries found fewer than k documents, and the shortest
    ranking. `work`: stage of the search -> what it touched, all queries together. `index`: bytes by part, structures beside
    the codes among them, and per token; anisotropy of the vectors that were indexed. `latency`: milliseconds per query; None
    where search was not timed. `origins`: stage -> where its artifact came from (commit, changes, packages, host, threads,
    time). `recorded`: the same of this record.
    `measured`: seconds and peak memory of each stage, which were cached, and which of those other code had made and this one
    compared a sample of (`adopted`). `sources`: stage -> hash of the code behind it. `own`: a component of one's own, or a
    global that it names -> hash. `files`: those that the record vouches for.
    """

    id: str
    config: Mapping[str, Any]
    dataset: Mapping[str, Any]
    stages: Mapping[str, str]
    metrics: Mapping[str, float]
    work: Mapping[str, Any]
    index: Mapping[str, Any]
    measured: Mapping[str, Any]
    encoder: str = ""
    results: Mapping[str, int] = field(default_factory=dict)
    latency: Mapping[str, Any] | None = None
    origins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recorded: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, output: str | Path) -> "Record":
        """Read the record of a finished experiment, one of an earlier version too.

        Raises FileNotFoundError without one, NewerRecordError for one of a later format, RecordError for one that cannot be
        read.
        """
        path = Path(output) / FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: the experiment has not finished, or it is another folder")
        try:
            data = dict(read_json(path))
            if (format_ := data.get("format", 1)) > FORMAT:
                raise NewerRecordError(_newer(path, format_, data))
            check, given = data.pop("check", None), dict(data)
            if "recorded" not in data:
                data["recorded"] = {**data.pop("code"), **data.pop("environment")}
            if check != (content_hash(given) if check is not None or format_ >= FORMAT else None):
                raise ValueError("it was changed since it was written")
            known = {f.name for f in fields(cls)}
            record = cls(**{name: value for name, value in data.items() if name in known})
            for name in MAPPINGS:
                if not isinstance(value := getattr(record, name), Mapping):
                    raise ValueError(f"{name} holds names and values; given {type(value).__name__}")
            return record
        except NewerRecordError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"{path} is no record: {type(error).__name__}: {error}; run its experiment again") from error

    def check(self, output: str | Path) -> None:
        """Compare the sizes of the files beside the record with what it says, without reading them. Raises RecordError."""
        for name, expected in self.files.items():
            file = Path(output) / name
            if not file.is_file():
                raise RecordError(f"{file} is missing, as beside records that are committed; run the experiment again")
            if (size := file.stat().st_size) != expected["bytes"]:
                raise RecordError(f"{file} has {size} bytes, {FILE} says {expected['bytes']}; run the experiment again")

    def verify(self, output: str | Path, *names: str) -> None:
        """Compare files beside the record (all of them, or those named) with what it says. Raises RecordError."""
        for name in names or self.files:
            file, expected = Path(output) / name, self.files.get(name)
            if expected is None and not self.files:
                continue  # of the first version, which kept no hashes
            if expected is None or not file.is_file() or sha256_file(file) != expected["sha256"]:
                raise RecordError(f"{file} is not the file that {FILE} was written with; run the experiment again")

    def text(self, files: Mapping[str, Any]) -> str:
        """What `record.json` holds, vouching for `files` (name -> bytes, sha256) and for itself."""
        whole = json.loads(json.dumps(asdict(self) | {"files": files, "format": FORMAT}))
        return json_text(whole | {"check": content_hash(whole)})

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        return f"Record({self.id}: {figures})"

    @property
    def query_ms(self) -> Mapping[str, float] | None:
        """Milliseconds per query: median, p95, mean; None where search was not timed."""
        found: Mapping[str, float] | None = self.latency["query_ms"] if self.latency else self.measured.get("query_ms")
        return found

    @property
    def bytes_in_all(self) -> int:
        """Bytes of the index with what the search keeps beside the codes, without the documents' texts."""
        kept = sum(entry["bytes"] for entry in self.index.get("structures", {}).values())
        sizes = self.index["bytes"]
        return int(sizes["total"] - sizes["documents"] + kept)

    @property
    def bytes_per_token(self) -> float:
        """`bytes_in_all` for each token: the `bytes/token` of every table."""
        return self.bytes_in_all / max(1, int(self.index["tokens"]))

    @property
    def anisotropy(self) -> float:
        """Mean cosine of two of the indexed token vectors drawn at random (see `encoders.anisotropy`).

        NaN in records of earlier versions, and where there are no two.
        """
        found = self.index.get("anisotropy")
        return math.nan if found is None else float(found)

    def index_figures(self) -> dict[str, float]:
        """Figures of the index as tables show them: `bytes/token`, and `anisotropy` where it is known."""
        known = {} if math.isnan(self.anisotropy) else {"anisotropy": round(self.anisotropy, 4)}
        return {"bytes/token": round(self.bytes_per_token, 1), **known}

    def costs(self) -> dict[str, Any]:
        """What searching took and takes up: `ms_median` and `ms_p95` per query (NaN where it was not timed), `bytes_in_all`,
        `bytes/token`.

        `threads` and `host` (processor and id) are those of the timing, or else of the ranking; NaN and empty in records of
        the first version.
        """
        times = self.query_ms or {}
        origin = self.origins.get("latency") or self.origins.get("rank") or self.recorded
        host = origin.get("host", {})
        return {
            "ms_median": times.get("median", math.nan),
            "ms_p95": times.get("p95", math.nan),
            "bytes_in_all": self.bytes_in_all,
            "bytes/token": round(self.bytes_per_token, 1),
            "threads": self.latency["threads"] if self.latency else origin.get("threads", math.nan),
            "host": " ".join(str(host[key]) for key in ("processor", "id") if key in host),
        }

    def differences(self) -> dict[str, list[str]]:
        """What the origins of the stages do not agree in: entry -> its values, each with the stages that have it."""
        found: dict[str, dict[str, list[str]]] = {}
        for stage, entries in self.origins.items():
            for name, value in flat({key: value for key, value in entries.items() if key not in MAY_DIFFER}):
                found.setdefault(name, {}).setdefault(str(value), []).append(stage)
        return {
            name: [f"{value} ({', '.join(stages)})" for value, stages in values.items()]
            for name, values in found.items()
            if len(values) > 1
        }

    def table(self) -> "pd.DataFrame":
        """Metrics, milliseconds per query where it was timed, bytes per token: one row a figure."""
        import pandas as pd

        rows = [(name, f"{value:.4f}") for name, value in self.metrics.items()]
        if self.query_ms is not None:
            rows += [(f"ms/query, {name}", f"{self.query_ms[name]:.2f}") for name in ("median", "p95")]
        rows.append(("bytes/token", f"{self.bytes_per_token:.1f}"))
        rows.append(("bytes/token, codes alone", f"{self.index['code_bytes_per_token']}"))
        rows += [(name, f"{value:.4f}") for name, value in self.index_figures().items() if name == "anisotropy"]
        if self.results.get("fewer_than_k"):
            rows.append((f"queries with fewer than k={self.config['k']} results", f"{self.results['fewer_than_k']}"))
            rows.append(("shortest ranking", f"{self.results['shortest']}"))
        components = [f"{name} ({digest[:8]})" for name, digest in self.own.items() if ":" in name]
        if components:
            rows.append(("code of one's own", ", ".join(components)))
        if self.measured.get("adopted"):
            rows.append(("stages made by other code, a sample compared", ", ".join(self.measured["adopted"])))
        differences = {name: COMMIT.sub(r"\1", " / ".join(values)) for name, values in self.differences().items()}
        rows += [(f"stages differ in {name}", values) for name, values in differences.items()]
        return pd.DataFrame(rows, columns=["figure", self.id]).set_index("figure")


def make_record(
    id: str,
    config: ExperimentConfig,
    facts: CollectionFacts,
    *,
    stages: Mapping[str, Stage],
    results: Mapping[str, tuple[Artifact, bool]],
    metrics: Mapping[str, float],
    index: Index,
    structures: Mapping[str, str],
    encoder: str,
) -> Record:
    """The record of an experiment whose stages all have artifacts. `structures`: kind -> name of its stage."""
    artifacts = {name: artifact for name, (artifact, _) in results.items()}
    notes = {name: artifact.notes for name, artifact in artifacts.items()}
    ranked, timed = notes["rank"], notes.get("latency")
    return Record(
        id=id,
        config=config.model_dump(mode="json"),
        dataset={
            "name": facts.name,
            "fingerprint": facts.fingerprint,
            "documents": facts.n_documents,
            "queries": facts.n_queries,
            "judgements": facts.n_judgements,
        },
        encoder=encoder,
        stages={name: stage.key for name, stage in stages.items() if name in artifacts},
        metrics=metrics,
        results={name: ranked[name] for name in ("queries", "fewer_than_k", "shortest")},
        work=rank.open_work(artifacts["rank"].path),
        index={
            "tokens": index.n_tokens,
            "dim": index.dim,
            "segments": len(index.segments),
            "bytes": index.nbytes(),
            "structures": {kind: {key: notes[name][key] for key in ("bytes", "seconds")} for kind, name in structures.items()},
            "code_bytes_per_token": bytes_per_token(index.codec),
            "anisotropy": notes["index"].get("anisotropy"),
        },
        latency=None
        if timed is None
        else {name: timed[name] for name in ("query_ms", "stage_ms", "queries", "threads", "repeats")},
        origins={name: note["origin"] for name, note in notes.items()},
        recorded=origin(),
        sources={name: stage.sources["hash"] for name, stage in stages.items()},
        own={name: digest for stage in stages.values() for name, digest in stage.sources["own"].items()},
        measured={
            "seconds": {name: note["seconds"] for name, note in notes.items()},
            "peak_memory_bytes": {name: note["peak_memory_bytes"] for name, note in notes.items()},
            "search_stage_seconds": ranked["stage_seconds"],
            "search_notes": ranked["search_notes"],
            "cached": [name for name, (_, hit) in results.items() if hit],
            "adopted": {name: note["adopted"] for name, note in notes.items() if "adopted" in note},
        },
    )


def _newer(path: Path, format_: int, data: Mapping[str, Any]) -> str:
    """What there is to say of a record of a later format."""
    packages = data.get("recorded", {}).get("packages", {})
    by = f", written by colbert-research {packages['colbert-research']}" if "colbert-research" in packages else ""
    own = package_versions().get("colbert-research", "this version")
    return f"{path} is a record of format {format_}{by}; {own} reads formats up to {FORMAT}: update the package to read it"


def found_records(folder: str | Path, unread: list[Path] | None = None) -> Iterator[tuple[Path, Record]]:
    """Every finished record below a folder, with its folder; one that cannot be read is named in the log and passed over.

    `unread`: a list to which the folders of those are added.
    """
    for path in sorted(Path(folder).rglob(FILE)):
        try:
            yield path.parent, Record.open(path.parent)
        except FileNotFoundError:  # replaced by its experiment at this instant
            continue
        except RecordError as error:
            logger.warning("passed over: %s", error)
            if unread is not None:
                unread.append(path.parent)


def load_records(folder: str | Path) -> "pd.DataFrame":
    """Every finished record below a folder as one table.

    Columns: id, folder; the settings, by dotted name, that differ among the records; metrics; `Record.costs`; anisotropy,
    index_bytes and the seconds of each stage; the settings that all share.
    """
    import pandas as pd

    rows = list(rows_of_records(folder, _row))
    settings = [row.pop("settings") for row in rows]
    different, every = differing(settings), dict.fromkeys(name for each in settings for name in each)
    figures = dict.fromkeys(name for row in rows for name in row if name not in ("id", "folder"))
    columns = ["id", "folder", *different, *figures, *(name for name in every if name not in different)]
    return pd.DataFrame([each | row for each, row in zip(settings, rows, strict=True)], columns=columns if rows else None)


def rows_of_records(folder: str | Path, row: Callable[[Path, Record], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """`row(path, record)` of every finished record below a folder; one that lacks what it asks for is named and passed over."""
    for path, record in found_records(folder):
        try:
            yield row(path, record)
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            logger.warning("passed over: %s: %s: %s", path / FILE, type(error).__name__, error)


def _row(path: Path, record: Record) -> dict[str, Any]:
    row = {"id": record.id, "folder": str(path), "settings": settings_of_now(record.config), **record.metrics}
    row |= record.costs() | {"anisotropy": record.anisotropy, "index_bytes": record.index["bytes"]["total"]}
    return row | {f"seconds.{name}": seconds for name, seconds in record.measured["seconds"].items()}
