"""Measurements that costs are predicted from. Some ship with the package, in `measured.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from colbert_research.costs.tails import Tail

SHIPPED = "measured.json"


@dataclass(frozen=True)
class Timing:
    """Seconds that one stage of building took (`encode`, `cluster`, `codes`), on so many threads of a machine.

    `by`: the encoder's model for `encode`, else the codec, as `text_of` writes it.
    """

    stage: str
    by: str
    tokens: int
    dim: int
    seconds: float
    threads: int
    machine: str
    source: str


@dataclass(frozen=True)
class Latency:
    """Milliseconds per query that a strategy took over an index of so many tokens."""

    strategy: str
    codec: str
    tokens: int
    dim: int
    median: float
    p95: float
    mean: float
    threads: int
    machine: str
    source: str


@dataclass(frozen=True)
class Size:
    """Bytes of an index by part, as `Index.nbytes` gives them, and those of its structures by kind."""

    codec: str
    documents: int
    tokens: int
    dim: int
    bytes: Mapping[str, int]
    structures: Mapping[str, int]
    source: str


@dataclass(frozen=True)
class Measurements:
    """Everything measured that predictions are made from. `origin`: where it was read, in words."""

    timings: tuple[Timing, ...]
    latencies: tuple[Latency, ...]
    sizes: tuple[Size, ...]
    tails: tuple[Tail, ...]
    origin: str

    @classmethod
    def shipped(cls) -> "Measurements":
        """Those that come with the package."""
        data = json.loads((files("colbert_research.costs") / SHIPPED).read_text(encoding="utf-8"))
        return cls(
            tuple(Timing(**each) for each in data["timings"]),
            tuple(Latency(**each) for each in data["latencies"]),
            tuple(Size(**each) for each in data["sizes"]),
            tuple(Tail(**each) for each in data["tails"]),
            "those that come with the package",
        )

    def to_json(self) -> str:
        """What `shipped` reads, one measurement a line."""
        parts: dict[str, tuple[Any, ...]] = {
            "timings": self.timings,
            "latencies": self.latencies,
            "sizes": self.sizes,
            "tails": self.tails,
        }
        body = (
            f'"{name}": [\n' + ",\n".join(json.dumps(asdict(each), sort_keys=True) for each in found) + "\n]"
            for name, found in parts.items()
        )
        return "{\n" + ",\n".join(body) + "\n}\n"

    def machines(self) -> tuple[str, ...]:
        """Machines by name: first the one that measured the most tokens, from which least has to be extrapolated."""
        reach: dict[str, int] = {}
        measured: tuple[Latency | Timing, ...] = (*self.latencies, *self.timings)
        for each in measured:
            reach[each.machine] = max(each.tokens, reach.get(each.machine, 0))
        return tuple(sorted(reach, key=lambda name: (-reach[name], name)))
