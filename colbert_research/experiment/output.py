"""The folder of one record: who may write into it, and in which order."""

import atexit
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colbert_research.artifacts import remove_unfinished_texts, sha256_file, sync_folder, write_json, write_text
from colbert_research.config import ConfigError
from colbert_research.experiment.record import CONFIG, FILE, PER_QUERY, RANKING, Record, RecordError
from colbert_research.locks import Lock
from colbert_research.ranking import Ranking

if TYPE_CHECKING:
    import pandas as pd

LOCK = ".lock"
_held: dict[Path, Lock] = {}


class OutputInUseError(ConfigError):
    """Another process writes into the folder, or has taken it over."""


class OutputFolder:
    """The folder `path` for the record of experiment `id`. One process at a time has it, from `claim` to the end of `save`."""

    def __init__(self, path: Path, id: str) -> None:
        self.path, self.id = path, id

    def __str__(self) -> str:
        return str(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def claim(self) -> None:
        """Keep other processes out until the record is saved or this process ends.

        Raises OutputInUseError where another process has the folder, ConfigError where it holds another experiment's record.
        """
        self._check_record()
        place = self.path.resolve()
        if place in _held and _held[place].held:
            return
        lock = Lock(place / LOCK, f"experiment {self.id}")
        if not lock.try_acquire():
            raise OutputInUseError(
                f"{self.path} is being written by {lock.holder()}; wait until that ends, end it, or choose another output"
            )
        if not _held:
            atexit.register(_release_all)
        _held[place] = lock

    def save(self, record: Record, *, ranking: Ranking, per_query: "pd.DataFrame") -> None:
        """Write `config.yaml`, `ranking.parquet`, `per_query.parquet`, then `record.json`, which holds the hashes of the
        others.

        An older record is removed first, so that none ever stands beside files that are not its own. Raises OutputInUseError,
        and leaves no record, where the folder was removed or taken over since it was claimed.
        """
        place = self.path.resolve()
        claimed = _held.get(place)
        if claimed is not None and not claimed.held:
            del _held[place]
            claimed.release()
            raise OutputInUseError(
                f"{self.path} was removed or taken over while experiment {self.id} ran; save again, or into another output"
            )
        self.claim()
        with suppress(FileNotFoundError):
            (self.path / FILE).unlink()
            sync_folder(self.path)
        remove_unfinished_texts(self.path, seconds=0)
        write_config(self.path, record.config)
        self._put(RANKING, ranking)
        self._put(PER_QUERY, per_query)
        hashes = {name: _file(self.path / name) for name in (CONFIG, RANKING, PER_QUERY)}
        write_json(self.path / FILE, record.to_json() | {"files": hashes})
        _held.pop(place).release()

    def _put(self, name: str, table: Any) -> None:
        temporary = self.path / f".{name}.{os.getpid()}.tmp"
        if isinstance(table, Ranking):
            table.to_parquet(temporary)
        else:
            table.to_parquet(temporary, index=False)
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, self.path / name)

    def _check_record(self) -> None:
        if not (self.path / FILE).is_file():
            return
        try:
            there = Record.open(self.path).id
        except RecordError:  # damaged: it may be replaced
            return
        if there != self.id:
            raise ConfigError(
                f"{self.path} holds the record of experiment {there} and this one is {self.id}; choose another output"
            )


def write_config(output: Path, config: Any) -> None:
    """Write `config.yaml`, from which the same experiment can be run again."""
    import yaml

    output.mkdir(parents=True, exist_ok=True)
    write_text(output / CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def _file(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def _release_all() -> None:
    for lock in _held.values():
        lock.release()
