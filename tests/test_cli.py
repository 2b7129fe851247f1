"""The command line: what it prints, and what it says of what it cannot read."""

import nbformat
import pytest
from click.testing import CliRunner

from colbert_research.cli import main


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output


def notebook(path, outputs):
    cell = nbformat.v4.new_code_cell("1 + 1", outputs=outputs)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


def test_show_prints_the_last_table(tmp_path):
    outputs = [nbformat.v4.new_output("execute_result", {"text/plain": text}) for text in ("first", "the table")]
    path = notebook(tmp_path / "out.ipynb", outputs)
    path.with_suffix(".html").write_text("")
    code, out = run("show", path)
    assert code == 0
    assert out.splitlines()[0] == "the table"
    assert f"html      {path.with_suffix('.html')}" in out


@pytest.mark.parametrize("text", ["# no notebook", '{"metrics": {}}', "[1, 2]", ""])
def test_show_of_what_is_no_notebook(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    code, out = run("show", tmp_path / "record.json")
    assert code == 1
    assert out.startswith(f"Error: {tmp_path / 'record.json'} is not a notebook: ")


def test_show_of_a_notebook_that_did_not_run(tmp_path):
    code, out = run("show", notebook(tmp_path / "out.ipynb", []))
    assert code == 1
    assert "has no outputs; execute it first" in out


def test_summary_of_nothing(tmp_path):
    code, out = run("summary", tmp_path)
    assert code == 1
    assert "nothing has finished there" in out
    assert not list(tmp_path.iterdir())
