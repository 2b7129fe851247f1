"""The code of a page of the book, run as a reader would run it, block by block.

```` ```python ```` is executed, all blocks of a page in one namespace; each line of ```` ```sh ```` is a command; a block with
`title="FILE"` is written to that file; ```` ```text ```` behind any of them is what it prints, `...` for what varies. Blocks of
other languages are shown only.
"""

import doctest
import io
import os
import re
import shlex
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

RUN, SHOWN = ("python", "sh"), ("console", "text", "yaml", "json")
FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A block of code: `title` is the file that it is written to, `printed` what it should print where the page says so."""

    language: str
    title: str
    source: str
    printed: str | None = None


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page in order; a `text` behind one that runs belongs to it. Raises ValueError for an unknown language."""
    found: list[Block] = []
    end = 0
    for match in FENCE.finditer(text):
        language, title, source = match[1], match[2] or "", match[3]
        if language not in (*RUN, *SHOWN):
            raise ValueError(f"a block of {language or 'no language'}; expected one of {', '.join((*RUN, *SHOWN))}")
        if language == "text" and found and found[-1].language in RUN and not text[end : match.start()].strip():
            found[-1] = found[-1]._replace(printed=source)
        else:
            found.append(Block(language, title, source))
        end = match.end()
    return found


def perform(blocks: list[Block]) -> None:
    """Run the blocks in the working folder. Raises AssertionError where one prints something else than the page says."""
    namespace = vars(sys.modules["__main__"])
    before = dict(namespace)
    try:
        for block in blocks:
            run(block, namespace)
    finally:
        namespace.clear()
        namespace.update(before)


def run(block: Block, namespace: dict[str, Any]) -> None:
    if block.title:
        file = Path(block.title)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.source, encoding="utf-8")
    if block.title or block.language not in RUN:
        return
    out = io.StringIO()
    with redirect_stdout(out):
        if block.language == "python":
            exec(compile(block.source, "<page>", "exec"), namespace)
        else:
            for line in block.source.splitlines():
                command(shlex.split(line, comments=True))
    if block.printed is not None and not doctest.OutputChecker().check_output(block.printed, out.getvalue(), LOOSE):
        raise AssertionError(f"{block.source}\nshould print\n{block.printed}\nand printed\n{out.getvalue()}")


def perform_in(folders: dict[str, list[Block]]) -> list[str]:
    """Run the blocks of several pages, each in a folder of its own; what went wrong, page by page."""
    faults = []
    for folder, blocks in folders.items():
        os.chdir(folder)
        try:
            perform(blocks)
        except (Exception, SystemExit):  # noqa: BLE001 (whatever stops a page, the others are run)
            faults.append(f"{folder}:\n{traceback.format_exc()}")
    return faults


def command(words: list[str]) -> None:
    """A command of this package, in this process. Raises whatever it refuses."""
    from colbert_research.cli import main

    if words[0] != "colbert-research":
        raise ValueError(f"a page runs colbert-research alone; given {words}. Show other commands as `console`")
    main.main(words[1:], prog_name="colbert-research", standalone_mode=False)
