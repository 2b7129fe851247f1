"""An object store that caches of several machines share: what one of them computed, the others fetch.

`$COLBERT_RESEARCH_STORE` names it, by an address of fsspec: `s3://bucket/prefix`, `gs://bucket/prefix`, `file:///mnt/team`.
Below it, the files of a stage lie in `<kind>/<key>/<contents>/`, named by a hash of all of them, and `<kind>/<key>/done.json`,
which is written last and in one act, says what they are. So a reader finds a stage whole or not at all, and two machines that
compute the same one do no harm: should rounding make their files differ, the later notes name their own.
"""

import json
import logging
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from colbert_research.config import content_hash
from colbert_research.settings import ConfigError

logger = logging.getLogger("colbert_research")
VARIABLE = "COLBERT_RESEARCH_STORE"
NOTES = "done.json"


class StoreError(ConfigError):
    """A store that cannot be used: its address, and why."""


@dataclass(frozen=True)
class Store:
    """The store at `address`; nothing is asked of it before the first stage."""

    address: str

    @classmethod
    def from_environment(cls) -> "Store | None":
        """The store that the environment names, if it names one. Raises StoreError for an address that fsspec cannot read."""
        address = os.environ.get(VARIABLE, "")
        return cls(address) if address else None

    def __post_init__(self) -> None:
        self._at()

    def fetch(self, kind: str, key: str, folder: Path) -> bool:
        """Copy a stage, its notes included, into an empty folder; whether the store has it.

        What is copied is not checked. Raises StoreError where the store cannot be asked.
        """
        system, root = self._at()
        try:
            text = self._notes(system, root, kind, key)
            if text is None:
                return False
            names = _names(text)
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # the check of what was fetched says which one it is
                    system.get_file(f"{root}/{kind}/{key}/{_contents(names)}/{name}", str(folder / name))
        except Exception as error:  # each system raises its own
            raise self._unusable(error) from error
        (folder / NOTES).write_bytes(text)
        return True

    def publish(self, kind: str, key: str, folder: Path, *, replace: bool = False) -> bool:
        """Copy a finished stage into the store, unless it has the same files or `replace`; whether anything was copied.

        Raises StoreError where the store cannot be written to.
        """
        system, root = self._at()
        text = (folder / NOTES).read_bytes()
        names = _names(text)
        try:
            there = None if replace else self._notes(system, root, kind, key)
            if there is not None and _names(there) == names:
                return False
            target = f"{root}/{kind}/{key}"
            system.makedirs(f"{target}/{_contents(names)}", exist_ok=True)
            for name in names:
                if "/" in name:
                    system.makedirs(f"{target}/{_contents(names)}/{PurePosixPath(name).parent}", exist_ok=True)
                system.put_file(str(folder / name), f"{target}/{_contents(names)}/{name}")
            _put_at_once(system, f"{target}/{NOTES}", text)
        except Exception as error:
            raise self._unusable(error) from error
        return True

    def _at(self) -> tuple[Any, str]:
        """The file system of the address, and the path in it."""
        try:
            from fsspec.core import url_to_fs

            if "://" not in self.address:
                raise ValueError(f"it has no protocol; a folder is {Path(self.address).expanduser().absolute().as_uri()}")
            system, root = url_to_fs(self.address)
        except Exception as error:  # a package that is missing, a protocol that nobody knows
            raise self._unusable(error) from error
        return system, root.rstrip("/")

    def _notes(self, system: Any, root: str, kind: str, key: str) -> bytes | None:
        """The notes of a stage; None where there are none, or half of them."""
        try:
            text: bytes = system.cat_file(f"{root}/{kind}/{key}/{NOTES}")
        except FileNotFoundError:
            bucket = root.split("/")[0]
            if bucket and not system.exists(bucket):  # not a stage that is missing: nothing could ever be there
                raise
            return None
        try:
            _names(text)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            logger.warning("damaged: %s/%s/%s/%s (%s); it is computed again", self.address, kind, key, NOTES, error)
            return None
        return text

    def _unusable(self, error: Exception) -> StoreError:
        said = " ".join(str(error).split())
        return StoreError(
            f"{VARIABLE}={self.address}: {type(error).__name__}: {said}; give an address of fsspec that this machine may read "
            "and write, such as s3://bucket/prefix, or unset it to use this machine's cache alone"
        )


def _names(text: bytes) -> Mapping[str, Any]:
    """The files of a stage by its notes: name -> size and SHA-256. Raises ValueError for names that lead out of the folder."""
    files: Mapping[str, Any] = json.loads(text)["files"]
    for name in files:
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name:
            raise ValueError(f"a file of a stage cannot be {name!r}")
    return files


def _contents(files: Mapping[str, Any]) -> str:
    """The name of the folder of these files."""
    return content_hash({name: each["sha256"] for name, each in files.items()})


def _put_at_once(system: Any, path: str, text: bytes) -> None:
    """Write a file such that nobody reads half of it: by one put, or by a rename where a put can be seen under way."""
    if "file" in system.protocol:
        aside = f"{path}.{uuid.uuid4().hex[:8]}"
        system.pipe_file(aside, text)
        os.replace(aside, path)
    else:
        system.pipe_file(path, text)
