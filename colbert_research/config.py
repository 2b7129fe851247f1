"""Configs: frozen pydantic models, read from YAML, changed by overrides, identified by a hash.

Every component has one `Config` beside it, tagged by `kind`. A YAML file (which may `extends:` one parent) is merged with
overrides, validated and frozen; whatever is not understood is an error that names the nearest valid name.
"""

import difflib
import hashlib
import importlib
import json
import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator
from pydantic_core import ErrorDetails


class ConfigError(ValueError):
    """A config that cannot be used: says what was given, what was expected and what to do."""


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
            if get_origin(info.annotation) is Literal and isinstance(data.get(name), str):
                options = {str(option): option for option in get_args(info.annotation)}
                data[name] = options.get(data[name], data[name])
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


C = TypeVar("C", bound=Config)
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is there
GREATEST_SEED = 2**31 - 1
Seed = Annotated[int, Field(ge=0, le=GREATEST_SEED)]
"""A seed that every library takes: faiss counts in 32 bits with a sign."""


class Threshold(Config):
    """A cut-off given as a `value` or as a `quantile` (0 to 1) of the scores it is applied to; exactly one of them."""

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


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`(dotted name, value)` of every setting in a nested mapping."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def content_hash(*values: Any) -> str:
    """First 12 hex digits of the SHA-256 of the canonical JSON of the values."""
    return hashlib.sha256(canonical_json(list(values)).encode()).hexdigest()[:12]


def config_id(config: Config) -> str:
    """The id of a resolved config: `sha256(canonical JSON)[:12]`."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:12]


def nearest(name: str, valid: Any) -> str:
    """A sentence that names the valid name closest to `name` and lists the rest."""
    names = sorted(str(v) for v in valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Valid: {', '.join(names)}"


def component(axis: str, registry: Mapping[str, type[Any]], *, default: str = "") -> Any:
    """The annotation of a config field that holds one member of an axis, chosen by its `kind`.

    `registry` is the axis' table of contents and may be extended at run time; `kind: "module:Class"` names a config class
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
    if value is None or isinstance(value, str):
        value = {"kind": value}
    if isinstance(value, Mapping) and value.get("kind", default) is None:
        value = {**value, "kind": "none"}  # overrides read `none` as null: here it is a name
    kind = str(value.get("kind", default)) if isinstance(value, Mapping) else ""
    if not kind:
        raise ValueError(f"expected a mapping with a `kind` ({', '.join(sorted(registry))}); given {value!r}")
    cls = config_class(axis, registry, kind)
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
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{axis} kind {kind!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Config)):
        raise ValueError(f"{axis} kind {kind!r} is not a Config class")
    return found


def read_yaml(path: str | Path, *, _children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A YAML file as a mapping, with the parent that its `extends:` names (relative to the file) merged below it."""
    path = Path(path)
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path(".")
        known = [p.name for p in folder.glob("*.yaml")]
        raise ConfigError(f"no config file {str(path)!r}: " + nearest(path.name, known))
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _YAML) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of settings; it holds a {type(data).__name__}")
    if path.resolve() in _children:
        raise ConfigError(f"{path} extends itself, by way of {', '.join(child.name for child in _children)}")
    parent = data.pop("extends", None)
    return merge(read_yaml(path.parent / str(parent), _children=(*_children, path.resolve())), data) if parent else data


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mapping by mapping; a changed `kind` drops the settings of the old kind."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            other_kind = "kind" in value and value["kind"] != old.get("kind")
            merged[key] = dict(value) if other_kind else merge(old, value)
        else:
            merged[key] = value
    return merged


def parse_overrides(overrides: str | Mapping[str, Any]) -> dict[str, Any]:
    """Overrides as a nested mapping.

    A string holds dotted assignments, `codec.nbits=4 search.k=100`; a value may be quoted, a list (`[a, b]`), a mapping
    (`{a: 1}`) or `null`. A mapping may use dotted keys too.
    """
    if isinstance(overrides, Mapping):
        pairs = list(overrides.items())
    else:
        pairs = []
        for item in _words(overrides):
            key, equals, text = item.partition("=")
            if not equals or not key:
                raise ConfigError(f"override {item!r} is not of the form name=value, as in codec.nbits=4")
            pairs.append((key, _parse_value(text)))
    # a kind drops the settings of the kind before it, so kinds come first, outer before inner, wherever they were written
    pairs.sort(key=lambda pair: str(pair[0]).count(".") if str(pair[0]).split(".")[-1] == "kind" else math.inf)
    nested: dict[str, Any] = {}
    for key, value in pairs:
        *parents, last = str(key).split(".")
        value = parse_overrides(value) if isinstance(value, Mapping) else value
        for parent in reversed([*parents, last]):
            value = {parent: value}
        nested = merge(nested, value)
    return nested


def _words(overrides: str) -> list[str]:
    """The assignments of a string: split at white space that is neither quoted nor inside a list or a mapping."""
    try:
        pieces = shlex.split(overrides)
    except ValueError as error:
        raise ConfigError(f"overrides {overrides!r} cannot be read: {error}") from None
    words: list[str] = []
    for piece in pieces:
        value = words[-1].partition("=")[2] if words else ""
        if value[:1] in ("[", "{") and sum(map(value.count, "[{")) > sum(map(value.count, "]}")):
            words[-1] += f" {piece}"
        else:
            words.append(piece)
    return words


def _parse_value(text: str) -> Any:
    if text.lower() in ("null", "none"):
        return None
    if text[:1] in ("[", "{"):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"override value {text!r} is not a valid list or mapping: {error}") from error
    return text


def load_config(model: type[C], path: str | Path | None = None, overrides: str | Mapping[str, Any] = "") -> C:
    """The validated, frozen config of a YAML file with overrides laid over it.

    Raises `ConfigError` for a missing file, an unknown key (naming the nearest valid one) or a wrong value.
    """
    data = merge(read_yaml(path) if path else {}, parse_overrides(overrides))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"the config is not valid: {explain(error, model)}") from None


def explain(error: ValidationError, model: type[Config]) -> str:
    """A validation error in sentences: which key, what was given, which keys or values are valid."""
    return "; ".join(_explain_one(e, model) for e in error.errors())


def _explain_one(error: ErrorDetails, model: type[Config]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}, {nearest(str(error['loc'][-1]), _model_at(model, error['loc'][:-1]).model_fields)}"
    given = "" if error["type"] in ("missing", "value_error") else f" (given {error.get('input')!r})"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}{given}" if where else message


def _model_at(model: type[Config], loc: tuple[int | str, ...]) -> type[Config]:
    """The config class at the place `loc` below `model`."""
    for part in loc:
        field = model.model_fields.get(str(part))
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, Config)), model)
    return model
