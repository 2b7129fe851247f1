"""The plan of an index that is not there: bytes, hours, milliseconds, machines, each with where the figure comes from."""

from dataclasses import asdict, dataclass
from typing import Any

from colbert_research.costs.layout import Layout
from colbert_research.costs.request import Request


@dataclass(frozen=True)
class Bytes:
    """One part of the index, all shards together."""

    part: str
    bytes: int
    per_token: float
    source: str


@dataclass(frozen=True)
class Hours:
    """One stage of building, all shards together: hours of one core, and of all cores of one machine.

    `error`: of the fit, each measurement predicted from the others: the median and the greatest relative error, in size.
    """

    stage: str
    core_hours: float | None
    hours: float
    beyond: float
    error: tuple[float, float] | None
    source: str


@dataclass(frozen=True)
class Milliseconds:
    """A query of one strategy over one shard, and what so many queries per second take.

    `low`, `high`: the interval of the median. `slowest`: median and p95 of a query that waits for the slowest of all shards;
    None where so many were not measured. `exponent`: of the median over the sizes that were measured; None of fewer than
    three. `beyond`: how many times larger a shard is than the largest of them. `error`: as of `Hours`. `beside`: bytes of the
    structures that it keeps beside the codes, of all shards; None where they were not measured. `machines`: shards times
    `replicas`; None where a machine's memory does not hold a shard with these structures.
    """

    strategy: str
    median: float
    low: float
    high: float
    p95: float
    slowest: tuple[float, float] | None
    exponent: float | None
    beyond: float
    error: tuple[float, float] | None
    beside: int | None
    replicas: int
    machines: int | None
    source: str


@dataclass(frozen=True)
class Plan:
    """What a request would take: one index a shard, shards of equal size.

    `milliseconds`: first the strategies that were timed on many sizes. `unpredicted`: those that were timed on too few.
    """

    request: Request
    layout: Layout
    shards: int
    bytes: tuple[Bytes, ...]
    hours: tuple[Hours, ...]
    milliseconds: tuple[Milliseconds, ...]
    unpredicted: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def memory_bytes(self) -> int:
        """Of one shard, as `Layout.memory_bytes`."""
        return self.layout.memory_bytes

    def to_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        sizes = {"documents": self.layout.documents, "tokens": self.layout.tokens, "centroids": self.layout.centroids}
        return {
            "request": asdict(self.request),
            "shards": self.shards,
            "shard": {**sizes, "segments": self.layout.segments, "memory_bytes": self.memory_bytes},
            **{name: [asdict(each) for each in getattr(self, name)] for name in ("bytes", "hours", "milliseconds")},
            "unpredicted": list(self.unpredicted),
            "notes": list(self.notes),
        }
