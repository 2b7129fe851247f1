"""Which modules a module takes names from, told from the sources: nothing is imported to know it."""

import ast
import io
import sysconfig
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
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
    for node in _nodes(ast.parse(source_text(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from reached(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                yield from reached(source, alias.name)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from _nodes(other)
        elif isinstance(child, ast.stmt):  # imports are statements, and stand in the bodies of others
            yield child
            yield from _nodes(child)
        elif isinstance(child, (ast.ExceptHandler, ast.match_case)):
            yield from _nodes(child)


def reached(source: str, name: str = "") -> tuple[str, ...]:
    """The modules that `import source` or `from source import name` takes something from.

    Of this package, whose rooms only pass names on, the module that defines the name. Of others, all packages above it, too:
    they run first, and may change what they pass on.
    """
    if source == PACKAGE or source.startswith(f"{PACKAGE}."):
        return (definer(source, name),) if name else (source,)
    parts = source.split(".")
    above = tuple(".".join(parts[: n + 1]) for n in range(len(parts)))
    return (*above, f"{source}.{name}") if name else above


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
    """What a package imports to pass on, at once or when it is asked (`_HOME`): name -> (module, name there)."""
    found = {}
    for node in ast.parse(source_text(file)).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            base = package.rsplit(".", node.level - 1)[0] + "." if node.level else ""
            found.update({alias.asname or alias.name: (base + node.module, alias.name) for alias in node.names})
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
            homes = ast.literal_eval(node.value)
            found.update({name: (f"{package}.{home}", name) for name, home in homes.items()})
    return found


@cache
def own_file(name: str) -> Path | None:
    """The source file of a module of this package, or of one that is no installed package; None for others.

    Nothing is imported to know it.
    """
    top, *parts = name.split(".")
    for place in _locations(top):
        if place.is_file():
            return place if place.suffix == ".py" and not parts else None
        path = place.joinpath(*parts)
        for file in (path / "__init__.py", path.with_suffix(".py")):  # as Python chooses
            if file.is_file() and (parts or file.name == "__init__.py"):
                return file
    return None


def source_text(file: Path) -> str:
    """A source file's text, in the encoding that it says it has."""
    with tokenize.open(file) as opened:
        return opened.read()


def is_own(top: str) -> bool:
    """Whether a top-level module is this package, or neither installed nor of the standard library."""
    return bool(_locations(top))


@cache
def _locations(top: str) -> tuple[Path, ...]:
    """The folders (or the file, for a lone module) of a top-level module that `is_own`; else none."""
    if top == PACKAGE:
        return (Path(__file__).resolve().parents[1],)
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return ()
    if spec is None:
        return ()
    if spec.origin is None or not spec.origin.endswith(
        (".py", *EXTENSION_SUFFIXES)
    ):  # a folder without __init__.py, or built in
        locations = tuple(Path(each) for each in spec.submodule_search_locations or ())
    else:
        file = Path(str(spec.origin))
        locations = (file.parent if file.name == "__init__.py" else file,)
    return tuple(place for place in locations if not _installed(top, place))


def _installed(top: str, place: Path) -> bool:
    if {"site-packages", "dist-packages"} & set(place.parts):
        return bool(distributions_of(top))  # of a file that somebody laid there, no version tells anything
    return any(place.is_relative_to(folder) for folder in _STANDARD)


_STANDARD = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "platstdlib")]


def distributions_of(module: str) -> tuple[str, ...]:
    """The distributions of a third party's module that a component from outside uses."""
    return tuple(_distributions().get(module, ()))


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def strip(source: str) -> str:
    """Source text without comments, docstrings and blank lines; what is inside other strings stays as it is."""
    lines = source.split("\n")
    if "#" in source:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    docstrings: set[ast.AST] = set()
    inside: set[int] = set()  # lines that end inside a string
    for node in ast.walk(ast.parse(source)):  # parents first
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and node not in docstrings:
            inside.update(range(node.lineno - 1, (node.end_lineno or node.lineno) - 1))
        elif isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                last = (first.end_lineno or first.lineno) - 1
                before = lines[first.lineno - 1].encode()[: first.col_offset]
                after = lines[last].encode()[first.end_col_offset :]
                if not before.strip() and not after.strip():  # it has its lines to itself
                    lines[first.lineno - 1 : last + 1] = [""] * (last + 2 - first.lineno)
                    docstrings.add(first.value)
    return "\n".join(line if i in inside else line.rstrip() for i, line in enumerate(lines) if line.strip() or i in inside)
