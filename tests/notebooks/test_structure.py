"""The notebook contract: one parameters cell, short cells, headings, no outputs committed."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
OF_RECORDS = ("compare.ipynb", "rag.ipynb", "ablations/")
"""Those that make no record; tests/ledger has more to say of ablations."""


EXPERIMENT = ["config", "overrides", "output"]


@pytest.fixture(params=[path.relative_to(ROOT / "notebooks").as_posix() for path in NOTEBOOKS])
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    return nbformat.read(ROOT / "notebooks" / name, as_version=4)


def test_there_are_notebooks():
    assert {"quickstart.ipynb", "evaluate.ipynb", "plaid.ipynb"} <= {p.name for p in NOTEBOOKS}


def test_it_is_valid(notebook):
    nbformat.validate(notebook)


def test_one_parameters_cell_that_papermill_can_read(name, notebook):
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) == 1
    lines = [line for line in cells[0].source.splitlines() if line.strip()]
    found = [re.fullmatch(r"(\w+): (\w+) = ([^=#]*?)(  # [^=]*)?", line) for line in lines]
    assert all(found), f"papermill's inspector reads `name: type = value  # help`, without another = in it: {lines}"
    own = {
        "compare.ipynb": ["records", "baseline", "measure"],
        "inspect.ipynb": [*EXPERIMENT, "query_id"],
        "rag.ipynb": ["model", "pages", "chat", "output"],
    }
    assert [m[1] for m in found] == (["records"] if name.startswith("ablations/") else own.get(name, EXPERIMENT))
    assert {m[2] for m in found} == {"str"}


def test_no_outputs_are_committed(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_cells_are_short_and_call_the_package(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 12
            for node in ast.walk(ast.parse(cell.source)):
                assert not isinstance(node, ast.ClassDef)
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 5


def test_stages_have_headings_and_the_record_is_saved_last(name, notebook):
    headings = [c for c in notebook.cells if c.cell_type == "markdown" and c.source.startswith("#")]
    assert len(headings) >= 3
    code = [c.source for c in notebook.cells if c.cell_type == "code"]
    assert ".save()" in code[-1] or name.startswith(OF_RECORDS)
