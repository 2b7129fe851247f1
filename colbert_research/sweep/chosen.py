"""Which runs of a sweep are meant by some settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from colbert_research.settings import ConfigError, flat, nearest, parse_overrides, written
from colbert_research.sweep.runs import Run


def chosen(runs: Sequence[Run], only: str | Mapping[str, Any]) -> list[Run]:
    """The runs that have all of some settings, as overrides are written. Raises ConfigError where there is none."""
    asked = dict(flat(parse_overrides(only)))
    if not asked:
        return [*runs]
    settings = [settings_of(run) for run in runs]
    names = {name for each in settings for name in each}
    if unknown := next((name for name in asked if name not in names), None):
        raise ConfigError(f"only: no run has a setting {unknown!r}; {nearest(unknown, names)}")
    found = [
        run
        for run, each in zip(runs, settings, strict=True)
        if all(_is(each.get(name), value) for name, value in asked.items())
    ]
    if not found:
        values = {name: dict.fromkeys(_spelt(each.get(name)) for each in settings) for name in asked}
        there = "; ".join(f"{name}: {', '.join(of)}" for name, of in values.items())
        raise ConfigError(f"only: no run has all of {written(asked)}; there are {there}")
    return found


def settings_of(run: Run) -> dict[str, Any]:
    """Every setting of a run by its dotted name."""
    return dict(flat(run.experiment.config.model_dump(mode="json")))


def _is(value: Any, asked: Any) -> bool:
    """Whether a setting has the value that an override asks for, as YAML has it: `true`, `null`, `.5`, `1e-3`."""
    if value is None or isinstance(value, bool) or isinstance(asked, bool):
        return _spelt(value) == _spelt(asked).lower()
    try:
        return str(value) == str(asked) or (isinstance(value, int | float) and value == float(asked))
    except (TypeError, ValueError):
        return False


def _spelt(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
