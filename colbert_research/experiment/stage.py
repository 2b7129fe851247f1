"""`Stage`: one step of an experiment as a value that can be compared, pickled and computed anywhere."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

from colbert_research.config import canonical_json, content_hash
from colbert_research.experiment.sources import STAGE_MODULES, SourceChangedError, sources_of

RESUMES = ("encode",)
"""Kinds that go on where an interrupted run stopped."""


@dataclass(frozen=True, eq=False)
class Stage:
    """A step, computed or not. Two are equal when they have the same kind and key.

    `settings`: what decides its bytes: configs, fingerprints, numbers. `inputs`: the stages that it reads, by role. `means`:
    what computing takes and the result does not depend on, such as the folder where a collection lies.
    """

    kind: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, "Stage"] = field(default_factory=dict)
    means: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def sources(self) -> dict[str, Any]:
        """The code behind it; see `sources_of`."""
        return sources_of(self.kind, [self.settings, self.means.get("encoder")])

    @cached_property
    def key(self) -> str:
        """12 hexadecimal digits: a hash of kind, settings, keys of the inputs, and sources. Nothing is loaded to know it."""
        return self._key(self.sources["hash"])

    def _key(self, sources: str) -> str:
        return content_hash(self.kind, self.settings, {role: stage.key for role, stage in self.inputs.items()}, sources)

    @property
    def name(self) -> str:
        """`kind/key`."""
        return f"{self.kind}/{self.key}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stage) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Stage({self.name})"

    def description(self) -> dict[str, Any]:
        """What is kept with the artifact: everything that the key is a hash of."""
        inputs = {role: stage.key for role, stage in self.inputs.items()}
        return {"settings": json.loads(canonical_json(self.settings)), "inputs": inputs, "sources": self.sources}

    def check_sources(self) -> None:
        """Raise SourceChangedError when this process has other code than the one that the key was made with, or an input's."""
        for needed in self.inputs.values():
            needed.check_sources()
        now = sources_of(self.kind, [self.settings, self.means.get("encoder")])
        if self._key(now["hash"]) != self.key:
            own = [self.sources.get("own", {}), now["own"]]
            changed = sorted(name for name in {*own[0], *own[1]} if own[0].get(name) != own[1].get(name))
            what = f": {', '.join(changed)} changed since" if changed else ""
            raise SourceChangedError(
                f"{self.name} was planned with other code or other globals than this process has now{what}; plan it again"
            )

    @property
    def module(self) -> ModuleType:
        """The module with `compute(workspace, stage, folder)` and `check(workspace, stage, folder)` of this kind."""
        return import_module(STAGE_MODULES[self.kind])


def union(stages: Iterable[Stage]) -> list[Stage]:
    """Each stage once, inputs before what reads them."""
    found: dict[Stage, None] = {}

    def add(stage: Stage) -> None:
        if stage not in found:
            for needed in stage.inputs.values():
                add(needed)
            found[stage] = None

    for stage in stages:
        add(stage)
    return list(found)
