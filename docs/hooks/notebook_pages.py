"""Notebooks as pages: what they say, their code, and what their cells showed when `make docs` executed them.

`python docs/hooks/notebook_pages.py FOLDER` executes every notebook that is not there already, or was changed since, by
papermill. Without an executed copy a page shows the notebook alone, and says so.
"""

import base64
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat

UNEXECUTED = "!!! note\n    This copy of the book was built without executing the notebook; `make docs` does.\n"
LONGEST = 60
"""Lines of plain text shown of one output."""
INPUTS = ("colbert_research", "configs")
"""What every notebook is made from, beside itself: if any of it is newer than an executed copy, it is executed again."""


def all_of(root: Path) -> list[Path]:
    """Every notebook of the project, by place."""
    return [*sorted((root / "notebooks").glob("*.ipynb")), *ablations(root)]


def ablations(root: Path) -> list[Path]:
    return sorted((root / "notebooks" / "ablations").glob("*.ipynb"))


def page_of(root: Path, notebook: Path) -> str:
    """The page of a notebook, by its place in the book."""
    return notebook.relative_to(root).with_suffix(".md").as_posix()


def pages(root: Path, notebook: Path, executed: Path) -> dict[str, str | bytes]:
    """The page of a notebook and the pictures in it, by their places; with outputs where `executed` holds a copy."""
    place = page_of(root, notebook)
    copy = executed / notebook.relative_to(root / "notebooks")
    found = nbformat.read(copy if copy.is_file() else notebook, as_version=4)
    title, *rest = found.cells[0].source.split("\n", 1)
    parts, files = [title, *([] if copy.is_file() else [UNEXECUTED]), *rest], dict[str, str | bytes]()
    for number, cell in enumerate(found.cells[1:]):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code" and not {"remove", "injected-parameters"} & {*cell.metadata.get("tags", [])}:
            parts.append(f"```python\n{cell.source}\n```")
            for place_in_cell, output in enumerate(_joined(cell.outputs)):
                stem = f"{Path(place).stem}-{number}-{place_in_cell}"
                shown, picture = _shown(output, stem)
                parts += [shown.replace(f"{root}/", "")] if shown else []
                if picture:
                    files[f"{Path(place).parent.as_posix()}/{stem}.png"] = picture
    return {place: "\n\n".join(parts) + "\n", **files}


def _joined(outputs: list[Any]) -> list[Any]:
    """The outputs of a cell, in which logged lines that follow each other are one."""
    found: list[Any] = []
    for output in outputs:
        if found and output.output_type == found[-1].output_type == "stream":
            found[-1] = nbformat.v4.new_output("stream", text=found[-1].text + output.text)
        else:
            found.append(output)
    return found


def _shown(output: Any, stem: str) -> tuple[str, bytes]:
    """One output as Markdown, the best form that it has, and the picture that it needs. Raises RuntimeError for an error."""
    if output.output_type == "error":
        raise RuntimeError(f"a cell of {stem} stopped: {output.ename}: {output.evalue}")
    if output.output_type == "stream":
        return _text(output.text), b""
    data = output.get("data", {})
    if "image/png" in data:
        width = output.get("metadata", {}).get("image/png", {}).get("width")
        size = f"{{ width={width} }}" if width else ""
        return f"![a figure of this notebook]({stem}.png){size}", base64.b64decode(data["image/png"])
    if "text/markdown" in data:
        return f'<div class="output" markdown="1">\n\n{data["text/markdown"]}\n\n</div>', b""
    if "text/html" in data:
        html = re.sub(r"<style scoped>.*?</style>", "", data["text/html"], flags=re.DOTALL)
        html = re.sub(r"\n\s*\n", "\n", html).replace('border="1" ', "")
        return f'<div class="output">\n{html}\n</div>', b""
    return _text(data.get("text/plain", "")), b""


def _text(text: str) -> str:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).rstrip().split("\n")
    if lines == [""]:
        return ""
    cut = [*lines[:LONGEST], f"… {len(lines) - LONGEST} more lines"] if len(lines) > LONGEST else lines
    return "```text\n" + "\n".join(cut) + "\n```"


def execute(root: Path, folder: Path) -> list[Path]:
    """Execute every notebook whose copy in `folder` is missing or older than what it is made from; returns the new copies."""
    made = []
    for notebook in filter(has_records, all_of(root)):
        copy = folder / notebook.relative_to(root / "notebooks")
        if copy.is_file() and copy.stat().st_mtime > changed(root, notebook):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        draft = copy.with_suffix(".draft.ipynb")
        own = {c.source.split(":")[0] for c in _parameters(notebook)}
        output = ["-p", "output", str(folder / "records" / notebook.stem)] if "output" in own else []
        command = [sys.executable, "-m", "papermill", str(notebook), str(draft), *output, "--no-progress-bar"]
        subprocess.run(command, check=True, cwd=root)
        draft.replace(copy)
        made.append(copy)
    return made


def changed(root: Path, notebook: Path) -> float:
    """When the newest of what a notebook is made from was written: its own file, package, configs, an ablation's records."""
    folders = [*(root / part for part in INPUTS), *([records_of(notebook)] if notebook.parent.name == "ablations" else [])]
    inside = (file for folder in folders for file in folder.rglob("*") if "__pycache__" not in file.parts)
    return max(file.stat().st_mtime for file in (notebook, *inside) if file.is_file())


def records_of(notebook: Path) -> Path:
    """Where the records of an ablation's notebook lie, whose name is NN_name: experiments/ablations/NN."""
    return notebook.parents[2] / "experiments" / "ablations" / notebook.name.partition("_")[0]


def has_records(notebook: Path) -> bool:
    """Whether a notebook has what it shows; those of ablations read records."""
    return notebook.parent.name != "ablations" or any(records_of(notebook).rglob("record.json"))


def _parameters(notebook: Path) -> list[Any]:
    """The lines of the cell of parameters, as cells of one line."""
    cells = [c for c in nbformat.read(notebook, as_version=4).cells if "parameters" in c.metadata.get("tags", [])]
    return [nbformat.v4.new_code_cell(line) for cell in cells for line in cell.source.splitlines()]


if __name__ == "__main__":
    execute(Path(__file__).resolve().parents[2], Path(sys.argv[1]).resolve())
