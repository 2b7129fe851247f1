"""Every ablation has claims, grids and a notebook that fit each other, seen on records that were made up."""

import ast
from pathlib import Path

import nbformat
import pytest

from colbert_research.ledger import Ablation, Evidence
from colbert_research.ledger.findings import REFUTED
from colbert_research.ledger.ledger import found_by
from colbert_research.sweep.config import SweepConfig
from tests.ledger.made_up import config_of, make_up
from tests.warm import PAPERMILL, Program

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = sorted((ROOT / "experiments" / "ablations").glob("*/claims.yaml"))
NUMBERS = [file.parent.name for file in CLAIMS]
GRIDS = ROOT / "configs" / "sweeps" / "ablations"


def notebook_of(number: str) -> Path:
    (found,) = (ROOT / "notebooks" / "ablations").glob(f"{number}_*.ipynb")
    return found


def test_every_notebook_and_every_grid_has_claims():
    notebooks = {path.name.partition("_")[0] for path in (ROOT / "notebooks" / "ablations").glob("*.ipynb")}
    grids = {path.stem.partition("_")[0] for path in GRIDS.glob("*.yaml")}
    assert notebooks == grids == {*NUMBERS}


@pytest.mark.parametrize("number", NUMBERS)
def test_its_notebook_follows_the_form(number):
    notebook = nbformat.read(notebook_of(number), as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    assert parameters.source.startswith('records: str = ""')
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for call in (f'View.open("{number}", records)', ".claims()", ".verdicts()", ".reasons()", "plot_"):
        assert call in code
    assert notebook.cells[0].source.startswith(f"# {number} · ")


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_its_claims_are_judged_by_its_grids_and_can_fail(number, tmp_path):
    """By the records of its grids, made up, or by a benchmark's lines; all but those that say they cannot be tested."""
    ablation = Ablation.load(ROOT / "experiments" / "ablations" / number / "claims.yaml")
    waiting = {(claim.id, place): rule for claim in ablation.claims for place, rule in enumerate(claim.rules)}
    for name in reversed(ablation.records):
        if waiting:
            grid = GRIDS / f"{number}_{name}.yaml"
            folder = tmp_path / name if grid.is_file() else ROOT / "experiments" / "ablations" / number / name
            if grid.is_file():
                make_up(grid, folder)
            evidence = Evidence.below(folder)
            for which, rule in list(waiting.items()):
                if found_by(rule, evidence).records:
                    assert rule.judge(rule.violated(evidence)).verdict == REFUTED, which
                    del waiting[which]
    assert not waiting, {which: found_by(rule, evidence).reason for which, rule in waiting.items()}


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_every_point_of_its_grids_is_an_experiment(number):
    for file in GRIDS.glob(f"{number}_*.yaml"):
        found = [config_of(file, point) for point in SweepConfig.load(file).expand()]
        assert len({config.model_dump_json() for config in found}) == len(found), f"{file.name} has a point twice"


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_agreement_with_exact_search_has_a_reference(number):
    """Overlap is with the ranking of exact search over the same vectors, which its grid must hold."""
    text = (ROOT / "experiments" / "ablations" / number / "claims.yaml").read_text(encoding="utf-8")
    if not any(f"figure: {name}" in text for name in ("overlap@", "nRecall@", "RBO(")):
        return
    for file in GRIDS.glob(f"{number}_*.yaml"):
        found = [config_of(file, point).model_dump(mode="json") for point in SweepConfig.load(file).expand()]
        spaces = [str([config[axis] for axis in ("dataset", "encoder", "reducer")]) for config in found]
        exact = {
            space
            for space, config in zip(spaces, found, strict=True)
            if (config["codec"]["kind"], config["search"]["kind"], config["pooling"]["kind"]) == ("exact", "exhaustive", "none")
        }
        assert {*spaces} <= exact, f"{file.name}: {sorted({*spaces} - exact)[0]}"
        if " of the codes" in text:
            indexes = [str([space, config["codec"], config["pooling"]]) for space, config in zip(spaces, found, strict=True)]
            kinds = [config["search"]["kind"] for config in found]
            exhaustive = {index for index, kind in zip(indexes, kinds, strict=True) if kind == "exhaustive"}
            assert {*indexes} <= exhaustive, f"{file.name}: {sorted({*indexes} - exhaustive)[0]}"


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_its_notebook_shows_records_and_that_there_are_none(number, tmp_path):
    """Cell after cell, in this process; what a cell shows is made."""
    make_up(GRIDS / f"{number}_quick.yaml", tmp_path / "records")
    (tmp_path / "none").mkdir()
    for folder in ("none", "records"):
        names: dict[str, object] = {}
        for cell in nbformat.read(notebook_of(number), as_version=4).cells:
            if cell.cell_type == "code":
                tree = ast.parse(cell.source)
                last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
                exec(compile(tree, number, "exec"), names)
                if "parameters" in cell.metadata.get("tags", []):
                    names["records"] = str(tmp_path / folder)
                if last is not None:
                    shown = repr(eval(compile(ast.Expression(last.value), number, "eval"), names))
        assert shown.startswith(f"'{len(names['ablation'].ablation.claims)} claims: ")


@pytest.mark.slow
def test_a_notebook_runs_under_papermill(tmp_path):
    make_up(GRIDS / "03_quick.yaml", tmp_path / "records")
    given = [notebook_of("03"), tmp_path / "out.ipynb", "-p", "records", tmp_path / "records"]
    process = Program(PAPERMILL, *given, cwd=ROOT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    outputs = str([cell.get("outputs") for cell in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells])
    for shown in ("30 records of nfcorpus, scifact", "image/png", "not testable here"):
        assert shown in outputs
