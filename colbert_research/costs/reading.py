"""Measurements read from records, and from the lines that the benchmarks of scaling and shards write."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from colbert_research.codecs import CODECS
from colbert_research.config import Config, component_of, component_of_line, no_imports
from colbert_research.costs.measurements import Latency, Measurements, Size, Timing
from colbert_research.costs.tails import Tail
from colbert_research.experiment.record import Record, found_records
from colbert_research.search import STRATEGIES
from colbert_research.settings import ConfigError, flat

logger = logging.getLogger("colbert_research")
STAGES = {"encode documents": "encode", "cluster": "cluster", "index": "codes"}
"""Stage of an experiment -> what its time is called here."""
NAMED = ("nbits", "dtype", "m")
"""Settings of a codec that its text names although they stand at their defaults."""


def read_measurements(folder: str | Path) -> Measurements:
    """Those of every record, and of every line of `scaling.py` and `billion.py`, below a folder.

    Each artifact of a stage counts once, however many records quote it. Components of one's own are passed over, as are
    encodings that were pooled, whose tokens are not those that were encoded. Raises ConfigError where there is nothing.
    """
    folder = Path(folder)
    timings, latencies, sizes = dict[str, Timing](), dict[str, Latency](), dict[str, Size]()
    tails: list[Tail] = []
    for path, record in found_records(folder):
        with _passed_over(path):
            _add_record(str(path.relative_to(folder)), record, timings, latencies, sizes)
    for file in sorted(folder.rglob("*.jsonl")):
        for number, line in enumerate(_lines(file), start=1):
            source = f"{file.relative_to(folder)}:{number}"
            with _passed_over(source):
                if "slowest" in line:
                    strategy = text_of(component_of_line("search", STRATEGIES, line["strategy"]))
                    tails += [Tail(strategy, e["shards"], e["median"], e["p95"], source) for e in line["slowest"]]
                else:
                    _add_line(source, line, timings, latencies, sizes)
    if not (timings or latencies or sizes):
        raise ConfigError(
            f"{folder} holds no record.json of a finished experiment and no lines of benchmarks/scaling.py; name the "
            "folder of a sweep's records, or leave --records out for the measurements that come with the package"
        )
    return Measurements(tuple(timings.values()), tuple(latencies.values()), tuple(sizes.values()), tuple(tails), str(folder))


@contextmanager
def _passed_over(source: Path | str) -> Iterator[None]:
    """What lacks what is asked of it, or holds something else, is named in the log, and the others are read."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        logger.warning("passed over: %s: %s: %s", source, type(error).__name__, error)


def text_of(config: Config) -> str:
    """A component in one line, `residual nbits=2`: its kind, what tells it from its defaults, and its bits or dtype."""
    plain = type(config)()
    told = {
        name: value
        for name, value in flat(config.model_dump(mode="json"))
        if name != "kind" and (name in NAMED or dict(flat(plain.model_dump(mode="json"))).get(name) != value)
    }
    return " ".join([str(config.model_dump()["kind"]), *(f"{name}={_written(value)}" for name, value in told.items())])


def _written(value: Any) -> str:
    return "null" if value is None else json.dumps(value) if isinstance(value, (list, dict)) else str(value)


def _machine(host: Mapping[str, Any]) -> str:
    return " ".join(str(host[name]) for name in ("processor", "simd") if name in host) or "a machine that is not named"


def _add_record(
    source: str, record: Record, timings: dict[str, Timing], latencies: dict[str, Latency], sizes: dict[str, Size]
) -> None:
    """The measurements of one record, under the keys of their artifacts."""
    try:
        for name, kind in (each for axis in ("codec", "search") for each in flat(record.config[axis])):
            if name.endswith("kind") and ":" in str(kind):  # passed over also where its module is loaded
                raise ValueError(f"{kind} is a component of one's own")
        with no_imports():
            codec = text_of(component_of("codec", CODECS, record.config["codec"]))
            strategy = text_of(component_of("search", STRATEGIES, record.config["search"]))
    except ValueError:  # of one's own, or of an earlier version
        logger.info("%s: its codec or strategy is not known here; it is passed over", source)
        return
    tokens, dim = int(record.index["tokens"]), int(record.index["dim"])
    pooled = record.config.get("pooling", {}).get("kind", "none") != "none"
    for name, stage in STAGES.items():
        origin, key = record.origins.get(name, {}), f"{name} {record.stages.get(name)}"
        if name not in record.measured["seconds"] or "threads" not in origin or (stage == "encode" and pooled):
            continue
        by = str(record.config["encoder"].get("model", record.config["encoder"]["kind"])) if stage == "encode" else codec
        where = int(origin["threads"]), _machine(origin.get("host", {})), source
        timings.setdefault(key, Timing(stage, by, tokens, dim, float(record.measured["seconds"][name]), *where))
    if record.latency is not None and "latency" in record.origins:
        times, host = record.latency["query_ms"], record.origins["latency"].get("host", {})
        median, p95, mean = (float(times[name]) for name in ("median", "p95", "mean"))
        where = int(record.latency["threads"]), _machine(host), source
        latencies.setdefault(record.stages["latency"], Latency(strategy, codec, tokens, dim, median, p95, mean, *where))
    structures = {kind: int(entry["bytes"]) for kind, entry in record.index.get("structures", {}).items()}
    key = f"{record.stages['index']} {sorted(structures)}"
    documents = int(record.dataset["documents"])
    sizes.setdefault(key, Size(codec, documents, tokens, dim, dict(record.index["bytes"]), structures, source))


def _lines(file: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of `scaling.py` and `billion.py` in a file; others are passed over, as is one that is not whole."""
    known = {"build", "index_bytes", "strategies"}, {"slowest", "strategy"}
    with suppress(OSError, UnicodeDecodeError):
        for line in file.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):
                found = json.loads(line)
                if isinstance(found, dict) and any(keys <= found.keys() for keys in known):
                    yield found


def _add_line(
    source: str, line: Mapping[str, Any], timings: dict[str, Timing], latencies: dict[str, Latency], sizes: dict[str, Size]
) -> None:
    """The measurements of one size of `scaling.py`, under its place."""
    codec = text_of(component_of_line("codec", CODECS, line["settings"]["codec"]))
    tokens, dim = int(line["tokens"]), int(line["settings"]["dim"])
    where = int(line["settings"]["threads"]), _machine(line.get("host", {})), source
    build = {name.removesuffix("_s"): float(value) for name, value in line["build"].items()}
    parts = {"cluster": build.get("cluster", 0.0), "codes": build["total"] - build.get("cluster", 0.0)}
    for stage, seconds in parts.items():
        if seconds:
            timings[f"{source} {stage}"] = Timing(stage, codec, tokens, dim, seconds, *where)
    for strategy, found in line["strategies"].items():
        median, p95, mean = (float(found[f"{name}_ms"]) for name in ("median", "p95", "mean"))
        text = text_of(component_of_line("search", STRATEGIES, strategy))
        latencies[f"{source} {text}"] = Latency(text, codec, tokens, dim, median, p95, mean, *where)
    bare = {name: value for name, value in line["index_bytes"].items() if name != "documents"}  # vectors without texts
    sizes[source] = Size(codec, int(line["documents"]), tokens, dim, bare, {}, source)
