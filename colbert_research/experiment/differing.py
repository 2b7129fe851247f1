"""Which settings differ among experiments, and how they are told apart by them."""

from collections.abc import Mapping, Sequence
from typing import Any

from colbert_research.config import no_imports
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.settings import flat

NO_NAME = ("dataset.", "measures", "latency")
"""Settings that decide no ranking of a collection, and tell no experiments on it apart."""


def as_of_now(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record's config with the settings that have come since, at their defaults; as it is, where it is no longer valid."""
    try:
        found: Mapping[str, Any] = ExperimentConfig.model_validate(dict(config)).model_dump(mode="json")
    except ValueError:
        return config
    return found


def settings_of_now(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a record's config by dotted name, `as_of_now`, without where it was computed, which decides nothing;
    reading them loads no component of one's own."""
    with no_imports():
        return {name: value for name, value in flat(as_of_now(config)) if name.partition(".")[0] != "executor"}


def value_text(value: Any) -> str:
    """A setting's value as tables and labels show it; `settings.written` is what leads back to it."""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(value_text, value)) + "]"
    return "null" if value is None else "{}" if value == {} else str(value)


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the settings that are not the same in all, or that some lack; axis after axis, its kind first."""
    return [name for name, values in _values(settings).items() if len({*values}) > 1 or len(values) < len(settings)]


def labels(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells each of some experiments from the others, as in `codec.nbits=4 search.ncells=8`.

    A setting that only some have counts where these differ by it: the kind of a component says that the others lack it. Those
    that tell nothing of the ranking are left out (`NO_NAME`), so that a label may be empty and two may be the same.
    """
    told = [name for name, values in _values(settings).items() if len({*values}) > 1 and not name.startswith(NO_NAME)]
    return [" ".join(f"{name}={value_text(each[name])}" for name in told if name in each) for each in settings]


def _values(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Name -> its values in those that have it, as they are written; axes as they first stand, the kind of each first."""
    found: dict[str, list[str]] = {}
    for each in settings:
        for name, value in each.items():
            found.setdefault(name, []).append(value_text(value))
    axes = list(dict.fromkeys(name.split(".")[0] for name in found))
    order = sorted(found, key=lambda name: (axes.index(name.split(".")[0]), not name.endswith(".kind"), name.count(".")))
    return {name: found[name] for name in order}
