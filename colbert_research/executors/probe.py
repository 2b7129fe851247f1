"""What has to be the same on every machine of a cluster before anything is computed there: code, and the shared folders."""

import hashlib
import os
import platform
import re
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from colbert_research import store
from colbert_research.artifacts import CACHE_VARIABLE, read_json
from colbert_research.settings import ConfigError

PACKAGE = "colbert_research"


class WorkerDiffersError(ConfigError):
    """A worker has other code than this process, or does not see its folders."""


@lru_cache
def versions() -> dict[str, str]:
    """What decides what this process computes: Python, a hash of this package's sources, and the versions of what it needs."""
    root, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".cu", ".cuh")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    found = {"python": platform.python_version(), PACKAGE: f"sources {digest.hexdigest()[:12]}"}
    try:
        needed = metadata.requires("colbert-research") or []
    except metadata.PackageNotFoundError:
        needed = []
    for line in needed:
        name = re.match(r"[\w.-]+", line)
        if name and "extra ==" not in line:
            try:
                found[name[0]] = metadata.version(name[0])
            except metadata.PackageNotFoundError:
                found[name[0]] = "not installed"
    return found


@contextmanager
def probe_files(folders: Iterable[Path]) -> Iterator[dict[str, str]]:
    """A file in each folder, path -> contents, for `difference` to look for on a worker; removed when the block ends."""
    written: dict[str, str] = {}
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder.absolute() / f".probe.{uuid.uuid4().hex}"
            written[str(path)] = uuid.uuid4().hex
            path.write_text(written[str(path)], encoding="utf-8")
        yield written
    finally:
        for name in written:
            Path(name).unlink(missing_ok=True)


def difference(expected: Mapping[str, str], files: Mapping[str, str]) -> str:
    """How this process differs from the one that wrote `versions` and `probe_files`, in a sentence; empty where it does not."""
    own, host = versions(), f"the worker (process {os.getpid()}) on {platform.node()}"
    for name, version in expected.items():
        if own.get(name) != version:
            return (
                f"{host} has {name} {own.get(name, 'not installed')}, and here it is {version}: numbers that are computed by "
                "other code are other numbers. Install the same version on every machine"
            )
    for name, contents in files.items():
        path = Path(name)
        try:
            seen = path.read_text(encoding="utf-8")
        except OSError as error:
            seen = f"{type(error).__name__}"
        if seen != contents:
            return (
                f"{host} does not see {path.name} in {path.parent}, which was written there before it began: the folder is not "
                "shared. Let it lie on a file system that all machines mount there; that of the cache is named by "
                f"{CACHE_VARIABLE}, and for the runs of a sweep an object store can stand in for it, {store.VARIABLE}"
            )
    return ""


def main() -> None:
    """End with what differs, if anything does, from what a JSON file says: `versions`, and `files`."""
    expected = read_json(sys.argv[-1])
    if said := difference(expected["versions"], expected["files"]):
        sys.exit(said)
