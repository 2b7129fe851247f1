"""What a component from outside this package is, as it is in force now: a hash of its code and of the values that it uses.

A file or the text of a notebook cell says what might run; an edited file, a cell that failed half way, a default that was bound
earlier or a global set from the command line make it something else. So the compiled code of the component's own functions is
hashed, with their defaults, closures and the globals that they name, and so on from there. Of this package and of installed
libraries only names are kept: their sources and versions count in their own right (see `sources`).
"""

import dis
import functools
import hashlib
import pickle
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from colbert_research.config import Config
from colbert_research.experiment.imports import PACKAGE, is_own, own_file, reached
from colbert_research.settings import ConfigError

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))
_FUNCTIONS = (FunctionType, classmethod, staticmethod, property)


@dataclass
class Live:
    """What was found of some components: `digest` of what is theirs, the `modules` of this package and those that are imported
    when a function runs, the top-level modules of `libraries`, and a `part` a global, to tell which one changed."""

    modules: set[str] = field(default_factory=set)
    libraries: set[str] = field(default_factory=set)
    parts: dict[str, str] = field(default_factory=dict)
    _seen: dict[int, tuple[str, Any]] = field(default_factory=dict)
    _walked: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, components: Iterable[type]) -> "Live":
        """Of some classes. Raises ConfigError for a value that cannot be told from another one."""
        live = cls()
        for each in components:
            live.parts[f"{each.__module__}:{each.__qualname__}"] = live._hash(each, each.__qualname__)
        return live

    @property
    def digest(self) -> str:
        return _digest(sorted(self.parts.items()))

    def _hash(self, value: Any, name: str) -> str:
        """A hash of a value; `name`: how it is reached, for errors."""
        if isinstance(value, _PLAIN):
            return _digest(type(value).__name__, repr(value))
        if id(value) in self._seen:  # a circle, or met before
            return self._seen[id(value)][0]
        self._seen[id(value)] = f"<{len(self._seen)}>", value  # kept, so that no other object gets its id meanwhile
        found = self._hash_new(value, name)
        self._seen[id(value)] = found, value
        return found

    def _hash_new(self, value: Any, name: str) -> str:
        if isinstance(value, ModuleType):
            return self._module(value)
        if isinstance(value, type):
            return self._class(value) if _is_own(value) else self._foreign(value)
        if isinstance(value, FunctionType):
            return self._function(value) if _is_own(value) else self._foreign(value)
        if isinstance(value, MethodType):
            return _digest("method", self._hash(value.__func__, name), self._hash(value.__self__, name))
        if isinstance(value, classmethod | staticmethod):
            return _digest(type(value).__name__, self._hash(value.__func__, name))
        if isinstance(value, property):
            return _digest("property", *(self._hash(each, name) for each in (value.fget, value.fset, value.fdel)))
        if isinstance(value, functools.partial):
            return _digest("partial", *(self._hash(each, name) for each in (value.func, value.args, value.keywords)))
        inner = getattr(value, "__wrapped__", None) or getattr(value, "py_func", None) or getattr(value, "func", None)
        if isinstance(inner, FunctionType):  # functools.cache, a jitted function, a cached property
            return _digest(type(value).__qualname__, self._hash(inner, name))
        if isinstance(value, list | tuple):
            return _digest(type(value).__qualname__, *(self._hash(each, name) for each in value))
        if isinstance(value, Mapping):
            pairs = ((self._hash(key, name), self._hash(each, f"{name}[{key!r}]")) for key, each in value.items())
            return _digest(type(value).__qualname__, *sorted(pairs))
        if isinstance(value, set | frozenset):
            return _digest("set", *sorted(self._hash(each, name) for each in value))
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return _digest(
                str(value.dtype), str(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            )
        if isinstance(value, CodeType):
            return self._code(value, {}, name)
        if isinstance(value, Enum):
            return _digest(self._hash(type(value), name), value.name)
        if isinstance(value, Config):
            fields = {each: getattr(value, each) for each in type(value).model_fields}
            return _digest(self._hash(type(value), name), self._hash(fields, name))
        if isinstance(value, BuiltinFunctionType) or (callable(value) and not hasattr(value, "__dict__")):
            return self._foreign(value)
        return self._object(value, name)

    def _module(self, module: ModuleType) -> str:
        """A module alone: what is taken of it is hashed where it is taken, see `_code`."""
        top = module.__name__.partition(".")[0]
        if top == PACKAGE:
            self.modules.add(module.__name__)
        elif not is_own(top):
            self.libraries.add(top)
        return _digest("module", module.__name__, _compiled_file(module))

    def _foreign(self, value: Any) -> str:
        """Of this package, of an installed library or of Python itself: a name."""
        module = str(getattr(value, "__module__", None) or getattr(type(value), "__module__", ""))
        top = module.partition(".")[0]
        if top == PACKAGE:
            self.modules.add(module)
        elif top in sys.modules and is_own(top):  # compiled, of one's own
            return _digest("compiled", module, getattr(value, "__qualname__", ""), _compiled_file(sys.modules[module]))
        elif top:
            self.libraries.add(top)
        return _digest("name", module, str(getattr(value, "__qualname__", type(value).__qualname__)))

    def _function(self, function: FunctionType) -> str:
        code = function.__code__
        bound = [self._hash(each, function.__qualname__) for each in (function.__defaults__, function.__kwdefaults__)]
        for cell, free in zip(function.__closure__ or (), code.co_freevars, strict=True):
            try:
                bound.append(self._hash(cell.cell_contents, f"{free} around {function.__qualname__}"))
            except ValueError:  # not filled yet
                bound.append("empty")
        return _digest("function", self._code(code, function.__globals__, function.__qualname__), *bound)

    def _code(self, code: CodeType, names: Mapping[str, Any], name: str) -> str:
        """Compiled code, without its docstring and lines, and what it names of the globals `names`."""
        parts = [code.co_name, code.co_code.hex(), repr(code.co_names), repr(code.co_varnames), repr(code.co_freevars)]
        for i, constant in enumerate(code.co_consts):
            if isinstance(constant, CodeType):
                parts.append(self._code(constant, names, name))
            else:
                parts.append(self._hash(None if i == 0 and _begins_with_docstring(code) else constant, name))
        for each in sorted(_globals_of(code)):
            if each in names and not (each.startswith("__") and each.endswith("__")):
                parts += [each, self._global(each, names[each], code.co_names)]
        for module in _imported_by(code, names):
            self.modules.add(module)
            parts.append(module)
        return _digest("code", *parts)

    def _global(self, name: str, value: Any, taken: Iterable[str]) -> str:
        """The value of a global; of a module, what the code that names it may take from it."""
        found = [self._hash(value, name)]
        if isinstance(value, ModuleType):
            top = value.__name__.partition(".")[0]
            if top == PACKAGE:
                self.modules |= {module for each in taken if hasattr(value, each) for module in reached(value.__name__, each)}
            elif is_own(top) and id(value) not in self._walked:
                self._walked.add(id(value))
                attributes = {each: getattr(value, each) for each in taken if hasattr(value, each)}
                found += [_digest(each, self._global(each, inner, taken)) for each, inner in sorted(attributes.items())]
                self._walked.discard(id(value))
        self.parts.setdefault(name, _digest(*found))
        return _digest(*found)

    def _class(self, cls: type) -> str:
        parts = [cls.__qualname__, *(self._hash(base, base.__qualname__) for base in cls.__bases__)]
        fields: Mapping[str, Any] = getattr(cls, "model_fields", {}) if issubclass(cls, Config) else {}
        for name, info in sorted(fields.items()):
            annotation = re.sub(r" at 0x[0-9a-f]+", "", repr(info.annotation))
            default = [self._hash(each, f"{cls.__qualname__}.{name}") for each in (info.default, info.default_factory)]
            parts += [name, annotation, *default]
        for name, value in sorted(vars(cls).items()):
            dunder = name.startswith("__") and name.endswith("__")
            if not name.startswith(("__pydantic", "model_", "_abc_")) and not (dunder and not isinstance(value, _FUNCTIONS)):
                parts += [name, self._hash(value, f"{cls.__qualname__}.{name}")]
        return _digest("class", *parts)

    def _object(self, value: Any, name: str) -> str:
        """Any other object: its class, and how it is pickled."""
        kind = self._hash(type(value), name)
        if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
            return _digest(kind, self._hash(value.detach().cpu().numpy(), name))
        try:
            return _digest(kind, hashlib.sha256(pickle.dumps(value, protocol=4)).hexdigest())
        except Exception as error:  # of any class, in its own way
            if type(value).__module__.partition(".")[0] in sys.stdlib_module_names:  # a lock, an open file
                return kind
            raise ConfigError(
                f"{name} is a {type(value).__qualname__}, which a component uses and which cannot be told from another one "
                f"({type(error).__name__}: {error}); make it inside a function, or of plain values"
            ) from error


def _is_own(value: Any) -> bool:
    """Whether a class or a function is from outside: neither of this package, nor installed, nor of Python."""
    top = str(getattr(value, "__module__", None) or "").partition(".")[0]
    if top in ("", PACKAGE, "builtins"):
        return False
    module = sys.modules.get(top)
    return top == "__main__" or module is None or getattr(module, "__spec__", None) is None or is_own(top)


def _begins_with_docstring(code: CodeType) -> bool:
    if sys.version_info >= (3, 13):
        return bool(code.co_flags & 0x4000000)  # CO_HAS_DOCSTRING
    named = not code.co_name.startswith("<")  # no lambda, no comprehension
    return named and bool(code.co_consts) and isinstance(code.co_consts[0], str)


def _globals_of(code: CodeType) -> set[str]:
    """Names that code looks up outside itself."""
    return {str(each.argval) for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}


def _imported_by(code: CodeType, names: Mapping[str, Any]) -> list[str]:
    """Modules that code imports when it runs, and those that it names where it imports by name."""
    found: list[str] = []
    stack: list[Any] = []
    for each in dis.get_instructions(code):
        if each.opname == "LOAD_CONST":
            stack.append(each.argval)
        elif each.opname == "IMPORT_NAME":
            level, taken = (stack[-2], stack[-1]) if len(stack) >= 2 else (0, None)
            package = str(names.get("__package__") or "").rsplit(".", level - 1)[0] if level else ""
            source = ".".join(part for part in (package, str(each.argval)) if part)
            for name in taken or ("",):
                found += reached(source, "" if name == "*" else str(name))
    if {"import_module", "__import__"} & {*code.co_names}:
        found += [each for each in code.co_consts if isinstance(each, str) and each.isidentifier() and own_file(each)]
    return sorted({name for name in found if name})


def _compiled_file(module: ModuleType) -> str:
    """A hash of the file of a module that is compiled, and one's own."""
    file = getattr(module, "__file__", None) or ""
    if not file.endswith((".so", ".pyd")) or not is_own(module.__name__.partition(".")[0]):
        return ""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:24]
