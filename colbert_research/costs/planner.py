"""From a request and measurements to a plan: one index a shard, shards of equal size."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import CODECS
from colbert_research.config import component_of_line
from colbert_research.costs.layout import Layout, pairs_of
from colbert_research.costs.measurements import Latency, Measurements, Size, Timing
from colbert_research.costs.plan import Bytes, Hours, Milliseconds, Plan
from colbert_research.costs.rates import Growth, Rates, work_of
from colbert_research.costs.request import Request
from colbert_research.costs.tails import slowest_of
from colbert_research.search import STRATEGIES
from colbert_research.settings import ConfigError, nearest

FAR = 1000
"""Times beyond what was measured from which on a prediction is said to be hardly more than a guess."""
FEWEST, NEAR = 3, 10
"""Sizes over which growth is taken for known; with fewer, so many times beyond the largest is as far as is predicted."""
HOUR, COMPUTED, GIVEN = 3600.0, "computed from the codec", "given"


def planned(request: Request, measurements: Measurements) -> Plan:
    """The plan. Raises ConfigError for a codec that is none or that refuses the dimensions, and for an unknown machine."""
    return _Planner(request, measurements).plan()


class _Planner:
    """One request over some measurements."""

    def __init__(self, request: Request, measurements: Measurements) -> None:
        self.request, self.measured = request, measurements
        self.codec: Any = component_of_line("codec", CODECS, request.codec)
        self.machines = self._machines()

    def _machines(self) -> Sequence[str]:
        """By name, the one whose measurements are taken first in front."""
        found, asked = self.measured.machines(), self.request.machine
        if asked is None:
            return found
        chosen = [name for name in found if asked.lower() in name.lower()]
        if len(chosen) != 1:
            what = "names several" if chosen else "is none"
            raise ConfigError(f"machine {asked!r} {what} of those that measured: {nearest(asked, found)}")
        return [*chosen, *(name for name in found if name != chosen[0])]

    def plan(self) -> Plan:
        shards = self.shards
        layout, parts = self._layout(shards), self._bytes(shards)
        stages, searches = self._hours(layout, shards), self._milliseconds(layout, shards)
        known = tuple(each for each in searches if each.error is not None or each.beyond <= NEAR)
        known = tuple(sorted(known, key=lambda each: each.error is None))  # what was timed on many sizes first
        unknown = tuple(each.strategy for each in searches if each not in known)
        notes = self._notes(layout, stages, known, unknown)
        return Plan(self.request, layout, shards, parts, stages, known, unknown, tuple(notes))

    @cached_property
    def shards(self) -> int:
        """As many as are asked for, or else the fewest that fit the memory of a machine each."""
        if self.request.shards is not None:
            return self.request.shards
        shards, most = 1, self.request.documents
        while True:
            taken = self._layout(shards).memory_bytes
            if taken <= self.request.memory:
                return shards
            if shards == most:
                raise ConfigError(f"no shard fits a memory of {self.request.memory:g} bytes; raise memory")
            shards = min(most, max(shards + 1, math.ceil(taken * shards / self.request.memory)))

    def _layout(self, shards: int) -> Layout:
        """Of one shard."""
        documents, tokens = (-(-n // shards) for n in (self.request.documents, self.request.tokens))
        return Layout(self.codec, documents, tokens, self.request.dim, self.pairs[0], self.texts[0])

    @cached_property
    def pairs(self) -> tuple[float, str]:
        """Entries of inverted lists by token, the median of what was measured, and the source."""
        found = []
        for each in self.measured.sizes:
            if each.bytes.get("inverted"):
                codec = component_of_line("codec", CODECS, each.codec)
                found.append(pairs_of(codec, each.documents, each.tokens, each.dim, each.bytes["inverted"]))
        if not found:
            return 1.0, "at most: one document a token"
        told = f"measured, {_counted(len(found), 'index', 'indexes')}: {min(found):.2f} to {max(found):.2f} documents a token"
        return float(np.median(found)), told

    @cached_property
    def texts(self) -> tuple[float, str]:
        """Bytes of a document's text as it is stored, and the source."""
        if self.request.text_bytes is not None:
            return self.request.text_bytes, GIVEN
        sizes = [each for each in self.measured.sizes if each.bytes.get("documents")]
        found = {(each.documents, each.tokens): each.bytes["documents"] / each.documents for each in sizes}
        if not found:
            return 0.0, "not measured; give text_bytes"
        low, high = min(found.values()), max(found.values())
        return float(np.median([*found.values()])), f"measured, {len(found)} collections: {low:.0f} to {high:.0f} a document"

    def _bytes(self, shards: int) -> tuple[Bytes, ...]:
        layout = self._layout(shards)
        sizes, tokens = layout.nbytes(), layout.tokens
        source = {"inverted": self.pairs[1], "documents": f"{self.texts[1]}; not kept in memory"}
        told = {"total": "the sum"}
        return tuple(
            Bytes(part, size * shards, size / tokens, told.get(part, source.get(part, COMPUTED)))
            for part, size in sizes.items()
            if size or part in ("codes", "total")
        )

    def _hours(self, layout: Layout, shards: int) -> tuple[Hours, ...]:
        stages = ["encode", *(["cluster"] if layout.centroids else []), "codes"]
        found = [stage for stage in (self._stage(name, layout, shards) for name in stages) if stage is not None]
        if len(found) == len(stages):
            cores = [each.core_hours for each in found]
            total = None if None in cores else float(sum(each for each in cores if each is not None))
            found.append(Hours("total", total, sum(each.hours for each in found), 1.0, None, "the sum"))
        return tuple(found)

    def _stage(self, stage: str, layout: Layout, shards: int) -> Hours | None:
        """One stage; None where no machine measured it."""
        if stage == "encode" and self.request.tokens_per_second is not None:
            return Hours(stage, None, layout.tokens * shards / self.request.tokens_per_second / HOUR, 1.0, None, GIVEN)
        rows = self._first([each for each in self.measured.timings if each.stage == stage and self._alike(each)])
        if stage == "encode":
            rows = _commonest(rows, lambda each: each.by)
        if not rows:
            return None
        work = np.array([work_of(stage, _codec_of(e, self.codec), e.tokens, e.dim) for e in rows])
        rates = Rates(work, np.array([each.seconds * each.threads for each in rows]))
        asked = work_of(stage, self.codec, layout.tokens, layout.dim)
        core_hours = rates.at(asked) * shards / HOUR
        # texts are encoded a batch at a time, however many there are
        beyond = 1.0 if stage == "encode" else max(1.0, layout.tokens / max(each.tokens for each in rows))
        by = f" with {rows[0].by}" if stage == "encode" else ""
        source = f"measured{by} on {rows[0].machine}, {_counted(len(rows), 'run', 'runs')}"
        return Hours(stage, core_hours, core_hours / self.request.cores, beyond, _sizes(rates.errors), source)

    def _alike(self, timing: Timing) -> bool:
        """Whether a stage does for this codec what was timed: clustering does the same for all that share its method."""
        if timing.stage == "encode":
            return True
        codec = _codec_of(timing, self.codec)
        method = [getattr(each, "method", None) for each in (codec, self.codec)]
        return method[0] == method[1] and (timing.stage == "cluster" or codec.kind == self.codec.kind)

    def _milliseconds(self, layout: Layout, shards: int) -> tuple[Milliseconds, ...]:
        kind = [e for e in self.measured.latencies if e.dim == layout.dim and e.codec.split(" ")[0] == self.codec.kind]
        strategies = dict.fromkeys(each.strategy for each in kind)
        by_strategy = {name: [each for each in kind if each.strategy == name] for name in strategies}
        return tuple(self._search(name, rows, layout, shards) for name, rows in by_strategy.items())

    def _search(self, strategy: str, rows: Sequence[Latency], layout: Layout, shards: int) -> Milliseconds:
        """One strategy over a shard, from its times over codecs of the kind at hand."""
        rows, tokens = _widest(self._first(rows), lambda each: each.threads), layout.tokens
        own = [each for each in rows if component_of_line("codec", CODECS, each.codec) == self.codec]
        rows = own if len({each.tokens for each in own}) >= FEWEST else _widest(rows, lambda each: each.codec)
        median, p95, mean = (Growth.of((e.tokens, getattr(e, name)) for e in rows) for name in ("median", "p95", "mean"))
        low, high = median.interval(tokens)
        busy = mean.at(tokens) / 1000 * rows[0].threads / (self.request.cores * self.request.utilisation)
        replicas = max(1, math.ceil(self.request.queries_per_second * busy))
        over = "" if rows[0] in own else f" over {rows[0].codec}"
        times, beside = _counted(len(median.tokens), "size", "sizes"), self._beside(strategy, layout)
        return Milliseconds(
            strategy=strategy,
            median=median.at(tokens),
            low=low,
            high=high,
            p95=p95.at(tokens),
            slowest=slowest_of(self.measured.tails, strategy, shards, median.at(tokens), p95.at(tokens)),
            exponent=median.exponent if len(median.tokens) >= FEWEST else None,
            beyond=median.beyond(tokens),
            error=_sizes(median.errors),
            beside=None if beside is None else beside * shards,
            replicas=replicas,
            machines=shards * replicas if layout.memory_bytes + (beside or 0) <= self.request.memory else None,
            source=f"measured{over} on {rows[0].machine}, {_counted(rows[0].threads, 'thread', 'threads')}, {times}",
        )

    def _beside(self, strategy: str, layout: Layout) -> int | None:
        """Bytes of the structures of a strategy over one shard: the larger of so many a token and so many a document."""
        total = 0
        for structure in component_of_line("search", STRATEGIES, strategy).structures():
            found = [
                max(each.structures[structure.kind] / n * m for n, m in _amounts(each, layout))
                for each in self.measured.sizes
                if structure.kind in each.structures and each.dim == layout.dim and each.codec.split(" ")[0] == self.codec.kind
            ]
            if not found:
                return None
            total += round(float(np.median(found)))
        return total

    def _first(self, rows: Sequence[Any]) -> list[Any]:
        """Those of the machine that is asked for, if it has any, or else of the one that measured the most tokens.

        Least is then extrapolated.
        """
        groups = [group for name in self.machines if (group := [each for each in rows if each.machine == name])]
        if self.request.machine is not None:
            return groups[0] if groups else []
        return max(groups, key=lambda group: max(each.tokens for each in group), default=[])

    def _notes(
        self, layout: Layout, stages: Sequence[Hours], searches: Sequence[Milliseconds], unknown: Sequence[str]
    ) -> Iterable[str]:
        """What a reader must know of the figures."""
        yield f"measurements: {self.measured.origin}"
        lacking = {"encode", "codes", *(["cluster"] if layout.centroids else [])} - {each.stage for each in stages}
        if lacking:
            yield f"not measured, and not predicted: the time of {', '.join(sorted(lacking))} for {self.request.codec}"
        if unknown:
            yield (
                f"not predicted, because they were timed on fewer than {FEWEST} sizes, all more than {NEAR} times smaller: "
                f"{_by_kind(unknown)}"
            )
        if not (searches or unknown):
            widths = sorted({each.dim for each in self.measured.latencies if each.codec.split(" ")[0] == self.codec.kind})
            there = f"there are {', '.join(map(str, widths))} dimensions" if widths else "there is none of that kind of codec"
            yield f"no search was timed over {self.codec.kind} codes of {layout.dim} dimensions, and none is predicted: {there}"
        beyond = {each.stage: each.beyond for each in stages} | {each.strategy: each.beyond for each in searches}
        if far := {name: times for name, times in beyond.items() if times > FAR}:
            most = f"extrapolated up to {max(far.values()):,.0f} times beyond what was measured"
            yield f"hardly more than a guess, {most}: {', '.join(far)}"
        if self.request.shards is not None:
            taken, memory = layout.memory_bytes / 1e9, self.request.memory / 1e9
            if taken > memory:
                yield f"a shard takes {taken:,.1f} GB, more than the {memory:,.1f} GB of a machine"


def _by_kind(strategies: Sequence[str]) -> str:
    """Some strategies, of a kind with several settings how many."""
    groups: dict[str, list[str]] = {}
    for each in strategies:
        groups.setdefault(each.split(" ")[0], []).append(each)
    return ", ".join(f"{kind} ({len(of_it)} settings)" if len(of_it) > 1 else of_it[0] for kind, of_it in groups.items())


def _amounts(size: Size, layout: Layout) -> tuple[tuple[int, int], tuple[int, int]]:
    """Tokens, then documents, of what was measured and of what is asked for."""
    return (size.tokens, layout.tokens), (size.documents, layout.documents)


def _codec_of(timing: Timing, codec: Any) -> Any:
    """The codec whose time it is; of encoding, which has none, any."""
    return codec if timing.stage == "encode" else component_of_line("codec", CODECS, timing.by)


def _commonest(rows: Sequence[Any], key: Callable[[Any], Any]) -> list[Any]:
    """The rows of the key that most of them have; the first of several."""
    keys = [key(each) for each in rows]
    return [each for each in rows if key(each) == max(keys, key=keys.count)]


def _widest(rows: Sequence[Latency], key: Callable[[Latency], Any]) -> list[Latency]:
    """The rows of the key whose sizes lie farthest apart; the first of several."""
    groups: dict[Any, list[Latency]] = {}
    for each in rows:
        groups.setdefault(key(each), []).append(each)
    return max(groups.values(), key=lambda group: max(e.tokens for e in group) / min(e.tokens for e in group), default=[])


def _sizes(errors: NDArray[np.float64]) -> tuple[float, float] | None:
    """The median and the greatest of errors, in size; None of none."""
    return (float(np.median(np.abs(errors))), float(np.abs(errors).max())) if len(errors) else None


def _counted(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
