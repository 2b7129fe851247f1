"""Settings as they are written: YAML files, which may extend each other, and overrides, as nested mappings."""

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is there


class _Loader(_SAFE):  # type: ignore[misc]
    """Safe YAML in which a key stands once: of two, the last would win in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys: list[Any] = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := next((key for i, key in enumerate(keys) if key in keys[:i]), None):
            raise yaml.MarkedYAMLError(problem=f"the key {twice!r} is there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


class ConfigError(ValueError):
    """A config that cannot be used: says what was given, what was expected and what to do."""


def read_yaml(path: str | Path, *, _children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A YAML file as a mapping, with what its `extends:` names (a file or a list of them, relative to it) merged below it.

    Of several, each is laid over those before it. Raises ConfigError for what is no file of settings.
    """
    path = Path(path)
    if not path.is_file():
        folders = (path.parent, Path("configs"), own_configs())
        known = next((found for folder in folders if (found := [str(p) for p in sorted(folder.glob("[!.]*.yaml"))])), [])
        where = f"no config file {str(path)!r} in {Path.cwd()}"
        if not known:
            raise ConfigError(f"{where}; give the whole path")
        close = [each for each in known if Path(each).stem == path.stem]
        raise ConfigError(f"{where}: did you mean {close[0]!r}?" if close else f"{where}: {nearest(str(path), known)}")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply to be read") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of settings; it holds a {type(data).__name__}")
    if path.resolve() in _children:
        raise ConfigError(f"{path} extends itself, by way of {', '.join(child.name for child in _children)}")
    parents = data.pop("extends", None) or []
    below: dict[str, Any] = {}
    for parent in [parents] if isinstance(parents, str) else parents:
        below = merge(below, read_yaml(path.parent / str(parent), _children=(*_children, path.resolve())))
    return merge(below, data)


def own_configs() -> Path:
    """The folder of the configs that come with the project: beside the package in a checkout, within it when installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "configs"
    return checkout if (package.parent / "pyproject.toml").is_file() and checkout.is_dir() else package / "configs"


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mapping by mapping; a changed `kind` drops the settings of the old kind."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, Quoted) and isinstance(old, Mapping):
            value = value.parsed
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            other_kind = "kind" in value and value["kind"] != old.get("kind")
            merged[key] = dict(value) if other_kind else merge(old, value)
        else:
            merged[key] = value
    return merged


def parse_overrides(overrides: str | Mapping[str, Any]) -> dict[str, Any]:
    """Overrides as a nested mapping.

    A string holds dotted assignments, `codec.nbits=4 search.k=100`; a value may be quoted, a list (`[a, b]`), a mapping
    (`{a: 1}`) or `null`. A mapping may use dotted keys too. Raises ConfigError for a name that is given twice.
    """
    if isinstance(overrides, Mapping):
        pairs = list(overrides.items())
    else:
        pairs = list(_assignments(overrides))
        twice = next((name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i])), None)
        if twice is not None:
            raise ConfigError(f"overrides give {twice!r} twice; leave one of them")
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


QUOTES = ("'", '"')


class Quoted(str):
    """A value that stood in quotes. Where a field holds text it is that; else a list or a mapping in it is meant as one."""

    @property
    def parsed(self) -> Any:
        return _parse_value(str(self)) if self[:1] in ("[", "{") else str(self)


def _assignments(text: str) -> Iterator[tuple[str, Any]]:
    """`(name, value)` of a string of assignments, split at white space that is neither quoted nor inside a list or a mapping.

    A backslash is a character like others, as in the paths of Windows.
    """
    place = len(text) - len(text.lstrip())
    while place < len(text):
        start = place
        if text[place] in QUOTES:  # around all of it
            whole, place = _quoted(text, place)
            name, equals, value = whole.partition("=")
            parsed = _parse_value(value)
        else:
            name, equals = re.compile(r"([^\s=]*)(=?)").match(text, place).groups()  # type: ignore[union-attr]
            place += len(name) + len(equals)
            if text[place : place + 1] in QUOTES and place < len(text):
                value, place = _quoted(text, place)
                parsed = Quoted(value)
            else:
                stop = _end_of_brackets(text, place)
                parsed, place = _parse_value(text[place:stop]), stop
        after = re.compile(r"\s*").match(text, place).end()  # type: ignore[union-attr]
        if not equals or not name:
            raise ConfigError(f"override {text[start:place]!r} is not of the form name=value, as in codec.nbits=4")
        if after == place < len(text):
            raise ConfigError(f"overrides {text!r} cannot be read: expected a space at {text[place:]!r:.60}")
        yield name, parsed
        place = after


def _quoted(text: str, place: int) -> tuple[str, int]:
    """What stands between the quote at a place and the next one like it, and the place behind that."""
    stop = text.find(text[place], place + 1)
    if stop < 0:
        raise ConfigError(f"overrides {text!r} cannot be read: No closing quotation for {text[place:]!r:.60}")
    return text[place + 1 : stop], stop + 1


def _end_of_brackets(text: str, place: int) -> int:
    """Where the list, the mapping or the word at a place ends."""
    depth = 0
    if text[place : place + 1] in ("[", "{"):
        for found in re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[\[{\]}]").finditer(text, place):
            depth += (found[0] in "[{") - (found[0] in "]}")
            if not depth:
                return found.end()
        return len(text)
    return re.compile(r"\S*").match(text, place).end()  # type: ignore[union-attr]


def _parse_value(text: str) -> Any:
    if text.lower() in ("null", "none"):
        return None
    if text[:1] in ("[", "{"):
        try:
            return yaml.load(text, _Loader)
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"override value {text!r} is not a valid list or mapping: {error}") from error
    return text


def written(overrides: Mapping[str, Any]) -> str:
    """Overrides as the text that `parse_overrides` reads them from, by dotted name.

    Raises ConfigError for a value that no such text leads back to.
    """
    return " ".join(_assignment(name, value) for name, value in flat(overrides))


def _assignment(name: str, value: Any) -> str:
    if isinstance(value, str):
        plain = re.fullmatch(r"[\w./:~@%+-]+", value) and value.lower() not in ("null", "none")
        texts = [value] if plain else [f"{quote}{value}{quote}" for quote in QUOTES if quote not in value]
    else:  # a list in JSON is one in YAML
        texts = [json.dumps(value, ensure_ascii=False)]
    for text in texts:
        with suppress(ConfigError):
            found = dict(_assignments(f"{name}={text}"))
            if found == {name: value} or (found == {name: text} and not isinstance(value, (list, Mapping, str))):
                return f"{name}={text}"
    raise ConfigError(f"{name}: {value!r} cannot be written as an override; put it into a config file")


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`(dotted name, value)` of every setting in a nested mapping."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def nearest(name: str, valid: Any) -> str:
    """A sentence that names the valid name closest to `name` and lists the rest."""
    names = sorted(str(v) for v in valid)
    close = [each for each in names if each.lower() == name.lower()] or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Valid: {', '.join(names)}"
