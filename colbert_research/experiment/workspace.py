"""`Workspace`: the cache, and what is expensive to open twice: collections, encoders, and the artifacts that were asked for."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colbert_research.cache import Artifact, DamagedArtifactError, StageCache
from colbert_research.config import Config, canonical_json
from colbert_research.data import Collection
from colbert_research.encoders import Encoder, fingerprint_of, rounding_of
from colbert_research.experiment.facts import CollectionFacts, facts_of
from colbert_research.experiment.memory import peak_memory
from colbert_research.experiment.origin import origin
from colbert_research.experiment.stage import RESUMES, Stage

logger = logging.getLogger("colbert_research")


class Workspace:
    """One a process is enough: seventy experiments that share it read a corpus once and load a model once.

    `fresh`: compute every stage anew the first time that it is asked for, and replace what is cached.
    """

    def __init__(self, cache: StageCache | None = None, *, fresh: bool = False) -> None:
        self.cache = cache or StageCache.default()
        self.fresh = fresh
        self._collections: dict[str, Collection] = {}
        self._encoders: dict[str, Encoder] = {}
        self._facts: dict[str, CollectionFacts] = {}
        self._fingerprints: dict[str, tuple[str, dict[str, Any]]] = {}
        self._known: dict[Stage, Artifact] = {}
        self._verified: set[Stage] = set()

    def __repr__(self) -> str:
        return f"Workspace({str(self.cache.root)!r}, {len(self._known)} artifacts known, {len(self._encoders)} encoders loaded)"

    def collection(self, dataset: Any) -> Collection:
        """The collection of a dataset config, read once."""
        name = _name(dataset)
        if name not in self._collections:
            self._collections[name] = dataset.load()
        return self._collections[name]

    def facts(self, dataset: Any) -> CollectionFacts:
        """Fingerprints and counts of a collection, which is read only where its files are not known."""
        name = _name(dataset)
        if name not in self._facts:
            self._facts[name] = facts_of(dataset, lambda: self.collection(dataset))
        return self._facts[name]

    def encoder(self, config: Any) -> Encoder:
        """The encoder of a config, loaded once."""
        name = _name(config)
        if name not in self._encoders:
            self._encoders[name] = config.load()
        return self._encoders[name]

    def fingerprint(self, config: Any) -> tuple[str, dict[str, Any]]:
        """An encoder's fingerprint, and what moves only the last bits of its vectors on this machine; no model is loaded."""
        name = _name(config)
        if name not in self._fingerprints:
            self._fingerprints[name] = (fingerprint_of(config), rounding_of(config))
        return self._fingerprints[name]

    def find(self, stage: Stage) -> Artifact | None:
        """The artifact of a stage, if it is there and undamaged as far as its sizes tell."""
        return self._known.get(stage) or self.cache.find(stage.kind, stage.key)

    def run(self, stage: Stage) -> tuple[Artifact, bool]:
        """The artifact of a stage, and whether it was found; computed, after its inputs, if need be."""
        if stage in self._known:
            return self._known[stage], True
        found = None if self.fresh else self.cache.find(stage.kind, stage.key)
        if found is None:
            for needed in stage.inputs.values():
                self.sound(needed)  # what is computed from damaged files would be wrong under a good name
            artifact, hit = self.cache.run(
                stage.kind,
                stage.key,
                lambda folder: self._measured(stage, folder),
                resumes=stage.kind in RESUMES,
                fresh=self.fresh,
            )
        else:
            artifact, hit = found, True
        if not hit:
            self._verified.add(stage)
        self._known[stage] = artifact
        logger.info("%s: %s", stage.name, "found in the cache" if hit else "computed")
        return artifact, hit

    def sound(self, stage: Stage) -> Artifact:
        """The artifact of a stage with all checksums compared, once for each workspace; a damaged one is computed again."""
        artifact, _ = self.run(stage)
        if stage not in self._verified:
            try:
                artifact.verify()
            except DamagedArtifactError as error:
                logger.warning("damaged: %s; %s is computed again", error, stage.name)
                self.cache.discard(artifact)
                del self._known[stage]
                artifact, _ = self.run(stage)
            self._verified.add(stage)
        return artifact

    def path(self, stage: Stage) -> Path:
        """The folder of a stage's artifact, which has been found or computed."""
        return self._known[stage].path if stage in self._known else self.cache.path(stage.kind, stage.key)

    def _measured(self, stage: Stage, folder: Path) -> Mapping[str, Any]:
        stage.check_sources()
        start = time.perf_counter()
        with peak_memory() as peak:
            notes = stage.module.compute(self, stage, folder)
        return {
            **notes,
            "seconds": time.perf_counter() - start,
            "peak_memory_bytes": peak.bytes,
            "origin": origin(),
            "stage": stage.description(),
        }


def _name(config: Config) -> str:
    return canonical_json([type(config).__module__, type(config).__qualname__, config.model_dump(mode="json")])
