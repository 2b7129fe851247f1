"""Which code and which packages made a number."""

import hashlib
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "colbert-research",
    "numpy",
    "torch",
    "transformers",
    "sentence-transformers",
    "faiss-cpu",
    "ir-measures",
    "pyarrow",
    "cupy-cuda13x",
    "cupy-cuda12x",
)


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that a number can depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def code_version() -> dict[str, Any]:
    """The git commit of the package's checkout and a hash of uncommitted changes to the package; `installed` without git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"commit": "installed", "changes": None}
    try:
        commit = _git(root, "rev-parse", "HEAD").decode().strip()
        changes = _git(root, "diff", "HEAD", "--", "colbert_research")
        changes += _git(root, "ls-files", "--others", "--exclude-standard", "--", "colbert_research")
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "changes": None}
    return {"commit": commit, "changes": hashlib.sha256(changes).hexdigest()[:12] if changes else None}


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True).stdout
