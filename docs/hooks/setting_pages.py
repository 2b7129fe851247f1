"""Pages of settings: every key of every member of every axis, from the pydantic models; and the files of `configs/`."""

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from colbert_research.config import Config, Threshold
from colbert_research.executors import EXECUTORS
from colbert_research.experiment.config import AXES, ExperimentConfig, LatencyConfig
from colbert_research.index.writing import BuildConfig
from colbert_research.search import ANNS, FIRST_STAGES, GRAPHS, IMPUTATIONS
from colbert_research.search.finders import FINDERS
from colbert_research.sweep import SweepConfig

BASES = (BaseModel, Config)
WITHIN: dict[str, Mapping[str, type[Config]]] = {
    "ann": ANNS,
    "finder": FINDERS,
    "imputation": IMPUTATIONS,
    "first_stage": FIRST_STAGES,
    "graph": GRAPHS,
    "executor": EXECUTORS,
}
"""Settings of strategies and of sweeps that are members of a registry themselves."""
PARTS = {"index": BuildConfig, "latency": LatencyConfig}
WORDS: dict[Any, str] = {
    int: "integer", float: "number", str: "text", bool: "true or false", NoneType: "none", Any: "any",
    BuildConfig: "[index](#index)", LatencyConfig: "[latency](#latency)", Threshold: "[threshold](#thresholds)",
}  # fmt: skip
BOUNDS = {
    "ge": "≥",
    "gt": ">",
    "le": "≤",
    "lt": "<",
    "min_length": "at least",
    "pattern": "matching",
    "multiple_of": "multiple of",
}
ANY = "A kind of the form `module:Class` names one outside the package, and a notebook cell may add to each registry."


def settings(configs: Path) -> str:
    """Every setting of an experiment, axis by axis, then those of a sweep."""
    used = _used(configs)
    lines = [
        "# Settings",
        "",
        SETTINGS.strip(),
        "",
        "## An experiment",
        "",
        described(ExperimentConfig),
        "",
        *tabled(ExperimentConfig),
    ]
    for name, part in PARTS.items():
        lines += ["", f"### {name}", "", described(part), "", *tabled(part, f"{name}.")]
    for axis, registry in AXES.items():
        lines += _axis(axis, registry, f"`{axis}.kind` is one of these; by default `{_default_kind(axis)}`. {ANY}", used)
    for axis, registry in WITHIN.items():
        lines += _axis(axis, registry, f"What the setting `{axis}` may be.", {})
    lines += ["", "## Thresholds", "", described(Threshold), "", *tabled(Threshold)]
    lines += ["", "## A sweep", "", described(SweepConfig), "", *tabled(SweepConfig)]
    return "\n".join(lines) + "\n"


SETTINGS = """
Made from the configs themselves. A setting is written by its dotted name, in a YAML file or as an override:
`-p overrides "codec.nbits=2 search.ncells=8"`. An unknown name or a value of another type stops a run, and the nearest valid
name is told. Some settings go together in ways that no table shows; those are refused with a sentence as well.
"""


def configs(folder: Path) -> str:
    """The files of `configs/`, as they are."""
    lines = [
        "# Base configs",
        "",
        "The files of `configs/`. `extends` names one that a file starts from; the first comment says what it is.",
    ]
    for title, files in (("", folder.glob("*.yaml")), ("Encoders", folder.glob("encoders/*.yaml"))):
        lines += ["", f"## {title}"] if title else []
        for file in sorted(files):
            text = file.read_text(encoding="utf-8").strip()
            lines += ["", f"### {file.relative_to(folder)} {{ #{file.stem} }}", "", "```yaml", text, "```"]
    return "\n".join(lines) + "\n"


def _used(folder: Path) -> dict[tuple[str, str], list[str]]:
    """(axis, kind) -> the base configs that name it themselves."""
    found: dict[tuple[str, str], list[str]] = {}
    for file in sorted(folder.glob("*.yaml")):
        written = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        for axis in AXES:
            given = written.get(axis)
            kind = given.get("kind") if isinstance(given, dict) else given
            if kind:
                found.setdefault((axis, kind), []).append(file.stem)
    return found


def _axis(
    axis: str, registry: Mapping[str, type[Config]], introduced: str, used: Mapping[tuple[str, str], list[str]]
) -> list[str]:
    """An axis: its members, what they have in common once, then each with its settings."""
    common = [each for each in next(iter(registry.values())).__mro__ if all(issubclass(m, each) for m in registry.values())]
    shared = [each for each in common if issubclass(each, BaseModel) and each not in BASES and _adds_fields(each)]
    members = " · ".join(f"[`{kind}`](#{axis}-{kind})" for kind in registry)
    lines = ["", f"## {axis}", "", introduced, "", members, *(f"\n{inspect.getdoc(each)}" for each in shared)]
    for kind, member in registry.items():
        files = ", ".join(f"[{name}.yaml](configs.md#{name})" for name in used.get((axis, kind), []))
        lines += ["", f"### {kind} {{ #{axis}-{kind} }}", "", described(member, but=shared), "", *tabled(member, f"{axis}.")]
        lines += ["", f"Base configs: {files}."] if files else []
    return lines


def _default_kind(axis: str) -> str:
    default = ExperimentConfig.model_fields[axis].get_default()
    return default if isinstance(default, str) else str(default.kind)


def described(model: type[BaseModel], but: Sequence[type] = ()) -> str:
    """The docstrings of a config and of those that it takes fields from, its own first, without some."""
    texts: list[str] = []
    for each in model.__mro__:
        if not issubclass(each, BaseModel) or each in (*BASES, *but) or not each.__doc__:
            continue
        if each is model or _adds_fields(each) or any(f"`{each.__name__}`" in text for text in texts):
            texts.append(inspect.cleandoc(each.__doc__))
    return "\n\n".join(texts)


def _adds_fields(model: type[BaseModel]) -> bool:
    return any(name != "kind" for name in inspect.get_annotations(model) if name in model.model_fields)


def tabled(model: type[BaseModel], prefix: str = "") -> list[str]:
    """One row for each field but its kind: name, type, default."""
    rows = [
        f"| `{prefix}{name}` | {_cell(_type(info))} | {_default(info)} |"
        for name, info in model.model_fields.items()
        if name != "kind"
    ]
    return ["| setting | type | default |", "|---|---|---|", *rows] if rows else ["No settings."]


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    value = info.get_default(call_default_factory=True)
    return "" if value is PydanticUndefined else f"`{written(value)}`"


def written(value: Any) -> str:
    """A default as YAML would have it on one line."""
    if isinstance(value, Config):
        value = value.model_dump(mode="json", exclude_none=True)
    elif isinstance(value, tuple):
        value = list(value)
    return json.dumps(value, ensure_ascii=False, default=str) if value != "" else '""'


def _type(info: FieldInfo) -> str:
    return _axis_of(info.metadata) or _named(info.annotation, _bounds(info.metadata))


def _bounds(metadata: Iterable[Any]) -> str:
    """What limits a value, in words that follow its type; empty without any."""
    flat = [part for each in metadata for part in (each.metadata if isinstance(each, FieldInfo) else [each])]
    told = [
        f"{word} {getattr(each, name)}"
        for each in flat
        for name, word in BOUNDS.items()
        if getattr(each, name, None) is not None
    ]
    return f" {', '.join(told)}" if told else ""


def _axis_of(metadata: Iterable[Any]) -> str:
    """A member of the axis that a component's annotation names, as a link; empty for another field's."""
    for each in metadata:
        if isinstance(each, BeforeValidator):
            axis = str(inspect.getclosurevars(each.func).nonlocals["axis"])
            return f"[{axis}](#{axis})"
    return ""


def _named(annotation: Any, bounds: str = "") -> str:
    """A type in words, with what limits its values."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _axis_of(arguments[1:]) or _named(arguments[0], _bounds(arguments[1:]))
    if origin is Literal:
        return " · ".join(f"`{option}`" for option in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_named(each, "" if each is NoneType else bounds) for each in arguments)
    if origin in (tuple, list):
        return f"list of {_named(arguments[0])}{bounds}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping to {_named(arguments[1])}"
    return WORDS.get(annotation, annotation.__name__) + bounds


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
