"""Files that are either whole or absent: atomic JSON and folders, and checksums."""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EACCES
from pathlib import Path
from typing import Any

CACHE_VARIABLE = "COLBERT_RESEARCH_CACHE"


def cache_root() -> Path:
    """The folder of the cache: `$COLBERT_RESEARCH_CACHE`, else `~/.cache/colbert_research`.

    Raises RuntimeError where this user has no home folder and the variable is not set.
    """
    try:
        return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "colbert_research").expanduser().absolute()
    except RuntimeError as error:
        raise RuntimeError(f"no home folder to keep the cache in ({error}); set {CACHE_VARIABLE} to a folder") from error


def make_cache_folder(folder: Path) -> None:
    """Make a folder of the cache. Raises OSError that names the variable where it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(EACCES, "it cannot be written to", str(folder))
    except OSError as error:
        reason = f"{error.strerror} (the cache; set {CACHE_VARIABLE} to a folder of yours)"
        raise type(error)(error.errno, reason, str(folder)) from error


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


def write_text(path: str | Path, text: str, *, flush: bool = True) -> None:
    """Put a text file in place by one rename: a reader sees the old one or the new one, after a crash of the machine too where
    it is flushed to the disk before."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as handle:
            handle.write(text)
            if flush:
                handle.flush()
                os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:  # on a full disk, half of it would take the room that is needed
        temporary.unlink(missing_ok=True)
        raise
    if flush:
        sync_folder(path.parent)


def remove_unfinished_texts(folder: Path, *, seconds: float) -> None:
    """Remove what died writers of `write_text` left in a folder more than some seconds ago."""
    for path in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= seconds:
                path.unlink()


def json_text(value: Any) -> str:
    """Indented JSON with sorted keys: the same text for the same value."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: str | Path, value: Any) -> None:
    """`write_text` of `json_text`."""
    write_text(path, json_text(value))


def read_json(path: str | Path) -> Any:
    """The value in a JSON file. Raises ValueError for what is none, as what is nested too deeply to be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply to be read") from None


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays by name as safetensors, readable by whom other files are (`safetensors.save_file` lets nobody else read)."""
    import numpy as np
    from safetensors.numpy import save

    path.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def folder_bytes(folder: str | Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def checksums(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below a folder, by its path within: `{"bytes": int, "sha256": hex}`."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256_file(p)} for p in files}


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
