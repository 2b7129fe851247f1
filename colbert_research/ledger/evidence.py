"""What claims are judged by: the records of an ablation, with their settings, figures and values of each query."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from colbert_research.experiment.anatomies import clusters_of
from colbert_research.experiment.differing import settings_of_now
from colbert_research.experiment.overlaps import agreement_of
from colbert_research.experiment.record import FILE, PER_QUERY, Record, found_records
from colbert_research.ledger.measured import lines_of
from colbert_research.settings import ConfigError, nearest

logger = logging.getLogger("colbert_research")
Where = Mapping[str, Any]
"""Settings that a record has to have, by dotted name: a value, or a list of those that will do; `collection` is one of them."""
NOT_TOLD = ("dataset.", "measures", "latency")
SHARE = re.compile(r"\w+ scored (?P<some>\d+) of (?P<all>\d+) (?P<unit>\w+)")
"""A search's note of how much of its work it did, as EMVB's of terms."""


@dataclass(frozen=True, eq=False)
class Item:
    """One record: `figures` are its metrics, costs and overlap; `values`: measure -> query -> value; `content`: a hash of what
    its collection holds, nothing where it is not known."""

    id: str
    collection: str
    settings: Mapping[str, Any]
    figures: Mapping[str, float]
    read: Callable[[], Mapping[str, Mapping[str, float]]] = field(default=dict)
    content: str = ""

    @cached_property
    def values(self) -> Mapping[str, Mapping[str, float]]:
        return self.read()

    def has(self, where: Where) -> bool:
        """Whether it has the settings."""
        return all(name in self.settings and str(self.settings[name]) in _texts(value) for name, value in where.items())

    def shifted(self, by: float) -> "Item":
        """The same with every figure and value moved, which it never measured: to see whether a rule can fail."""
        values = {measure: {query: value + by for query, value in each.items()} for measure, each in self.values.items()}
        return replace(self, figures={name: value + by for name, value in self.figures.items()}, read=lambda: values)

    def given(self, figure: str, value: float) -> "Item":
        """The same with one figure as given."""
        return replace(self, figures={**self.figures, figure: value}, read=lambda: self.values)

    def scaled(self, by: float) -> "Item":
        """The same with every figure multiplied."""
        return replace(self, figures={name: value * by for name, value in self.figures.items()}, read=lambda: self.values)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Records, in the order in which they were found, and their `collections` by name.

    `unread`: folders of records that cannot be read, and are in no figure.
    """

    items: tuple[Item, ...]
    unread: tuple[Path, ...] = ()

    @classmethod
    def below(cls, folder: str | Path) -> "Evidence":
        """The finished records below a folder, then the lines of benchmarks in it (see `measured`).

        What cannot be read is named in the log and passed over, as is a copy of a record, which would count twice.
        """
        unread: list[Path] = []
        records: dict[str, tuple[Path, Item]] = {}
        for path, record in found_records(folder, unread):
            try:
                found = path, _item(path, record)
            except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
                logger.warning("passed over: %s: %s: %s", path / FILE, type(error).__name__, error)
                unread.append(path)
                continue
            if (there := records.get(record.id)) is not None:
                found, copy = (found, there) if path.name == record.id else (there, found)
                logger.warning("passed over: %s holds the record of %s a second time", copy[0], found[0])
            records[record.id] = found
        lines = [Item(id, name, {"collection": name, **told}, figures) for id, name, told, figures in lines_of(folder)]
        return cls((*(item for _, item in records.values()), *lines), tuple(unread))

    def check_unmixed(self) -> None:
        """Raise ConfigError where records name two collections alike, whose figures would be taken for those of one."""
        first: dict[str, Item] = {}
        for item in self.items:
            other = first.setdefault(item.collection, item) if item.content else item
            if other.content != item.content:
                raise ConfigError(
                    f"records {other.id} and {item.id} are of two collections that are both called {item.collection}: their "
                    "documents, queries or judgements differ; leave those of one of the two in the folder"
                )

    @property
    def collections(self) -> list[str]:
        return sorted({item.collection for item in self.items})

    def where(self, settings: Where) -> list[Item]:
        """The records with some settings. Raises ConfigError for a setting that none has, with the nearest name."""
        self.check(settings)
        return [item for item in self.items if item.has(settings)]

    def check(self, settings: Iterable[str]) -> None:
        """Raises ConfigError for the name of a setting that no record has, with the nearest one of its component."""
        known = {name for item in self.items for name in item.settings}
        for name in settings:
            if self.items and name not in known:
                of_component = {each for each in known if each.startswith(f"{name.partition('.')[0]}.")}
                raise ConfigError(f"{name} is no setting of these records; {nearest(name, of_component or known)}")

    def pairs(self, of: Where, to: Where) -> Iterator[tuple[Item, Item]]:
        """Each record with the settings `of`, beside the one with `to` that differs from it in nothing else that varies.

        Settings of a component whose kinds differ (a codec's bits, where the other is exact) do not count.
        """
        named = {*of, *to}
        others = self.where(to)
        for one in self.where(of):
            for other in others:
                if one is not other and one.collection == other.collection and _agree(one.settings, other.settings, named):
                    yield one, other

    def between(self, of: Where, to: Where) -> list[str]:
        """What the nearest two records of `of` and `to` differ in beside the settings that these name; for there is no pair."""
        named = {*of, *to}
        found = [
            ["collection"] * (one.collection != other.collection) or list(_differing(one.settings, other.settings, named))
            for one in self.where(of)
            for other in self.where(to)
            if one is not other
        ]
        return min(found, key=len, default=[])

    def replaced(self, old: Iterable[Item], change: Callable[[Item], Item]) -> "Evidence":
        """The same with some records changed."""
        chosen = {id(item) for item in old}
        return replace(self, items=tuple(change(item) if id(item) in chosen else item for item in self.items))


def _agree(one: Where, other: Where, named: Iterable[str]) -> bool:
    """Whether two records agree in all settings but the named ones, and those of components whose named kinds differ."""
    return next(_differing(one, other, named), None) is None


def _differing(one: Where, other: Where, named: Iterable[str]) -> Iterator[str]:
    """The settings in which two records do not agree."""
    skipped = tuple(named)
    kinds = {name.removesuffix("kind") for name in skipped if name.endswith(".kind") and one.get(name) != other.get(name)}
    left_out = (*NOT_TOLD, *kinds)
    for name in one.keys() & other.keys():
        if name not in skipped and not name.startswith(left_out) and one[name] != other[name]:
            yield name


def _item(path: Path, record: Record) -> Item:
    def read() -> dict[str, dict[str, float]]:
        import pandas as pd

        record.verify(path, PER_QUERY)
        table = pd.read_parquet(path / PER_QUERY)
        return {str(name): dict(zip(rows["query_id"], rows["value"], strict=True)) for name, rows in table.groupby("measure")}

    name = str(record.dataset["name"])
    settings = {**settings_of_now(record.config), "collection": name}
    return Item(record.id, name, settings, _figures(path, record), read, str(record.dataset["fingerprint"]))


def _figures(path: Path, record: Record) -> dict[str, float]:
    """Every number of a record: metrics, costs, sizes, seconds of stages, work of a query, and what was measured beside it."""
    queries = max(1, int(record.results.get("queries", record.dataset.get("queries", 1))))
    found = {**record.metrics, "bytes/token": record.bytes_per_token, "documents": float(record.dataset["documents"])}
    found["code bytes/token"] = float(record.index["code_bytes_per_token"])
    found |= {name: float(value) for name, value in record.costs().items() if name.startswith(("ms_", "bytes_"))}
    found |= {name: float(value) for name, value in record.index.items() if isinstance(value, int | float)}
    found |= {f"bytes of {name}": float(value) for name, value in record.index["bytes"].items()}
    found |= {f"seconds of {name}": float(value) for name, value in record.measured["seconds"].items()}
    for unit in ("centroids", "documents", "tokens", "bytes"):
        for stage, counts in record.work.items():
            found[f"{unit}/query in {stage}"] = counts[unit] / queries
        found[f"{unit}/query"] = sum(counts[unit] for counts in record.work.values()) / queries
    for note in record.measured.get("search_notes", ()):
        if told := SHARE.match(note):
            found[f"share of {told['unit']} scored"] = int(told["some"]) / int(told["all"])
    return found | agreement_of(path, record) | clusters_of(path, record)


def _texts(value: Any) -> list[str]:
    values: Sequence[Any] = value if isinstance(value, list | tuple) else (value,)
    return [str(each) for each in values]
