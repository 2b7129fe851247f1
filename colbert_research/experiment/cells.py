"""The source of a class that was defined in a notebook cell, and of what it uses of other cells."""

import ast
import hashlib
import linecache
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np

from colbert_research.settings import ConfigError

Definitions = dict[str, list[ast.AST]]
RUN_PYTHON = ("time", "capture", "prun")
"""Magics whose cell runs in the kernel's own namespace."""
_PLAIN = (bool, int, float, complex, str, bytes, tuple, frozenset, type(None))


def cell_source(cls: type) -> tuple[str, set[str]]:
    """What decides a class of a cell: text, and the modules from which it takes names.

    The text: its newest definition and those of the functions, classes and values of other cells that it names, with what
    was assigned to them later, and the values that plain names have now. Raises ConfigError where the cells are not known,
    and for a class that a later cell has defined anew.
    """
    main: Any = sys.modules.get("__main__")
    defined, imported = _definitions(getattr(main, "In", ()))
    if cls.__name__ not in defined:
        raise ConfigError(
            f"the source of {cls.__qualname__} cannot be read, so that results of one version of it could not be told from "
            "those of another; define it in a notebook cell or in a module that can be imported"
        )
    newest = getattr(main, cls.__name__, cls)
    if newest is not cls:
        raise ConfigError(
            f"{cls.__qualname__} was defined anew, and what is used is the one from before; run the cell again that registers "
            "it, and make the config anew"
        )
    found: dict[str, str] = {}
    modules: set[str] = set()
    waiting = [cls.__name__]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name in imported:
            modules.add(imported[name])
        value = getattr(main, name, None)
        nodes = _executed(name, value, defined.get(name, []))
        found[name] = "\n".join([*map(ast.unparse, nodes), _value(value)])
        waiting += [node.id for each in nodes for node in ast.walk(each) if isinstance(node, ast.Name)]
    return "\n".join(f"{name}: {found[name]}" for name in sorted(found) if found[name]), modules


def _executed(name: str, value: Any, nodes: list[ast.AST]) -> list[ast.AST]:
    """The definition that is in force, where the newest one stands in a cell that failed before it was reached.

    What a cell defines knows the file name that the kernel gave that cell, under which its lines are kept.
    """
    functions = [value, *(vars(value).values() if isinstance(value, type) else ())]
    codes = [found.__code__ for each in functions if isinstance(found := getattr(each, "__func__", each), FunctionType)]
    files = sorted({code.co_filename for code in codes if code.co_filename in linecache.cache})
    if len(files) != 1 or not nodes or not isinstance(nodes[0], (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return nodes
    try:
        tree = ast.parse("".join(linecache.getlines(files[0])))
    except SyntaxError:
        return nodes
    in_force = [node for node in tree.body if isinstance(node, type(nodes[0])) and getattr(node, "name", "") == name]
    return [*in_force[-1:], *nodes[1:]] if in_force else nodes


def _value(value: Any) -> str:
    """A value in a few characters, where it is one that can be told from another."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    return repr(value) if isinstance(value, (*_PLAIN, list, dict, set, np.generic)) else ""


def _definitions(cells: Any) -> tuple[Definitions, dict[str, str]]:
    """Of each name that the cells of this kernel defined, the newest definition and what changed it since; name -> module."""
    defined: Definitions = {}
    imported: dict[str, str] = {}
    for cell in cells:
        for node in _statements(cell):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                defined[node.name] = [node]
            elif isinstance(node, ast.Import):
                imported.update({a.asname or a.name.partition(".")[0]: a.name for a in node.names})
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.update({a.asname or a.name: f"{node.module}:{a.name}" for a in node.names})
            for name, whole in _assigned(node):
                if whole:
                    defined[name] = [node]
                else:
                    defined.setdefault(name, []).append(node)
    return defined, imported


def _statements(cell: str) -> Iterator[ast.stmt]:
    """What a cell runs, in the body of a magic such as `%%time` too, which the kernel hands on as text."""
    try:
        tree = ast.parse(cell)
    except (SyntaxError, ValueError):  # of another language, or one that failed
        return
    for node in tree.body:
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "run_cell_magic":
            magic, _, body = (arg.value if isinstance(arg, ast.Constant) else "" for arg in call.args)
            if magic in RUN_PYTHON:
                yield from _statements(str(body))
        else:
            yield node


def _assigned(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """The names that a statement assigns to, and whether it gives them a new value or changes a part of the old one."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, (ast.AnnAssign, ast.AugAssign)):
        targets = [node.target]
    for target in targets:
        for part in target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]:
            root: ast.AST = part
            while isinstance(root, (ast.Attribute, ast.Subscript)):
                root = root.value
            if isinstance(root, ast.Name):
                yield root.id, root is part and not isinstance(node, ast.AugAssign)
