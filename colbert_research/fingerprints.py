"""Hashes of files that are remembered, so that a model or a corpus that did not change is not read again to know its name.

What is remembered lies in `<cache>/fingerprints`, one small file for each question and set of files, and counts only as long as
every file has the same path, size and time of change. A file that changed within the last two seconds is not remembered: a
second change might leave the same time. Where the cache cannot be written, answers are computed in every process.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from colbert_research.artifacts import cache_root, read_json, remove_unfinished_texts, sha256_file, write_json
from colbert_research.config import canonical_json, content_hash

SETTLED = 2.0  # seconds since the last change
_known: dict[str, Any] = {}


def remembered(question: str, settings: Any, files: Iterable[Path], compute: Callable[[], Any]) -> Any:
    """The answer, a JSON value, that `compute()` gives for the contents of `files` under `settings`; computed when not known.

    `question` names what is asked, and is changed when its answer would be another.
    """
    stats = [stat_of(path) for path in sorted(set(files))]
    key = hashlib.sha256(canonical_json([question, settings, stats]).encode()).hexdigest()
    if key in _known:
        return _known[key]
    file = cache_root() / "fingerprints" / f"{question.partition('/')[0]}-{key[:32]}.json"
    try:
        answer, check = (read_json(file)[name] for name in ("answer", "check"))
    except (OSError, ValueError, KeyError, TypeError):
        answer, check = None, ""
    if check != content_hash(key, answer):  # unknown, damaged, or the answer to something else
        answer = json.loads(json.dumps(compute()))
        if any(time.time_ns() - max(changed) < SETTLED * 1e9 for _, _, *changed in stats):
            return answer
        names = [path for path, *_ in stats]
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            remove_unfinished_texts(file.parent, seconds=60)
            write_json(file, {"question": question, "files": names, "answer": answer, "check": content_hash(key, answer)})
    _known[key] = answer
    return answer


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; remembered."""
    return str(remembered("sha256/1", None, [path], lambda: sha256_file(path)))


def files_hash(folder: Path, files: Sequence[Path]) -> str:
    """SHA-256, in hexadecimal, over the names (relative to `folder`) and contents of some files; each file's is remembered."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{file_hash(path)}\n".encode())
    return digest.hexdigest()


def stat_of(path: Path) -> tuple[str, int, int, int]:
    """Path, size and times of change of a file: of its content, which tools set back, and of its entry, which nobody does."""
    found = path.stat()
    return str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns
