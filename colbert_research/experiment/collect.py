"""What lies in the cache, and what of it nobody needs any more."""

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from colbert_research.artifacts import folder_bytes
from colbert_research.cache import Artifact, StageCache
from colbert_research.experiment.known import known
from colbert_research.experiment.record import FILE, Record, RecordError
from colbert_research.experiment.sources import STAGE_MODULES
from colbert_research.index.structures import OUTSIDE

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("colbert_research")
DAY = 86_400.0
KINDS = (*STAGE_MODULES, OUTSIDE)
"""Of artifacts: stages in the order of the flow, then structures of indexes that are not written to, which no record names."""


@dataclass(frozen=True)
class Kept:
    """An artifact of the cache: what it takes, when it was last used (seconds since the epoch), and which records name it."""

    artifact: Artifact
    bytes: int
    used: float
    records: Sequence[str]

    @property
    def days(self) -> float:
        """Days since then."""
        return max(0.0, (time.time() - self.used) / DAY)

    @property
    def name(self) -> str:
        return f"{self.artifact.kind}/{self.artifact.key}"


def kept(cache: StageCache, records: Iterable[str | Path]) -> list[Kept]:
    """Every artifact, in the order of `KINDS`, then of age. `records`: folders below which records lie,
    beside those that the cache knows of. What a record of a later version or a damaged one names, it names too."""
    files = {file.resolve() for each in (*known(cache), *records) for file in Path(each).rglob(FILE)}
    named: dict[str, list[str]] = {}
    unread: dict[str, str] = {}
    for file in sorted(files):
        try:
            record = Record.open(file.parent)
        except FileNotFoundError:  # replaced at this instant, by an experiment that has just used what it names
            continue
        except RecordError as error:
            logger.warning("cannot be read, and keeps whatever key stands in it: %s", error)
            with suppress(OSError):
                unread[file.parent.name] = file.read_text(encoding="utf-8", errors="replace")
            continue
        for key in record.stages.values():
            named.setdefault(key, []).append(record.id)
    found = []
    for kind in KINDS:
        of_kind = []
        for each in cache.artifacts(kind):
            by = (*named.get(each.key, ()), *(name for name, text in unread.items() if each.key in text))
            of_kind.append(Kept(each, folder_bytes(each.path), _used(each), by))
        found += sorted(of_kind, key=lambda each: each.days)
    return found


def table(artifacts: Sequence[Kept]) -> "pd.DataFrame":
    """One row per kind of stage: how many, their bytes, those that records name, and days since the first and last was used."""
    import pandas as pd

    rows = []
    for kind in dict.fromkeys(each.artifact.kind for each in artifacts):
        own = [each for each in artifacts if each.artifact.kind == kind]
        named = [each for each in own if each.records]
        rows.append(
            {
                "stage": kind,
                "artifacts": len(own),
                "GB": round(sum(each.bytes for each in own) / 1e9, 3),
                "in records": len(named),
                "GB in records": round(sum(each.bytes for each in named) / 1e9, 3),
                "newest, days": round(min(each.days for each in own), 1),
                "oldest, days": round(max(each.days for each in own), 1),
            }
        )
    return pd.DataFrame(rows).set_index("stage") if rows else pd.DataFrame()


def unneeded(artifacts: Sequence[Kept], *, days: float) -> list[Kept]:
    """Those that no record names, that were not used for so many days, and that no process of this machine has open."""
    old = [each for each in artifacts if not each.records and each.days >= days]
    used = _open_folders([each.artifact.path for each in old])
    return [each for each in old if each.artifact.path not in used]


def remove(cache: StageCache, artifacts: Iterable[Kept]) -> int:
    """Remove artifacts, each under its lock; returns the bytes. One that was replaced or used since it was listed stays."""
    freed = 0
    for each in artifacts:
        if each.artifact.path.is_dir() and _used(each.artifact) <= each.used:
            cache.discard(each.artifact)
            freed += 0 if each.artifact.path.exists() else each.bytes
    return freed


def _used(artifact: Artifact) -> float:
    """When a stage found an artifact or made it: the cache sets the time of its folder."""
    return artifact.path.stat().st_mtime


def _open_folders(folders: Sequence[Path]) -> set[Path]:
    """The folders of which a process of this machine has a file open or mapped, where the system tells."""
    wanted = {str(folder.resolve()): folder for folder in folders}
    return {
        wanted[parent]
        for path in _open_files()
        for parent in map(str, Path(path).parents)
        if parent in wanted
    }  # fmt: skip


def _open_files() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for line in (process / "maps").read_text(errors="replace").splitlines():
                if "/" in line:
                    yield line[line.index("/") :]
        with suppress(OSError):
            for handle in (process / "fd").iterdir():
                with suppress(OSError):
                    yield os.readlink(handle)
