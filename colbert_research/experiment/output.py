"""The folder of one record: who may write into it, and in which order."""

import atexit
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

from colbert_research.artifacts import remove_unfinished_texts, sha256_file, sync_folder, write_text
from colbert_research.experiment.record import (
    ANATOMY,
    CONFIG,
    FILE,
    OVERLAP,
    PER_QUERY,
    RANKING,
    NewerRecordError,
    Record,
    RecordError,
)
from colbert_research.locks import Lock
from colbert_research.ranking import Ranking
from colbert_research.settings import ConfigError

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("colbert_research")
LOCK = ".lock"
_guard = RLock()


class _Claim(NamedTuple):
    """That this process has a folder, for an experiment. A process that was forked off has it not."""

    lock: Lock
    id: str
    process: int


_held: dict[Path, _Claim] = {}


class OutputInUseError(ConfigError):
    """Somebody else writes into the folder, or has taken it over."""


class OutputFolder:
    """The folder `path` for the record of experiment `id`. One process at a time has it, from `claim` to the end of `save`."""

    def __init__(self, path: str | Path, id: str) -> None:
        self.path, self.id = Path(path).expanduser().absolute(), id

    def __str__(self) -> str:
        return str(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def claim(self) -> None:
        """Keep other processes out until the record is saved or this process ends.

        Within a process, the experiment that claims a folder last has it. Raises OutputInUseError where another process has the
        folder, ConfigError where it is a file or holds another experiment's record, or one of a later format.
        """
        with _guard:
            self._check_record()
            place = self.path.resolve()
            claimed = _held.get(place)
            if claimed is not None and claimed.process == os.getpid() and claimed.lock.held:
                _held[place] = claimed._replace(id=self.id)
                return
            lock = Lock(place / LOCK, f"experiment {self.id}")
            try:
                taken = lock.try_acquire()
            except OSError as error:
                raise ConfigError(f"output {str(self.path)!r} cannot be written to ({error}); choose another output") from error
            if not taken:
                raise OutputInUseError(
                    f"{self.path} is being written by {lock.holder()}; wait until that ends, end it, or choose another output"
                )
            try:
                self._check_record()  # again: whoever had the folder in between may have finished
            except ConfigError:
                lock.release()
                raise
            if not _held:
                atexit.register(_release_all)
            _held[place] = _Claim(lock, self.id, os.getpid())

    def release(self) -> None:
        """Let others have the folder, where this process claimed it for this experiment and saves no record."""
        with _guard:
            place = self.path.resolve()
            claimed = _held.get(place)
            if claimed is not None and claimed.process == os.getpid() and claimed.id == self.id:
                _held.pop(place).lock.release()

    def begin(self, config: Mapping[str, Any]) -> None:
        """Claim the folder and write `config.yaml` into it, unless a finished record vouches for the one that is there."""
        self.claim()
        if not (self.path / FILE).is_file():
            write_text(self.path / CONFIG, _yaml(config))

    def save(self, record: Record, *, ranking: Ranking, per_query: "pd.DataFrame") -> None:
        """Write `config.yaml`, `ranking.parquet`, `per_query.parquet`, then `record.json`, which holds the hashes of the
        others.

        An older record is removed when all is written, its successor too, and before anything is put in its place: none ever
        stands beside files that are not its own, and a full disk takes none. Raises OutputInUseError, and leaves no record of
        its own, where the folder was removed or taken over since it was claimed.
        """
        with _guard:
            place = self.path.resolve()
            claimed = _held.get(place)
            if claimed is not None and claimed.process == os.getpid() and not (claimed.lock.held and claimed.id == self.id):
                how, then = f"taken over by experiment {claimed.id} of this process", "take it back with `output.claim()`"
                if not claimed.lock.held:
                    how, then = "removed or taken over", "save again"
                    del _held[place]
                    claimed.lock.release()
                raise OutputInUseError(
                    f"{self.path} was {how} while experiment {self.id} ran; {then}, or choose another output"
                )
            self.claim()
            self._say_what_is_replaced(record)
            remove_unfinished_texts(self.path, seconds=0)
            ready = {name: self.path / f".{name}.{os.getpid()}.tmp" for name in (CONFIG, RANKING, PER_QUERY, FILE)}
            try:
                ready[CONFIG].write_text(_yaml(record.config), encoding="utf-8", newline="\n")
                ranking.to_parquet(ready[RANKING])
                per_query.to_parquet(ready[PER_QUERY], index=False)
                hashes = {name: _file(path) for name, path in ready.items() if name != FILE}
                ready[FILE].write_text(record.text(hashes), encoding="utf-8", newline="\n")
                _file(ready[FILE])
            except BaseException:
                for path in ready.values():
                    path.unlink(missing_ok=True)
                raise
            for name in (FILE, OVERLAP, ANATOMY):
                (self.path / name).unlink(missing_ok=True)
            sync_folder(self.path)
            for name, path in ready.items():  # the record last
                os.replace(path, self.path / name)
            sync_folder(self.path)
            _held.pop(place).lock.release()

    def _say_what_is_replaced(self, record: Record) -> None:
        """Log where the record that was here is of the same settings, and other code."""
        try:
            before = Record.open(self.path)
        except (FileNotFoundError, RecordError):
            return
        changed = [name for name, source in record.sources.items() if before.sources.get(name) not in (None, source)]
        if changed:
            figures = [f"{name} {before.metrics.get(name, 0):.4f} -> {value:.4f}" for name, value in record.metrics.items()]
            logger.warning(
                "%s: a record of the same settings and other code (of %s) is replaced: %s",
                *(self.path, ", ".join(changed), ", ".join(figures)),
            )

    def _check_record(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"output {str(self.path)!r} is a file; expected a folder, or the name of one to be made")
        try:
            there = Record.open(self.path).id
        except NewerRecordError as error:
            raise ConfigError(f"{error}, or choose another output") from error
        except (FileNotFoundError, RecordError):  # none, or a damaged one: it may be replaced
            return
        if there != self.id:
            raise ConfigError(
                f"{self.path} holds the record of experiment {there} and this one is {self.id}; choose another output"
            )


def _yaml(config: Mapping[str, Any]) -> str:
    """The text of a `config.yaml`, from which the same experiment can be run again."""
    import yaml

    return str(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def _file(path: Path) -> dict[str, Any]:
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def _release_all() -> None:
    for claimed in _held.values():
        if claimed.process == os.getpid():
            claimed.lock.release()
