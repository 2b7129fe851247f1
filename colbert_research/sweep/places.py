"""Where what a sweep names lies, from whichever folder it is started, and whose a folder of records is."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colbert_research.artifacts import read_json, write_json
from colbert_research.experiment.notebook import root_of_notebooks
from colbert_research.locks import locked
from colbert_research.settings import ConfigError, flat, nearest, own_configs

PATHS = ("dataset.path", "dataset.name", "encoder.model")
"""Settings that may be folders; a dataset's name where it begins with a dot, as one on the hub does not."""
NOTE, LOCK = "sweep.json", ".sweep.lock"


@dataclass(frozen=True)
class Places:
    """The folders from which the relative paths of a sweep are seen: that of its file, its project's, the working folder.

    The project is the nearest folder, at or above that of the file, with a `pyproject.toml` or a `.git` in it. What is found
    first counts. So it does not matter where a sweep is started, as long as what it names lies beside its file or in its
    project.
    """

    beside: Path

    @property
    def project(self) -> Path | None:
        here = self.beside.resolve()
        return next((p for p in (here, *here.parents) if any((p / n).exists() for n in ("pyproject.toml", ".git"))), None)

    def _where(self, name: str) -> Iterator[Path]:
        """What a path may lead to, in order, each once."""
        written = Path(name).expanduser()
        folders = [self.beside.resolve(), *filter(None, [self.project]), Path.cwd()]
        yield from dict.fromkeys(Path(os.path.normpath(folder / written)) for folder in folders)

    def records(self, name: str) -> Path:
        """`experiments/<name>` in the project; in the working folder where there is none."""
        return (self.project or Path.cwd()) / "experiments" / name

    def file(self, name: str, what: str) -> str:
        """A file, absolute. Raises ConfigError that says where it was looked for."""
        tried = list(self._where(name))
        for path in (*tried, own_configs().parent / name):
            if path.is_file():
                return str(path)
        there = sorted(str(path) for folder in {path.parent for path in tried} for path in folder.glob("*") if path.is_file())
        raise ConfigError(f"no {what} {name!r}: there is no {', no '.join(map(str, tried))}; {nearest(str(tried[0]), there)}")

    def settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """The settings of a resolved config that are folders and that the working folder does not lead to, made absolute.

        Raises ConfigError for a collection's folder that is nowhere.
        """
        found, settings = {}, dict(flat(given))
        for name in PATHS:
            value = settings.get(name)
            if not isinstance(value, str) or value == "bundled" or Path(value).expanduser().is_absolute():
                continue
            if name == "dataset.name" and not value.startswith("."):
                continue
            tried = list(self._where(value))
            first = next((path for path in tried if path.exists()), None)
            if first is not None and (first != Path(os.path.normpath(Path.cwd() / value)) or root_of_notebooks() is not None):
                found[name] = str(first)
            if first is None and name == "dataset.path" and settings.get("dataset.kind", "beir") == "beir":
                raise ConfigError(f"{name}={value}: there is no folder {', no '.join(map(str, tried))}")
        return found


def check_folder(folder: Path, name: str, file: Path | None) -> None:
    """Raises ConfigError where a folder holds the records of another sweep, whose summary and report would be overwritten.

    One whose file is there no more was renamed, or moved, to this one.
    """
    there = _noted(folder)
    if not there:
        return
    noted = Path(there["file"]) if there.get("file") else None
    other = there.get("name") != name if noted is None else noted.is_file() and (file is None or not noted.samefile(file))
    if other:
        whose = noted or f"the sweep {there.get('name')!r}"
        raise ConfigError(
            f"{folder} holds the records and the summary of {whose}; choose another --folder for "
            f"{file or name}: what both share is in the cache"
        )


def claim_folder(folder: Path, name: str, file: Path | None) -> None:
    """Note in a folder whose records it holds. Raises ConfigError where they are another sweep's; see `check_folder`."""
    own = {"name": name, "file": None if file is None else str(file.resolve())}
    with locked(folder / LOCK, f"note {NOTE}"):
        check_folder(folder, name, file)
        if _noted(folder) != own:
            write_json(folder / NOTE, own)


def _noted(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, TypeError):
        return dict(read_json(folder / NOTE))
    return {}
