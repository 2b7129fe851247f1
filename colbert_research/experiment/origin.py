"""Where an artifact comes from: code, packages, machine, time. Every artifact keeps its own; a record quotes them."""

import hashlib
import platform
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from colbert_research import threads

PACKAGES = (
    "colbert-research",
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "faiss-cpu",
    "bm25s",
    "ir-measures",
    "pyarrow",
    "cupy-cuda13x",
    "cupy-cuda12x",
)
MAY_DIFFER = ("finished",)
"""Entries of an origin that two artifacts of one run do not share."""


def origin() -> dict[str, Any]:
    """The origin of what this process computes now."""
    return {
        **code_version(),
        "packages": package_versions(),
        "python": platform.python_version(),
        "driver": driver_version(),
        "host": host(),
        "threads": threads.count(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def host() -> dict[str, Any]:
    """The machine: `id` (a hash of its name), processor, tier of vector instructions, cores of this process, system."""
    names = (platform.node(), _first_line("/etc/machine-id"))
    return {
        "id": hashlib.sha256("\n".join(names).encode()).hexdigest()[:8],
        "processor": _processor(),
        "simd": _tier(),
        "cores": threads.available(),
        "system": f"{platform.system()} {platform.machine()}",
    }


@lru_cache
def package_versions() -> dict[str, str]:
    """Installed versions of the packages that a number can depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@lru_cache
def code_version() -> dict[str, Any]:
    """The git commit of the package's checkout and a hash of uncommitted changes to the package; `installed` without git.

    Untracked files count with their contents.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"commit": "installed", "changes": None}
    try:
        commit = _git(root, "rev-parse", "HEAD").decode().strip()
        changes = _git(root, "diff", "HEAD", "--", "colbert_research")
        for name in _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", "colbert_research").split(b"\0"):
            if name:
                changes += name + b"\0" + (root / name.decode()).read_bytes()
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "changes": None}
    return {"commit": commit, "changes": hashlib.sha256(changes).hexdigest()[:12] if changes else None}


@lru_cache
def driver_version() -> str | None:
    """The version of the NVIDIA driver; None without one."""
    said = _first_line("/proc/driver/nvidia/version").split()
    return next((word for word in said if word[:1].isdigit() and "." in word), None)


@lru_cache
def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@lru_cache
def _tier() -> str:
    if find_spec("numba") is None:
        return "none"
    from colbert_research.kernels.cpu.simd import TIER

    return TIER


def _first_line(path: str) -> str:
    return next(iter(_lines(path)), "")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True).stdout
