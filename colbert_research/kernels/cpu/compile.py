"""How the kernels are compiled: without the interpreter's lock, once for these sources and this processor, kept on disk."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba.core import config

from colbert_research.kernels.cpu.simd import TIER


def _folder() -> str:
    """Numba looks only at the file of a function; the folder's name covers all files that its code comes from."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    root = Path(os.environ.get("COLBERT_RESEARCH_CACHE") or Path.home() / ".cache" / "colbert_research").expanduser()
    return str(root / "numba" / f"{numba.__version__}-{TIER}-{digest}")


_FOLDER = _folder()


@contextmanager
def kept_on_disk() -> Iterator[None]:
    """Let what Numba is told to cache within the block be kept below `$COLBERT_RESEARCH_CACHE/numba`."""
    before, config.CACHE_DIR = config.CACHE_DIR, _FOLDER
    try:
        yield
    finally:
        config.CACHE_DIR = before


def compiled(function: Callable[..., Any]) -> Any:
    """A compiled function that does not hold the interpreter's lock, kept on disk."""
    with kept_on_disk():
        return numba.njit(nogil=True, cache=True)(function)
