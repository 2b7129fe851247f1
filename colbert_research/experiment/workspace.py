"""`Workspace`: the cache, and what is expensive to open twice: collections, encoders, and the artifacts that were asked for."""

import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from threading import RLock
from typing import Any

from colbert_research.artifacts import remove_unfinished_texts
from colbert_research.cache import Artifact, DamagedArtifactError, StageCache
from colbert_research.config import Config, canonical_json
from colbert_research.data import Collection
from colbert_research.encoders import Encoder, fingerprint_of, rounding_of
from colbert_research.experiment import building, elsewhere
from colbert_research.experiment.facts import CollectionFacts, facts_of
from colbert_research.experiment.origin import origin
from colbert_research.experiment.stage import RESUMES, Stage
from colbert_research.fingerprints import stat_of
from colbert_research.memory import peak_memory
from colbert_research.settings import ConfigError
from colbert_research.threads import one_blas_thread

logger = logging.getLogger("colbert_research")


class DataChangedError(ConfigError):
    """A collection or an encoder that is no longer what a stage was planned for."""


class Workspace:
    """One per process is enough: seventy experiments that share it read a corpus once and load a model once.

    `fresh`: compute every stage anew the first time that it is asked for, and replace what is cached.
    """

    def __init__(self, cache: StageCache | None = None, *, fresh: bool = False) -> None:
        self.cache = cache or StageCache.default()
        self.fresh = fresh
        self._collections: dict[str, Collection] = {}
        self._encoders: dict[str, Encoder] = {}
        self._facts: dict[str, tuple[Any, CollectionFacts]] = {}
        self._fingerprints: dict[str, tuple[str, dict[str, Any]]] = {}
        self._known: dict[Stage, Artifact] = {}
        self._verified: dict[Stage, object] = {}
        self._computed: set[Stage] = set()
        self._lock = RLock()
        remove_unfinished_texts(self.cache.root / "fingerprints", seconds=3600)

    def __repr__(self) -> str:
        return f"Workspace({str(self.cache.root)!r}, {len(self._known)} artifacts known, {len(self._encoders)} encoders loaded)"

    def collection(self, dataset: Any) -> Collection:
        """The collection of a dataset config, read once. Raises DataChangedError for one that changed since it was planned."""
        name = _name(dataset)
        with self._lock:
            if name not in self._collections:
                _, planned = self._facts.get(name, ((), None))
                loaded = dataset.load()
                if planned is not None and CollectionFacts.of(loaded) != planned:
                    raise DataChangedError(f"{loaded!r} was changed between planning and reading it; plan again")
                self._collections[name] = loaded
            return self._collections[name]

    def collection_of(self, stage: Stage) -> Collection:
        """The collection that a stage was planned for. Raises DataChangedError where its dataset config gives another now."""
        dataset, settings = stage.means["dataset"], stage.settings
        facts = self.facts(dataset)  # first: a collection whose files were changed since is then forgotten
        collection = self.collection(dataset)
        known = {"documents": facts.store, "query_ids": facts.query_ids, "exclude_self": facts.exclude_self}
        if "side" in settings:
            known["texts"] = getattr(facts, settings["side"])
        if any(settings.get(name, value) != value for name, value in known.items()):
            raise DataChangedError(f"{collection!r} is not the one that {stage.name} was planned for; plan again")
        return collection

    def facts(self, dataset: Any) -> CollectionFacts:
        """Fingerprints and counts of a collection, which is read only where its files are not known, or changed since."""
        name, stats = _name(dataset), _stats(dataset)
        with self._lock:
            if name in self._facts and self._facts[name][0] != stats:
                del self._facts[name]
                self._collections.pop(name, None)
            if name not in self._facts:
                self._facts[name] = stats, facts_of(dataset, lambda: self.collection(dataset))
            return self._facts[name][1]

    def encoder(self, config: Any) -> Encoder:
        """The encoder of a config, loaded once."""
        name = _name(config)
        with self._lock:
            known = self._encoders.get(name)
            if known is None or known.fingerprint() != self.fingerprint(config)[0]:  # or trained on in place since
                self._encoders[name] = config.load()
            return self._encoders[name]

    def encoder_of(self, stage: Stage) -> Encoder:
        """The encoder that a stage was planned for. Raises DataChangedError where its config loads another now."""
        encoder = self.encoder(stage.means["encoder"])
        if encoder.fingerprint() != stage.settings["encoder"]:
            raise DataChangedError(
                f"the encoder's files were changed since {stage.name} was planned: its fingerprint is {encoder.fingerprint()}, "
                f"expected {stage.settings['encoder']}; plan again"
            )
        return encoder

    def fingerprint(self, config: Any) -> tuple[str, dict[str, Any]]:
        """An encoder's fingerprint, and what moves only the last bits of its vectors on this machine; no model is loaded."""
        name = _name(config)
        fingerprint = fingerprint_of(config)  # its files' hashes are remembered as long as nobody touches them
        if self._fingerprints.get(name, ("",))[0] != fingerprint:
            self._fingerprints[name] = (fingerprint, rounding_of(config))
        return self._fingerprints[name]

    def find(self, stage: Stage) -> Artifact | None:
        """The artifact of a stage, if it is there, undamaged as far as its sizes tell, and not to be computed afresh."""
        return self._known.get(stage) or (None if self.fresh else self.cache.find(stage.kind, stage.key))

    def run(self, stage: Stage) -> tuple[Artifact, bool]:
        """The artifact of a stage, and whether it was found; computed, after its inputs, if need be."""
        with self._lock:
            if (known := self._known.get(stage)) is not None:
                try:
                    known.check()
                    return known, True
                except DamagedArtifactError as error:  # or removed since
                    logger.warning("damaged: %s; %s is looked for again", error, stage.name)
                    del self._known[stage]
            artifact, hit = self.cache.run(
                stage.kind,
                stage.key,
                lambda folder: self._measured(stage, folder),
                resumes=stage.kind in RESUMES,
                fresh=self.fresh and stage not in self._computed,
            )
            if not hit:
                self._computed.add(stage)
                self._verified[stage] = artifact.state()
            self._known[stage] = artifact
            logger.info("%s: %s", stage.name, "found in the cache" if hit else "computed")
            return artifact, hit

    def sound(self, stage: Stage) -> Artifact:
        """The artifact of a stage with all checksums compared since its files last changed; a damaged one is computed again."""
        with self._lock:
            artifact, _ = self.run(stage)
            try:
                if self._verified.get(stage) != (state := artifact.state()):
                    artifact.verify()
                    self._verified[stage] = state
            except DamagedArtifactError as error:
                logger.warning("damaged: %s; %s is computed again", error, stage.name)
                self.cache.discard(artifact)
                del self._known[stage]
                artifact, _ = self.run(stage)
                self._verified[stage] = artifact.state()
            return artifact

    def path(self, stage: Stage) -> Path:
        """The folder of a stage's artifact, which has been found or computed."""
        return self._known[stage].path if stage in self._known else self.cache.path(stage.kind, stage.key)

    def _measured(self, stage: Stage, folder: Path) -> Mapping[str, Any]:
        stage.check_sources()
        for needed in stage.inputs.values():
            self.sound(needed)  # what is computed from damaged files would be wrong under a good name
        start = time.perf_counter()
        products = nullcontext() if stage.kind == "latency" else one_blas_thread()
        with peak_memory() as peak, products:
            notes = self._compute(stage, folder)
        return {
            **notes,
            "seconds": time.perf_counter() - start,
            "peak_memory_bytes": max(peak.bytes, notes.get("peak_memory_bytes", 0)),
            "origin": origin(),
            "stage": stage.description(),
        }

    def _compute(self, stage: Stage, folder: Path) -> Mapping[str, Any]:
        """Fill the folder: here, or where the stage says."""
        if getattr(stage.means.get("executor"), "kind", "inline") == "inline":
            return stage.module.compute(self, stage, folder)
        if stage.kind == "index":
            return building.compute(self, stage, folder)
        return elsewhere.compute(stage, folder, self.collection_of(stage))


def _stats(dataset: Any) -> Any:
    """What tells whether a dataset's files were touched; nothing for one that names none."""
    try:
        return [stat_of(path) for path in sorted(dataset.files())] if hasattr(dataset, "files") else ()
    except (OSError, ValueError):  # loading says what is missing
        return ()


def _name(config: Config) -> str:
    return canonical_json([type(config).__module__, type(config).__qualname__, config.model_dump(mode="json")])
