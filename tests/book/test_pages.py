"""What a page of the book shows runs as it stands there, and prints what the page says."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.book.pages import RUN, Block, blocks_of, perform
from tests.warm import Program

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
WITH_CODE = [page for page in PAGES if any(block.language in RUN for block in blocks_of(page.read_text(encoding="utf-8")))]
MAIN = """
import json, sys
from pathlib import Path
from tests.book.pages import Block, perform_in

pages = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
sys.exit("\\n".join(perform_in({folder: [Block(*each) for each in blocks] for folder, blocks in pages.items()})) or None)
"""


def project_in(folder: Path) -> Path:
    """A project's folder as a reader has it: configs, notebooks, and an index that another engine built."""
    for name in ("configs", "notebooks"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "tests" / "index" / "foreign" / "stanford", folder / "their_index")
    return folder


@pytest.mark.slow
def test_the_code_of_every_page_runs(tmp_path):
    """In one process, because most of them import what encoders need, which takes longer than all that they compute."""
    given = {str(project_in(tmp_path / page.stem)): blocks_of(page.read_text(encoding="utf-8")) for page in WITH_CODE}
    (tmp_path / "blocks.json").write_text(json.dumps(given), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLBERT_RESEARCH_PROGRESS": "off"}
    process = Program(MAIN, tmp_path / "blocks.json", cwd=tmp_path, env=env)
    out, errors = process.communicate(timeout=500)
    assert process.returncode == 0, out + errors


def test_a_page_that_prints_something_else_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    perform([Block("python", "", "print(1)", "1\n"), Block("text", "kept.txt", "a line\n")])
    assert Path("kept.txt").read_text() == "a line\n"
    with pytest.raises(AssertionError, match="should print"):
        perform([Block("python", "", "print(1)", "2\n")])


def test_every_kind_of_page_has_code_that_runs():
    assert {page.parent.name for page in WITH_CODE} == {"tutorials", "how-to", "explanation"}
