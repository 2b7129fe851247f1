"""Structure: what a strategy needs of an index beside its codes, such as a graph."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from colbert_research.artifacts import checksums
from colbert_research.config import config_id
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages import index as index_stage
from colbert_research.experiment.stages.differs import DiffersError
from colbert_research.experiment.workspace import Workspace
from colbert_research.index import DerivedStructure, Index, build_structure

FOLDER = "structure"


def plan(structure: DerivedStructure, built: Stage, earlier: Iterable[Stage], search: Any) -> Stage:
    """One structure over the index `built`; `earlier`: the stages of those it may be made of; `search`: who wants it."""
    needed = {config_id(needed): needed for needed in structure.needs()}
    inputs = {"index": built} | {
        role_of(stage.settings["structure"]): stage for stage in earlier if config_id(stage.settings["structure"]) in needed
    }
    return Stage("structure", {"structure": structure}, inputs, means={"search": search})


def compute(workspace: Workspace, stage: Stage, folder: Path) -> dict[str, Any]:
    index = open_index(workspace, stage)
    stage.means["search"].fitted(index)[0].check(index, 1)  # before anything is built for it
    (folder / FOLDER).mkdir()
    build_structure(index, stage.settings["structure"], folder / FOLDER)
    return {"bytes": sum(file["bytes"] for file in checksums(folder / FOLDER).values())}


def check(workspace: Workspace, stage: Stage, folder: Path) -> None:
    """Build it again: a part of a graph or of a trained structure tells nothing of the rest."""
    import tempfile

    with tempfile.TemporaryDirectory() as again:
        build_structure(open_index(workspace, stage), stage.settings["structure"], Path(again))
        if checksums(again) != checksums(folder / FOLDER):
            raise DiffersError(f"structure {stage.settings['structure'].kind}: its files differ")


def role_of(structure: DerivedStructure) -> str:
    """Under which name a structure is an input of what reads it."""
    return f"{structure.kind} {config_id(structure)}"


def open_index(workspace: Workspace, stage: Stage) -> Index:
    """The index among a stage's inputs, with the structures that are among them."""
    structures = {
        needed.settings["structure"]: workspace.path(needed) / FOLDER
        for needed in stage.inputs.values()
        if needed.kind == "structure"
    }
    return Index.open(workspace.path(stage.inputs["index"]) / index_stage.FOLDER, structures=structures)
