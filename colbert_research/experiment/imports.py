"""Which modules a module takes names from, told from the sources: nothing is imported to know it."""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "colbert_research"


def imports_of(name: str, file: Path) -> tuple[str, ...]:
    """The modules that a module takes names from; a name that a package only passes on is taken from where it is defined."""
    stat = file.stat()
    return _imported_now(name, file, stat.st_mtime_ns, stat.st_size)


@cache
def _imported_now(name: str, file: Path, changed: int, size: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_imported(name, file)))


def _imported(name: str, file: Path) -> Iterator[str]:
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in _nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                yield definer(source, alias.name)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.stmt):  # imports are statements, and stand in the bodies of others
            yield child
            yield from _nodes(child)
        elif isinstance(child, (ast.ExceptHandler, ast.match_case)):
            yield from _nodes(child)


@cache
def definer(source: str, name: str) -> str:
    """The module that defines `name` of `from source import name`."""
    file = own_file(source)
    if file is None or file.name != "__init__.py":
        return source
    if own_file(f"{source}.{name}") is not None:
        return f"{source}.{name}"
    passed_on = _passed_on(source, file)
    return definer(*passed_on[name]) if name in passed_on else source


@cache
def _passed_on(package: str, file: Path) -> dict[str, tuple[str, str]]:
    """What a package imports to pass on: name -> (module, name there)."""
    found = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            base = package.rsplit(".", node.level - 1)[0] + "." if node.level else ""
            found.update({alias.asname or alias.name: (base + node.module, alias.name) for alias in node.names})
    return found


@cache
def own_file(name: str) -> Path | None:
    """The source file of a module of this package, or of one that is no installed package; None for others.

    Nothing is imported to know it.
    """
    top, *parts = name.split(".")
    folder = _top_level(top)
    if folder is None:
        return None
    path = folder.joinpath(*parts)
    if not parts and folder.suffix == ".py":
        return folder
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _top_level(top: str) -> Path | None:
    """The folder (or file, for a lone module) of a top-level module that is this package, or that is neither installed nor of
    the standard library."""
    if top == PACKAGE:
        return Path(__file__).resolve().parents[1]
    if top in sys.stdlib_module_names:
        return None
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    file = Path(spec.origin)
    if {"site-packages", "dist-packages"} & set(file.parts):
        return None
    return file.parent if file.name == "__init__.py" else file


@cache
def distributions_of(module: str) -> tuple[str, ...]:
    """The distributions of a third party's module that a component from outside uses."""
    if module in sys.stdlib_module_names or module == PACKAGE:
        return ()
    return tuple(metadata.packages_distributions().get(module, ()))


def strip(source: str) -> str:
    """Source text without comments, docstrings and blank lines."""
    lines = source.splitlines()
    if "#" in source:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                last = (first.end_lineno or first.lineno) - 1
                before = lines[first.lineno - 1].encode()[: first.col_offset]
                after = lines[last].encode()[first.end_col_offset :]
                if not before.strip() and not after.strip():  # it has its lines to itself
                    lines[first.lineno - 1 : last + 1] = [""] * (last + 2 - first.lineno)
    return "\n".join(line.rstrip() for line in lines if line.strip())
