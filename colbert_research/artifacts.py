"""Files that are either whole or absent: atomic JSON and folders, checksums, locks, and the content-addressed stage cache."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colbert_research.config import canonical_json, content_hash

CACHE_VARIABLE = "COLBERT_RESEARCH_CACHE"


def cache_root() -> Path:
    """The folder of the cache: `$COLBERT_RESEARCH_CACHE`, else `~/.cache/colbert_research`."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "colbert_research").expanduser()


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a crash (a no-op where folders cannot be opened, as on Windows)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush every file below `folder`, then the folders, to the disk."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            sync_folder(path)
        else:
            with open(path, "rb") as handle:
                os.fsync(handle.fileno())
    sync_folder(folder)


def write_text(path: str | Path, text: str) -> None:
    """Put a text file in place by one rename, after flushing it: a reader sees the old one or the new one."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with open(temporary, "w", encoding="utf-8", newline="\n") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def write_json(path: str | Path, value: Any) -> None:
    """`write_text` of indented JSON with sorted keys."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def folder_bytes(folder: str | Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; other processes wait. The system frees it when its holder dies."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill; it appears as `target`, by one rename, when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        sync_tree(temporary)
        os.rename(temporary, target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True)
class StageResult:
    """A finished stage: its folder, whether it was found (`hit`) or computed, and what it noted of itself (times, counts)."""

    path: Path
    key: str
    hit: bool
    notes: Mapping[str, Any]


@dataclass(frozen=True)
class StageCache:
    """Folders of finished stages, `<root>/<stage>/<key>`, named by a hash of everything that they depend on."""

    root: Path

    @classmethod
    def default(cls) -> "StageCache":
        """The cache in `cache_root()`."""
        return cls(cache_root())

    def path(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def key(self, stage: str, depends_on: Any) -> str:
        """The name of a stage's folder: a hash of the stage's name and of what it depends on."""
        return content_hash(stage, depends_on)

    def has(self, stage: str, key: str) -> bool:
        return (self.path(stage, key) / "done.json").is_file()

    def run(self, stage: str, depends_on: Any, compute: Callable[[Path], Mapping[str, Any]]) -> StageResult:
        """The folder of a stage, computed unless it is there.

        `compute(folder)` fills the folder and returns notes. The folder of an interrupted run is handed to it again, so that a
        stage which can resume does; `done.json`, written last, means finished. Two processes never compute one stage at once.
        """
        key = self.key(stage, depends_on)
        folder = self.path(stage, key)
        if not self.has(stage, key):
            with locked(self.root / stage / f".{key}.lock"):
                if not self.has(stage, key):
                    folder.mkdir(parents=True, exist_ok=True)
                    write_json(folder / "depends_on.json", json.loads(canonical_json(depends_on)))
                    notes = dict(compute(folder))
                    sync_tree(folder)
                    write_json(folder / "done.json", notes)
                    return StageResult(folder, key, False, notes)
        return StageResult(folder, key, True, read_json(folder / "done.json"))
