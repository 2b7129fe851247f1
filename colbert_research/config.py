"""Configs: frozen pydantic models, read from YAML, changed by overrides, identified by a hash.

Every component has one `Config` beside it, tagged by `kind`. Files and overrides (see `settings`) are merged, validated and
frozen; whatever is not understood is an error that names the nearest valid name.
"""

import hashlib
import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator
from pydantic_core import ErrorDetails

from colbert_research.settings import ConfigError, Quoted, merge, nearest, parse_overrides, read_yaml


class Config(BaseModel):
    """Base of all configs: frozen, rejects unknown keys, accepts numbers written as text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _options_written_as_text(cls, data: Any) -> Any:
        """Overrides arrive as text: `"4"` is the option 4 of `Literal[1, 2, 4]`, which pydantic alone would refuse."""
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        for name, info in cls.model_fields.items():
            given, kinds = data.get(name), _alternatives(info.annotation)
            if isinstance(given, Quoted):
                given = data[name] = str(given) if str in kinds else given.parsed
            if get_origin(info.annotation) is Literal and isinstance(given, str):
                options = {str(option): option for option in get_args(info.annotation)}
                data[name] = options.get(given, given)
            elif isinstance(given, bool) and bool not in kinds and {int, float} & {*kinds}:
                raise ValueError(f"{name}: expected a number; given {given}")
        return data

    def identity(self) -> dict[str, Any]:
        """What `config_id` hashes: the kind, and every field that does not stand at its default.

        So a new field renames nothing that existed; a default, once released, does not change under its name.
        """
        plain = _defaults(self)
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            name: _identity(value)
            for name, value in fields.items()
            if name == "kind" or name not in plain or plain[name] != value or type(plain[name]) is not type(value)
        }


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types that a field may have: those of a union, or its own; of an annotated type, what it annotates."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(kind for each in get_args(annotation) for kind in _alternatives(each))
    return (annotation,)


C = TypeVar("C", bound=Config)
_may_import = ContextVar("may_import", default=True)
GREATEST_SEED = 2**31 - 1
Seed = Annotated[int, Field(ge=0, le=GREATEST_SEED)]
"""A seed that every library takes: faiss counts in 32 bits with a sign."""


class Threshold(Config):
    """A threshold given as a `value` or as a `quantile` (0 to 1) of the scores it is applied to; exactly one of them."""

    value: float | None = None
    quantile: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _one_number_is_not_enough(cls, data: Any) -> Any:
        if not isinstance(data, (Mapping, Threshold)):
            raise ValueError(f"is it a value or a quantile? write {{value: 0.4}} or {{quantile: 0.9}}; given {data!r}")
        return data

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.value is None) == (self.quantile is None):
            raise ValueError(f"a threshold is either a value or a quantile; given value={self.value}, quantile={self.quantile}")
        return self


def _defaults(config: Config) -> dict[str, Any]:
    """The value of each field of a config that is not given it, as far as there is one."""
    required = {name: getattr(config, name) for name, info in type(config).model_fields.items() if info.is_required()}
    try:
        plain = type(config).model_validate(required)
    except ValidationError:  # its fields go together, as a threshold's do
        infos = type(config).model_fields.items()
        return {name: info.get_default(call_default_factory=True) for name, info in infos if not info.is_required()}
    return {name: getattr(plain, name) for name in type(config).model_fields if name not in required}


def _identity(value: Any) -> Any:
    if isinstance(value, Config):
        return value.identity()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(k): _identity(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_identity(v) for v in value]
    return value


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8 kept. Configs are replaced by their identity."""
    return json.dumps(_identity(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(*values: Any) -> str:
    """First 12 hex digits of the SHA-256 of the canonical JSON of the values."""
    return hashlib.sha256(canonical_json(list(values)).encode()).hexdigest()[:12]


def config_id(config: Config) -> str:
    """The id of a resolved config: `sha256(canonical JSON)[:12]`."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:12]


def component(axis: str, registry: Mapping[str, type[Any]], *, default: str = "") -> Any:
    """The annotation of a config field that holds one member of an axis, chosen by its `kind`.

    `registry` is the axis' registry and may be extended at run time; `kind: "module:Class"` names a config class
    outside the package. Use as
    `codec: component("codec", CODECS, default="exact") = "exact"`.
    """

    return Annotated[
        SerializeAsAny[Config], BeforeValidator(lambda value: component_of(axis, registry, value, default=default))
    ]


def component_of(axis: str, registry: Mapping[str, type[Any]], value: Any, *, default: str = "") -> Any:
    """The config of one member of an axis from a mapping with a `kind` (or else the default one), or from the kind alone."""
    if isinstance(value, Config):
        return value
    if isinstance(value, Quoted):
        value = value.parsed
    if value is None or isinstance(value, str):
        value = {"kind": value}
    if isinstance(value, Mapping) and value.get("kind", default) is None:
        value = {**value, "kind": "none"}  # overrides read `none` as null: here it is a name
    kind = str(value.get("kind", default)) if isinstance(value, Mapping) else ""
    if not kind:
        raise ValueError(f"expected a mapping with a `kind` ({', '.join(sorted(registry))}); given {value!r}")
    cls = config_class(axis, registry, kind)
    own = cls.model_fields["kind"].default if "kind" in cls.model_fields else None
    if ":" in kind and isinstance(own, str) and own != kind:
        raise ValueError(
            f"{axis} kind {kind!r}: the class says that its kind is {own!r}, under which no config.yaml would find it again; "
            f"write `kind: Literal[{kind!r}] = {kind!r}` in it, or register it and use kind={own}"
        )
    try:
        return cls.model_validate(dict(value))
    except ValidationError as error:
        raise ValueError(explain(error, cls)) from None


def component_of_line(axis: str, registry: Mapping[str, type[Any]], line: str) -> Any:
    """The config that one line describes, a kind and then its settings: `plaid ncells=4 ndocs=1024`. Raises ConfigError."""
    kind, _, settings = line.strip().partition(" ")
    try:
        return component_of(axis, registry, {**parse_overrides(settings), "kind": kind})
    except ValueError as error:
        raise ConfigError(f"{axis} {line!r}: {error}") from None


def config_class(axis: str, registry: Mapping[str, type[Any]], kind: str) -> type[Config]:
    """The config class that a kind names. Raises ValueError for one that is neither registered nor to be imported."""
    if kind in registry:
        return registry[kind]
    if ":" not in kind:
        raise ValueError(f"unknown {axis} kind {kind!r}: {nearest(kind, registry)}")
    module, _, name = kind.partition(":")
    if not _may_import.get() and module not in sys.modules:
        raise ValueError(
            f"{axis} kind {kind!r} is code outside this package, which opening a file never loads; if you trust where the file "
            f"comes from, `import {module}` first (colbert-research search has the option --import {module})"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{axis} kind {kind!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Config)):
        raise ValueError(f"{axis} kind {kind!r} is not a Config class")
    return found


@contextmanager
def no_imports() -> Iterator[None]:
    """Let the kinds in the block name code only that this process has loaded: what a file says is then no reason to run it."""
    token = _may_import.set(False)
    try:
        yield
    finally:
        _may_import.reset(token)


def load_config(model: type[C], path: str | Path | None = None, overrides: str | Mapping[str, Any] = "") -> C:
    """The validated, frozen config of a YAML file with overrides laid over it.

    Raises `ConfigError` for a missing file, an unknown key (naming the nearest valid one) or a wrong value.
    """
    data = merge(read_yaml(path) if path else {}, parse_overrides(overrides))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        where = f"{path} with its overrides" if path and overrides else path or "the config"
        raise ConfigError(f"{where} is not valid: {explain(error, model)}") from None


MESSAGES = {
    "tuple_type": "expected a list, as [a, b]",
    "list_type": "expected a list, as [a, b]",
    "dict_type": "expected a mapping, as {name: value}",
    "mapping_type": "expected a mapping, as {name: value}",
}
"""What is said of a type that YAML calls otherwise than Python."""


def explain(error: ValidationError, model: type[Config]) -> str:
    """A validation error in sentences: which key, what was given, which keys or values are valid."""
    return "; ".join(_explain_one(e, model) for e in error.errors())


def _explain_one(error: ErrorDetails, model: type[Config]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}, {nearest(str(error['loc'][-1]), _model_at(model, error['loc'][:-1]).model_fields)}"
    given = "" if error["type"] in ("missing", "value_error") else f" (given {error.get('input')!r})"
    message = MESSAGES.get(error["type"], error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}{given}" if where else message


def _model_at(model: type[Config], loc: tuple[int | str, ...]) -> type[Config]:
    """The config class at the place `loc` below `model`."""
    for part in loc:
        field = model.model_fields.get(str(part))
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, Config)), model)
    return model
