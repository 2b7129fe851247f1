"""The content-addressed cache: folders of finished stages, `<root>/<kind>/<key>`, named by a hash of what decides their bytes.

A folder under its own name is finished: it was filled under another name, its files were flushed and hashed, its notes
(`done.json`) written, and it was put in place by one rename. The notes hold the size and SHA-256 of every file, so that an
artifact can be told from a damaged one.
"""

import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colbert_research.artifacts import (
    cache_root,
    checksums,
    make_cache_folder,
    read_json,
    remove_unfinished_texts,
    sha256_file,
    sync_folder,
    sync_tree,
    write_json,
)
from colbert_research.config import content_hash
from colbert_research.fingerprints import stat_of
from colbert_research.locks import Lock, LockedError, locked
from colbert_research.store import NOTES, VARIABLE, Store, StoreError

logger = logging.getLogger("colbert_research")
KEPT_DAYS = 30
"""How long what an interrupted stage left is kept, to be taken up again."""
Compute = Callable[[Path], Mapping[str, Any]]


class DamagedArtifactError(ValueError):
    """A file of a finished stage is not what its notes say."""


@dataclass(frozen=True)
class Artifact:
    """A finished stage: its folder, and what it noted of itself (times, counts, origin)."""

    kind: str
    key: str
    path: Path
    notes: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]

    def state(self) -> tuple[tuple[str, int, int, int], ...]:
        """Size and times of change of every file; the same as long as nobody touched them. Raises DamagedArtifactError."""
        try:
            return tuple(stat_of(self.path / name) for name in (*self.files, NOTES))
        except OSError as error:
            raise DamagedArtifactError(f"{self.path}: {error}") from error

    def check(self) -> None:
        """Compare names and sizes of all files with the notes. Raises DamagedArtifactError."""
        there = {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file()}
        if foreign := sorted(there - {*self.files, NOTES}):
            raise DamagedArtifactError(f"{self.path / foreign[0]} is none of its files, {self.path / NOTES} says")
        for name, expected in self.files.items():
            file = self.path / name
            size = file.stat().st_size if file.is_file() else None
            if size != expected["bytes"]:
                given = "is missing" if size is None else f"has {size} bytes"
                raise DamagedArtifactError(f"{file} {given}, {self.path / NOTES} says {expected['bytes']} bytes")

    def verify(self) -> None:
        """Read every file and compare its SHA-256 with the notes. Raises DamagedArtifactError."""
        self.check()
        for name, expected in self.files.items():
            if sha256_file(self.path / name) != expected["sha256"]:
                raise DamagedArtifactError(f"{self.path / name} is not what {self.path / NOTES} says (SHA-256 differs)")


@dataclass(frozen=True)
class StageCache:
    """The cache in the folder `root`; what it lacks is fetched from a `store`, and what it computes is copied there."""

    root: Path
    store: Store | None = None

    @classmethod
    def default(cls) -> "StageCache":
        """The cache in `cache_root()`, with the store that the environment names."""
        return cls(cache_root(), Store.from_environment())

    def path(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def find(self, kind: str, key: str) -> Artifact | None:
        """The artifact, with its sizes checked; None where there is none. A damaged one is named in the log and not found."""
        path = self.path(kind, key)
        try:
            artifact = _open(kind, key, path)
            artifact.check()
        except FileNotFoundError:
            return None
        except DamagedArtifactError as error:
            logger.warning("damaged: %s; %s/%s will be computed again", error, kind, key)
            return None
        return artifact

    def artifacts(self, kind: str) -> Iterator[Artifact]:
        """All artifacts of a kind that can be opened, by key; those of a version with other notes are passed over."""
        folder = self.root / kind
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not path.name.startswith("."):
                try:
                    artifact = _open(kind, path.name, path)
                    artifact.check()
                except (FileNotFoundError, DamagedArtifactError) as error:
                    logger.debug("passed over: %s", error)
                else:
                    yield artifact

    def run(
        self, kind: str, key: str, compute: Compute, *, resumes: bool = False, fresh: bool = False
    ) -> tuple[Artifact, bool]:
        """The artifact, and whether it was found, here or in the store; computed otherwise, or in any case with `fresh`.

        `compute(folder)` fills the folder and returns notes. A stage that `resumes` is handed what an interrupted run left,
        another one an empty folder. Two processes never compute one artifact at once: one waits and says for whom.
        """
        folder = self.root / kind
        lock = folder / f".{key}.lock"
        if not fresh and (found := self.find(kind, key)) is not None:
            if left := list(folder.glob(f".{key}.*")):  # of somebody who died just after, or who is here now
                with suppress(PermissionError):  # of a cache that this process only reads
                    _remove_of_the_dead(lock, *left)
            with suppress(OSError):
                os.utime(found.path)  # when it was last used
            return found, True
        make_cache_folder(folder)
        with locked(lock, f"{kind} {key}") as lease:
            if not fresh and (found := self.find(kind, key)) is not None:
                return found, True
            self._collect(kind, key)
            fetched, damaged = (None, False) if fresh else self._fetch(kind, key)
            if fetched is not None:
                return fetched, True
            unfinished = folder / (f".{key}.resumes" if resumes else f".{key}.{uuid.uuid4().hex[:8]}.partial")
            if fresh:
                shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(exist_ok=True)
            remove_unfinished_texts(unfinished, seconds=0)
            (unfinished / NOTES).unlink(missing_ok=True)
            try:
                notes = dict(compute(unfinished))
                if not lease.held:
                    raise LockedError(f"{lock} was removed while {kind} {key} was computed, so another may be at it; run again")
                self._publish(kind, key, unfinished, notes)
            except BaseException:
                if not resumes or (unfinished.is_dir() and not any(unfinished.iterdir())):
                    shutil.rmtree(unfinished, ignore_errors=True)
                raise
        self._copy_to_store(kind, key, replace=damaged)
        return _open(kind, key, self.path(kind, key)), False

    def put(self, kind: str, key: str, fill: Compute) -> Artifact:
        """An artifact made otherwise, such as of another one's files; replaces what is there."""
        return self.run(kind, key, fill, fresh=True)[0]

    def push(self, kinds: Sequence[str] = ()) -> Iterator[bool]:
        """Copy the artifacts of these kinds, or of all, to the store; for each, whether it was not there yet.

        Damaged ones stay here. Raises StoreError without a store, where it cannot be written to, and for a kind of which there
        are no artifacts.
        """
        if self.store is None:
            raise StoreError(f"no store to copy to; set {VARIABLE} to an address of fsspec, such as s3://bucket/prefix")
        there = sorted({path.parent.parent.name for path in self.root.glob(f"*/*/{NOTES}")})
        if unknown := sorted({*kinds} - {*there}):
            raise StoreError(f"no artifacts of kind {unknown[0]!r} in {self.root}; there are {', '.join(there) or 'none'}")
        for kind in kinds or there:
            for artifact in self.artifacts(kind):
                try:
                    artifact.verify()
                except DamagedArtifactError as error:
                    logger.warning("damaged, and left here: %s", error)
                    continue
                yield self.store.publish(kind, artifact.key, artifact.path)

    def discard(self, artifact: Artifact) -> None:
        """Remove a damaged artifact, unless it has been replaced since it was opened."""
        with locked(self.root / artifact.kind / f".{artifact.key}.lock", f"remove {artifact.kind} {artifact.key}"):
            now = self.find(artifact.kind, artifact.key)
            if now is None or now.notes == artifact.notes:
                self._away(artifact.path)

    def _fetch(self, kind: str, key: str) -> tuple[Artifact | None, bool]:
        """The artifact, copied from the store; and whether the store has it, but damaged."""
        if self.store is None:
            return None, False
        unfinished = self.root / kind / f".{key}.{uuid.uuid4().hex[:8]}.partial"
        unfinished.mkdir()
        try:
            if not self.store.fetch(kind, key, unfinished):
                return None, False
            _open(kind, key, unfinished).verify()
            sync_tree(unfinished)
            self._away(self.path(kind, key))
            os.rename(unfinished, self.path(kind, key))
            sync_folder(unfinished.parent)
        except DamagedArtifactError as error:
            logger.warning("damaged in %s: %s; %s/%s is computed again", self.store.address, error, kind, key)
            return None, True
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        logger.info("%s/%s: fetched from %s", kind, key, self.store.address)
        return _open(kind, key, self.path(kind, key)), False

    def _copy_to_store(self, kind: str, key: str, *, replace: bool) -> None:
        """Copy an artifact to the store; where that fails, what was computed is here all the same, and a warning says so."""
        if self.store is not None:
            try:
                self.store.publish(kind, key, self.path(kind, key), replace=replace)
            except StoreError as error:
                logger.warning("%s/%s is in %s, but not in the store: %s", kind, key, self.root, error)

    def _publish(self, kind: str, key: str, unfinished: Path, notes: Mapping[str, Any]) -> None:
        sync_tree(unfinished)
        whole = json.loads(json.dumps({**notes, "name": f"{kind}/{key}", "files": checksums(unfinished)}))
        write_json(unfinished / NOTES, {**whole, "check": content_hash(whole)})
        target = self.path(kind, key)
        try:
            old = _open(kind, key, target)
            old.verify()
        except (FileNotFoundError, DamagedArtifactError):
            pass
        else:
            if old.files == whole["files"]:  # computed again, the same: who reads the files may go on
                write_json(target / NOTES, {**whole, "check": content_hash(whole)})
                shutil.rmtree(unfinished, ignore_errors=True)
                return
        self._away(target)
        os.rename(unfinished, target)
        sync_folder(target.parent)

    def _away(self, folder: Path) -> None:
        """Remove a folder at once: renamed first, so that no half of it is ever under its own name."""
        if os.path.lexists(folder):
            aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
            os.rename(folder, aside)
            _remove(aside)

    def _collect(self, kind: str, key: str) -> None:
        """Remove what dead processes left in the folder of a kind, except what a resuming stage could still use.

        After `KEPT_DAYS` it is no longer kept: with other code or other texts, nobody will ask for it again.
        """
        folder = self.root / kind
        for path in (*folder.glob(".*.partial"), *folder.glob(".*.lock")):
            of = path.name[1:].split(".")[0]
            if of == key:
                shutil.rmtree(path, ignore_errors=True)
                continue
            _remove_of_the_dead(folder / f".{of}.lock", path)
        for path in folder.glob(".*.resumes"):
            of = path.name[1:].split(".")[0]
            if of != key and _days_old(path) > KEPT_DAYS:
                _remove_of_the_dead(folder / f".{of}.lock", path)


def _days_old(folder: Path) -> float:
    """Days since something in a folder changed; 0 where somebody changes it just now."""
    try:
        return (time.time() - max(each.stat().st_mtime for each in (folder, *folder.iterdir()))) / 86_400
    except FileNotFoundError:
        return 0.0


def _remove_of_the_dead(path: Path, *folders: Path) -> None:
    """Remove a lock that nobody holds, and the folders that it guarded."""
    lock = Lock(path, "collect what is left")
    if lock.try_acquire():
        for folder in folders:
            _remove(folder)
        lock.release()


def _remove(path: Path) -> None:
    """Remove a folder and all in it, or a file or link that lies in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _open(kind: str, key: str, path: Path) -> Artifact:
    """The artifact in a folder. Raises FileNotFoundError without one, DamagedArtifactError for notes that cannot be read."""
    file = path / NOTES
    try:
        notes = read_json(file)
        check = notes.pop("check")
        if check != content_hash(notes):
            raise ValueError("it is not what was written")
        if (name := notes.pop("name")) != f"{kind}/{key}":
            raise ValueError(f"it is that of {name}")
        files = {str(name): {"bytes": int(f["bytes"]), "sha256": str(f["sha256"])} for name, f in notes.pop("files").items()}
    except FileNotFoundError:
        if path.is_dir():
            raise DamagedArtifactError(f"{file} is missing") from None
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedArtifactError(f"{file} holds no notes of a finished stage: {type(error).__name__}: {error}") from error
    return Artifact(kind, key, path, notes, files)
