"""The engine that executes a notebook in its own process: its outputs are those of a kernel."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.warm import Program

CELLS = {
    "a value": "1 + 1",
    "what is printed": "print('a'); print('b'); import sys; print('c', file=sys.stderr)",
    "no value": "x = 3;",
    "a table": "import pandas as pd; pd.DataFrame({'a': [1]})",
    "what is displayed": "from IPython.display import HTML, display; display(HTML('<b>x</b>')); display(5)",
    "what is displayed anew": "h = display('before', display_id=True); print('then'); h.update('after')",
    "what is cleared": "from IPython.display import clear_output; print('gone'); clear_output(); print('there')",
    "an await": "import asyncio; await asyncio.sleep(0); 'awaited'",
    "a magic": "%env SOME_VARIABLE=7",
    "another magic": "%matplotlib inline",
    "a command": "!echo hi",
    "bytes": "import click; click.echo('hi')",
    "a stream as a file": "import sys; sys.stdout.writelines(['a', 'b']); sys.stdout.closed",
    "much": "for i in range(20000): print(i)",
    "a figure": "from matplotlib.figure import Figure\nfrom IPython.core.pylabtools import select_figure_formats\n"
    "select_figure_formats(get_ipython(), {'png'})\nFigure(figsize=(1, 1))",
    "an error": "def f():\n    return 1 / 0\n\nf()",
    "an error of syntax": "1 +",
}
RUN = """
import sys, papermill
from papermill.engines import papermill_engines
from colbert_research.sweep.engine import InProcess
papermill_engines.register("in-process", InProcess)
papermill.execute_notebook(sys.argv[1], sys.argv[2], engine_name=sys.argv[3], kernel_name="python3", progress_bar=False)
"""


def executed(tmp_path, cells: list, engine: str):
    notebook = new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}})
    nbformat.write(notebook, tmp_path / "in.ipynb")
    ran = Program(RUN, tmp_path / "in.ipynb", tmp_path / "out.ipynb", engine, cwd=tmp_path)
    _, errors = ran.communicate(timeout=300)
    found = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    nbformat.validate(found)
    return found, ran.returncode, errors


def told(cell) -> list:
    """The outputs of a cell, but for addresses, line numbers and colours; of an error its name and words."""
    found = []
    for output in cell.outputs:
        kind = output.output_type
        if kind == "stream":  # of which a kernel sends pieces, and whose commands it runs in a terminal
            text = output.text.replace("\r\n", "\n")
            if found and found[-1][:2] == (kind, output.name):
                text = found.pop()[2] + text
            found.append((kind, output.name, text))
        elif kind == "error":
            found.append((kind, output.ename, output.evalue.split(" (")[0]))
        else:
            found.append((kind, sorted(output.data), output.data["text/plain"], output.get("execution_count")))
    return found


@pytest.mark.slow
def test_outputs_are_those_of_a_kernel(tmp_path):
    """All cells but those that fail; one notebook through a kernel, one without."""
    cells = [new_code_cell(source) for name, source in CELLS.items() if not name.startswith("an error")]
    ours, status, errors = executed(tmp_path, [new_markdown_cell("text"), *cells], "in-process")
    assert status == 0, errors
    theirs, status, errors = executed(tmp_path, [new_markdown_cell("text"), *cells], "nbclient")
    assert status == 0, errors
    for name, mine, other in zip(CELLS, ours.cells[1:], theirs.cells[1:], strict=False):
        assert told(mine) == told(other), name
        assert mine.execution_count == other.execution_count
        assert mine.metadata.papermill.status == "completed"


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "error"), [("an error", "ZeroDivisionError"), ("an error of syntax", "SyntaxError")])
def test_a_cell_that_fails_is_the_last_one(tmp_path, cell, error):
    cells = [new_code_cell("a = 1"), new_code_cell(CELLS[cell]), new_code_cell("open('ran', 'w')")]
    notebook, status, errors = executed(tmp_path, cells, "in-process")
    assert status != 0
    assert error in errors
    assert not (tmp_path / "ran").exists()
    (failed,) = [c for c in notebook.cells if any(o.output_type == "error" for o in c.get("outputs", []))]
    assert told(failed)[-1][1] == error
    assert failed.metadata.papermill.exception is True
