"""`SweepConfig`: a grid of experiments as one YAML file, and the settings of each of its points."""

import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from colbert_research.config import Config, Seed, load_config
from colbert_research.experiment.config import LatencyConfig
from colbert_research.settings import flat, nearest, parse_overrides, written

logger = logging.getLogger("colbert_research")
NOTEBOOK = "notebooks/evaluate.ipynb"
Axis = tuple[Any, ...]


@dataclass(frozen=True)
class Point:
    """One point of a grid: the file that it starts from, and what is laid over it, by dotted name."""

    base: str
    overrides: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The overrides as a notebook's parameter takes them."""
        return written(self.overrides)


class SweepConfig(Config):
    """Experiments that differ in some settings: every combination of `base`, `points`, `zip`, `grid` and `repeat`.

    `base`: one config file or several. `overrides`: settings of all.
    `points`: settings that only make sense together, a mapping each. `zip`: dotted name -> values; those at one position in
    their lists go together. `grid`: dotted name -> values, each with each. `repeat`: seeds. `exclude`: what a point must not
    have; a mapping of dotted names to a value or a list of values, of which all have to hold. `latency`: time the searches,
    one run after another. `notebook`: what papermill executes. `modules`: Python files beside the sweep's own, whose
    components `kind: "module:Class"` names. Relative paths are seen from the folder of the sweep's file, its project, or the
    working folder (see `Places`).
    """

    base: tuple[str, ...] = Field(min_length=1)
    overrides: Mapping[str, Any] = {}
    points: tuple[Mapping[str, Any], ...] = ()
    zip: Mapping[str, Axis] = {}
    grid: Mapping[str, Axis] = {}
    repeat: tuple[Seed, ...] = ()
    exclude: tuple[Mapping[str, Any], ...] = ()
    latency: LatencyConfig | None = None
    notebook: str = NOTEBOOK
    modules: tuple[str, ...] = ()

    @field_validator("base", "modules", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("zip", "grid")
    @classmethod
    def _no_axis_is_empty(cls, value: Mapping[str, Axis]) -> Mapping[str, Axis]:
        for name, values in value.items():
            if not values:
                raise ValueError(f"{name} has no values, so there would be no experiments; give it one, or leave it out")
        return value

    @model_validator(mode="after")
    def _axes_fit(self) -> Self:
        lengths = {name: len(values) for name, values in self.zip.items()}
        if len({*lengths.values()}) > 1:
            raise ValueError(f"zip: all lists must be of one length; given {lengths}")
        named = [("points", name) for name in {name for point in self.points for name in dict(flat(point))}]
        named += [(axis, name) for axis in ("zip", "grid") for name in getattr(self, axis)]
        named += [("repeat", "seed")] * bool(self.repeat)
        for i, (axis, name) in enumerate(named):
            for other, known in named[:i]:
                if name == known or name.startswith(f"{known}.") or known.startswith(f"{name}."):
                    raise ValueError(f"{axis}: {name} is set by {other} too ({known}); leave it in one of them")
        varied = {name for _, name in named}
        for rule in self.exclude:
            for name in rule:
                if name not in varied:
                    raise ValueError(f"exclude: {name} is none of the settings that vary; {nearest(name, varied)}")
        return self

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a sweep's file. Raises ConfigError."""
        return load_config(cls, path)

    def expand(self) -> Iterator[Point]:
        """Every point that is not excluded, in the order of the file: the last axis varies fastest."""
        axes: list[list[dict[str, Any]]] = []
        if self.points:
            axes.append([dict(flat(parse_overrides(point))) for point in self.points])
        if self.zip:
            axes.append([dict(zip(self.zip, values, strict=True)) for values in zip(*self.zip.values(), strict=True)])
        axes += [[{name: value} for value in values] for name, values in self.grid.items()]
        if self.repeat:
            axes.append([{"seed": seed} for seed in self.repeat])
        common = dict(flat(parse_overrides(self.overrides)))
        if self.latency is not None:
            common["latency"] = self.latency.model_dump(mode="json", exclude_defaults=True)
        for base, *chosen in itertools.product(self.base, *axes):
            varied = {name: value for part in chosen for name, value in part.items()}
            if not any(_matches(varied, rule) for rule in self.exclude):
                yield Point(base, {**common, **dict(flat(parse_overrides(varied)))})

    @property
    def size(self) -> int:
        """How many points there would be if none were excluded."""
        lengths = [max(1, len(self.points)), max((len(v) for v in self.zip.values()), default=1), max(1, len(self.repeat))]
        size = len(self.base)
        for length in [*lengths, *(len(values) for values in self.grid.values())]:
            size *= length
        return size


def _matches(point: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    """Whether a point has all that a rule of `exclude` says."""

    def has(name: str, values: Any) -> bool:
        return str(point.get(name)) in [str(value) for value in (values if isinstance(values, (list, tuple)) else (values,))]

    return all(name in point and has(name, values) for name, values in rule.items())
