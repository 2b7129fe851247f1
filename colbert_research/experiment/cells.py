"""The source of a class that was defined in a notebook cell, and of what it uses of other cells."""

import ast
import sys
from collections.abc import Iterator
from typing import Any

from colbert_research.config import ConfigError


def cell_source(cls: type) -> str:
    """The newest definition of a class in the cells that were run, then of the functions, classes and values that it names.

    In a script, the script. Raises ConfigError where there is neither.
    """
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is not None:
        with open(file, encoding="utf-8") as handle:
            return handle.read()
    defined = dict(_definitions())
    if cls.__name__ not in defined:
        raise ConfigError(
            f"the source of {cls.__qualname__} cannot be read, so that results of one version of it could not be told from "
            "those of another; define it in a notebook cell or in a module that can be imported"
        )
    found: dict[str, str] = {}
    waiting = [cls.__name__]
    while waiting:
        name = waiting.pop()
        if name in found or name not in defined:
            continue
        found[name] = ast.unparse(defined[name])
        waiting += [node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)]
    return "\n".join(found[name] for name in sorted(found))


def _definitions() -> Iterator[tuple[str, ast.AST]]:
    """Name and definition of everything that the cells of this kernel defined, oldest first."""
    cells: Any = getattr(sys.modules.get("__main__"), "In", ())
    for cell in cells:
        try:
            tree = ast.parse(cell)
        except (SyntaxError, ValueError):  # of another language, or one that failed
            continue
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node.name, node
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from ((t.id, node) for target in targets for t in ast.walk(target) if isinstance(t, ast.Name))
