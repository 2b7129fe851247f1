"""Taking over artifacts that other code made: a sample is computed again, and only equal bytes are adopted.

An upgrade that changes no bytes changes keys all the same, because sources are part of them. What was expensive then need
not be computed again: an artifact with the same settings and inputs is looked for, a sample of it compared, and its files
are put under the new key, with the origin of both codes in the notes.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colbert_research.cache import Artifact, DamagedArtifactError
from colbert_research.config import canonical_json
from colbert_research.encoders.stored import hand_on
from colbert_research.experiment.experiment import Experiment
from colbert_research.experiment.origin import origin
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages.differs import DiffersError
from colbert_research.experiment.workspace import Workspace
from colbert_research.settings import ConfigError
from colbert_research.threads import one_blas_thread

logger = logging.getLogger("colbert_research")
NEVER = ("latency",)
"""Kinds that belong to the code that made them."""


@dataclass(frozen=True)
class Adoption:
    """What became of one stage: `state` is cached, adopted, differs or absent; `reason` says why."""

    stage: str
    state: str
    reason: str


def adopt(experiment: Experiment) -> list[Adoption]:
    """Adopt what can be adopted for an experiment, stage by stage; a stage that differs ends it for all that read it.

    Raises SourceChangedError and DataChangedError as computing the stages would.
    """
    workspace, found = experiment.workspace, list[Adoption]()
    missing: set[Stage] = set()
    for name, stage in experiment.stages.items():
        if missing & set(stage.inputs.values()):
            missing.add(stage)
            found.append(Adoption(name, "absent", "what it is made from has to be computed first"))
        elif workspace.find(stage) is not None:
            found.append(Adoption(name, "cached", "made by this code"))
        else:
            found.append(_adopt(workspace, name, stage))
            if found[-1].state != "adopted":
                missing.add(stage)
    return found


def _adopt(workspace: Workspace, name: str, stage: Stage) -> Adoption:
    reasons = []
    for candidate in _candidates(workspace, stage):
        try:
            candidate.verify()
            stage.check_sources()
            with one_blas_thread():
                stage.module.check(workspace, stage, candidate.path)
        except (DiffersError, DamagedArtifactError) as error:
            reasons.append(f"{candidate.key}: {error}")
            continue
        except ConfigError:
            raise
        except Exception as error:  # of code that is not ours, which may have changed in any way
            logger.debug("%s could not be compared", candidate.path, exc_info=True)
            reasons.append(f"{candidate.key}: it cannot be compared: {type(error).__name__}: {error}")
            continue
        _take_over(workspace, stage, candidate)
        return Adoption(name, "adopted", f"from {candidate.key}: a sample computed by this code has the same bytes")
    if reasons:
        return Adoption(name, "differs", "; ".join(reasons))
    return Adoption(name, "absent", "no artifact with these settings and inputs")


def _candidates(workspace: Workspace, stage: Stage) -> Iterator[Artifact]:
    """Artifacts of other code that have the settings and the inputs of a stage, newest first."""
    if stage.kind in NEVER:
        return
    settings = json.loads(canonical_json(dict(stage.settings)))
    fitting = [
        artifact
        for artifact in workspace.cache.artifacts(stage.kind)
        if artifact.key != stage.key
        and "stage" in artifact.notes
        and artifact.notes["stage"]["settings"] == settings
        and _same_inputs(workspace, stage, artifact.notes["stage"]["inputs"])
    ]
    yield from sorted(fitting, key=lambda artifact: str(artifact.notes["origin"]["finished"]), reverse=True)


def _same_inputs(workspace: Workspace, stage: Stage, keys: Mapping[str, str]) -> bool:
    """Whether each input is the stage's own, or one that the stage's own was adopted from."""
    if keys.keys() != stage.inputs.keys():
        return False
    for role, needed in stage.inputs.items():
        artifact = workspace.find(needed)
        if keys[role] not in {needed.key, *(artifact.notes.get("adopted_from", ()) if artifact else ())}:
            return False
    return True


def _take_over(workspace: Workspace, stage: Stage, candidate: Artifact) -> None:
    notes: dict[str, Any] = {
        **candidate.notes,
        "stage": stage.description(),
        "adopted_from": [candidate.key, *candidate.notes.get("adopted_from", ())],
        "adopted": {"by": origin(), "made_with": candidate.notes["stage"]["sources"]},
    }

    def fill(folder: Path) -> dict[str, Any]:
        for name in candidate.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        hand_on(candidate.path, folder, *candidate.files)
        return notes

    workspace.cache.put(stage.kind, stage.key, fill)
