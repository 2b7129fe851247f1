"""How the kernels are compiled: without the interpreter's lock, once for these sources and this processor, kept on disk."""

import atexit
import hashlib
import logging
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core import caching, config

from colbert_research.artifacts import cache_root
from colbert_research.kernels.cpu.simd import TIER

logger = logging.getLogger("colbert_research")


def _name() -> str:
    """Numba looks only at the file of a function; this name covers all files that its code comes from, and the processor."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    features = config.CPU_FEATURES or llvm.get_host_cpu_features().flatten()
    processor = hashlib.sha256(f"{config.CPU_NAME or llvm.get_host_cpu_name()} {features}".encode()).hexdigest()[:8]
    return f"{numba.__version__}-{TIER}-{processor}-{digest}"


def _folder() -> str | None:
    """Where compiled code is kept; a folder that dies with this process, or none, where that cannot be written to.

    Numba itself would fall back to a folder beside the sources, which tells neither processors nor sources apart.
    """
    try:
        folder = cache_root() / "numba" / _name()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except (OSError, RuntimeError):  # no home, or one that is read-only
        pass
    try:
        private = tempfile.mkdtemp(prefix="colbert_research-")
    except OSError:
        return None
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    return private


_FOLDER = _folder()


class CheckedFiles(caching.IndexDataCacheFile):  # type: ignore[misc]
    """Numba's files of compiled code, each behind the SHA-256 of its contents; a damaged one is compiled again, never run.

    What cannot be written, as on a full disk, is not kept.
    A file is named after what it holds. Numba numbers them, and of two processes that compile at once each may take the same
    number, so that one finds the other's code under its own key.
    Of the functions in this folder, whose sources `_name` tells apart, files lie where every checkout of these sources looks.
    """

    def __init__(self, cache_path: str, filename_base: str, source_stamp: Any) -> None:
        if os.path.basename(cache_path) == caching._CacheLocator.get_suitable_cache_subpath(__file__):
            cache_path, source_stamp = os.path.join(os.path.dirname(cache_path), "kernels"), None
            with suppress(OSError):
                os.makedirs(cache_path, exist_ok=True)
        super().__init__(cache_path, filename_base, source_stamp)

    def save(self, key: Any, data: Any) -> None:
        name = self._data_name(int(hashlib.sha256(repr(key).encode()).hexdigest()[:16], 16))
        try:
            self._save_data(name, data)
            self._save_index(self._load_index() | {key: name})  # the later of two writers wins; what is lost is compiled again
        except OSError as error:
            logger.warning("compiled code is not kept: %s", error)

    def _load_index(self) -> dict[Any, Any]:
        try:
            version, stamp, overloads = _read(self._index_path)
        except OSError:
            return {}
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[Any, Any]) -> None:
        with self._open_for_write(self._index_path) as file:
            file.write(self._dump((self._version, self._source_stamp, overloads)))

    def _load_data(self, name: str) -> Any:
        return _read(self._data_path(name))

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[Any]:
        """As Numba does; what lies there and is no file gives way."""
        if os.path.isdir(filepath) and not os.path.islink(filepath):
            shutil.rmtree(filepath, ignore_errors=True)
        with super()._open_for_write(filepath) as file:
            yield file

    def _dump(self, obj: Any) -> bytes:
        data: bytes = super()._dump(obj)
        return hashlib.sha256(data).digest() + data


def _read(path: str) -> Any:
    """What `CheckedFiles` wrote; raises OSError for a file that is missing or damaged, which Numba takes for none."""
    whole = Path(path).read_bytes()
    digest, data = whole[:32], whole[32:]
    if hashlib.sha256(data).digest() != digest:
        raise OSError(f"{path} is damaged")
    return pickle.loads(data)


@contextmanager
def kept_on_disk() -> Iterator[bool]:
    """Let what Numba is to cache within the block be kept below `$COLBERT_RESEARCH_CACHE/numba`; whether that is possible."""
    before = config.CACHE_DIR, caching.IndexDataCacheFile
    config.CACHE_DIR, caching.IndexDataCacheFile = _FOLDER or config.CACHE_DIR, CheckedFiles
    try:
        yield _FOLDER is not None
    finally:
        config.CACHE_DIR, caching.IndexDataCacheFile = before


def compiled(function: Callable[..., Any]) -> Any:
    """A compiled function that does not hold the interpreter's lock, kept on disk where that can be written to."""
    with kept_on_disk() as kept:
        return numba.njit(nogil=True, cache=kept)(function)
