"""The generations of an index: which there are, who reads them, how the next one is put in place, how old ones are deleted.

A generation is a manifest and the files that it names, which never change. The newest is `manifest.json`, an older one
`manifest-NNNNNN.json`. Whoever reads generation N holds a shared lock on the empty file `generation-NNNNNN.lock` (`flock`, for
which a folder that can only be read is enough), and one that is held is not deleted. Where there are no such locks (Windows),
the system itself deletes no file that is in use. Readers of an index that an earlier version of this package wrote are not
seen: `keep=1` keeps what they read.
"""

import logging
import os
import re
import shutil
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any

from colbert_research.artifacts import sync_folder, write_text
from colbert_research.index.damage import IndexCorruptedError, IndexMissingError
from colbert_research.index.manifest import (
    MANIFEST,
    check_sums,
    check_text,
    entries_of,
    files_of,
    files_of_generation,
    manifest_file,
    older_generations,
    read_manifest,
    structures_of,
    write_manifest,
    writing,
)

logger = logging.getLogger("colbert_research")
ATTEMPTS, PAUSE = 200, 0.01  # seconds
OWN = re.compile(
    r"(segment|deleted|codec|structures)-\d{6,}|codec|pipeline|structures|generation-\d{6,}\.lock|manifest-\d{6,}\.json"
    r"|\.[\w.-]+\.[0-9a-f]{8}\.tmp"
)
"""What writers put into the folder of an index, beside `manifest.json` and `structures`."""


class Hold:
    """A shared lock on a generation, for as long as this object lives."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        weakref.finalize(self, os.close, handle)

    def is_at(self, file: Path) -> bool:
        """Whether a file is the one that is locked. Nobody deletes that alone: elsewhere, the index was deleted or replaced."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(file))
        except OSError:
            return False

    @classmethod
    def take(cls, file: Path) -> "Hold | None":
        """The lock on a generation's file. Raises BlockingIOError while a writer deletes it, OSError where there is no file."""
        try:
            import fcntl
        except ImportError:  # Windows
            return None
        handle = os.open(file, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(handle), os.stat(file)):
                raise BlockingIOError(f"{file} was deleted")
        except BaseException:
            os.close(handle)
            raise
        return cls(handle)


def lock_file(path: Path, generation: int) -> Path:
    """The file on which readers of a generation hold a lock."""
    return path / f"generation-{generation:06d}.lock"


def hold(path: Path, generation: int | None = None) -> tuple[dict[str, Any], Hold | None]:
    """The manifest of a generation, by default the newest, and the lock that keeps its files.

    None instead of the lock where there are no shared locks, or the file for it is missing. Raises as `read_manifest` does.
    """
    for _ in range(ATTEMPTS):
        manifest, held = read_manifest(path, generation), None
        try:
            held = Hold.take(lock_file(path, manifest["generation"]))
        except BlockingIOError:
            time.sleep(PAUSE)
            continue
        except OSError as error:
            logger.debug("%s is read without a lock: %s", path, error)
        with suppress(IndexMissingError):  # deleted in between
            read_manifest(path, manifest["generation"])
            return manifest, held
    raise TimeoutError(f"the generations of {path} were deleted faster than they could be opened; open it again")


def generations(path: Path) -> list[int]:
    """Ascending numbers of the generations that can be opened."""
    newest = read_manifest(path)["generation"]
    return [*(each for each in older_generations(path) if each < newest), newest]


def verify(path: Path) -> None:
    """Read every file of every generation, and raise IndexCorruptedError that names the first that is not as it was written."""
    checked: set[tuple[Path, str]] = set()
    for generation in generations(path):
        try:
            manifest, _held = hold(path, generation)  # for as long as it is read
        except IndexMissingError:  # it was deleted since
            continue
        newest = read_manifest(path)["generation"] == generation
        check_text(path / MANIFEST if newest else manifest_file(path, generation))
        for file, known in files_of_generation(path, manifest):
            if (file, known["sha256"]) not in checked:
                check_sums([(file, known)])
                checked.add((file, known["sha256"]))
        for name, entry in manifest.get("structures", {}).items():
            for part, known in entry["parts"].items():
                folder = path / structures_of(manifest) / name
                if (folder / part).is_dir():  # else somebody deleted it, to have it built again
                    check_sums(files_of(folder / part, known), remedy=f"delete the folder {folder}, and have it built again")


@contextmanager
def changing(path: Path, keep: int = 0) -> Iterator[None]:
    """Hold the writer's lock on an index. Leftovers are deleted before and after, and generations that nobody reads after.

    `keep`: how many generations before the newest are kept in any case.
    """
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
        raise ValueError(f"keep is how many older generations stay, a whole number from 0; given {keep!r}")
    with writing(path):
        read_manifest(path)
        tidy(path)
        try:
            yield
        except OSError as error:
            if error.errno in (ENOSPC, EDQUOT):
                generation = read_manifest(path)["generation"]
                reason = f"{error.strerror}: the index is at generation {generation} and whole; make room, and do it again"
                raise OSError(error.errno, reason, str(path)) from error
            raise
        finally:
            with suppress(IndexCorruptedError, IndexMissingError):
                collect(path, keep)


def commit(path: Path, manifest: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> None:
    """Put the manifest of the next generation in place, whose files are on the disk; `before`: that of the newest so far.

    A reader sees the one or the other. After a crash at any instant there is the one or the other.
    """
    for each in (manifest, *([before] if before else [])):
        lock_file(path, each["generation"]).touch()
    if before:
        write_text(manifest_file(path, before["generation"]), (path / MANIFEST).read_text(encoding="utf-8"))
    sync_folder(path)
    write_manifest(path, manifest)


def collect(path: Path, keep: int = 0) -> None:
    """Delete the generations before the newest that nobody reads, but for the last `keep`, and what none names then.

    What cannot be deleted stays for the next writer.
    """
    try:
        for generation in generations(path)[:-1][::-1][keep:]:
            with _nobody_reads(lock_file(path, generation)) as nobody:
                if nobody:
                    manifest_file(path, generation).unlink()
                    lock_file(path, generation).unlink(missing_ok=True)
        sync_folder(path)  # no manifest may come back after the files that it names are gone
    except OSError as error:
        _left(path, error)
    tidy(path)


@contextmanager
def _nobody_reads(file: Path) -> Iterator[bool]:
    """Whether a generation's lock is free; it is held while the block runs."""
    try:
        import fcntl
    except ImportError:
        yield True
        return
    try:
        handle = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def tidy(path: Path) -> None:
    """Delete what writers put into an index's folder and no manifest names: leftovers of those that died, old generations.

    Nothing is deleted while a manifest is damaged; what cannot be deleted stays for the next writer.
    """
    try:
        _sweep(path, [read_manifest(path, generation) for generation in generations(path)])
    except (OSError, IndexCorruptedError) as error:
        _left(path, error)


def _left(path: Path, error: Exception) -> None:
    logger.warning("%s: not all of what is no longer needed could be deleted; the next writer tries again: %s", path, error)


def _sweep(path: Path, manifests: list[dict[str, Any]]) -> None:
    named = {entry["name"] for manifest in manifests for entry in entries_of(manifest)}
    named |= {structures_of(manifest) for manifest in manifests}
    for manifest in manifests:
        named |= {manifest_file(path, manifest["generation"]).name, lock_file(path, manifest["generation"]).name}
    named.discard(manifest_file(path, manifests[-1]["generation"]).name)  # the newest is manifest.json
    for entry in sorted(path.iterdir()):
        if OWN.fullmatch(entry.name) and entry.name not in named:
            _remove(entry)
    lists = {file for manifest in manifests for file, _ in files_of_generation(path, manifest)}
    for file in sorted(path.glob("deleted-*/*")):
        if file not in lists:  # a later list of the same segment is named instead
            _remove(file)
    for root in {structures_of(manifest) for manifest in manifests}:
        same = [manifest.get("structures", {}) for manifest in manifests if structures_of(manifest) == root]
        for folder in sorted((path / root).glob("*")):
            parts = {part for each in same if folder.name in each for part in each[folder.name]["parts"]}
            for part in sorted(folder.iterdir()) if parts else ():
                if part.name not in parts:
                    _remove(part)
            if not parts:
                _remove(folder)


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
