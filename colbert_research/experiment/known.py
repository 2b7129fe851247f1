"""Where records lie that name artifacts of a cache, wherever they were saved: the cache keeps a note of each folder."""

from contextlib import suppress
from pathlib import Path

from colbert_research.artifacts import write_text
from colbert_research.cache import StageCache
from colbert_research.config import content_hash

FOLDER = "records"


def remember(cache: StageCache, output: Path) -> None:
    """Note the folder of a record; nothing where the cache cannot be written to."""
    folder = str(output.resolve())
    note = cache.root / FOLDER / content_hash(folder)
    if not note.is_file():
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            write_text(note, folder)


def known(cache: StageCache) -> list[Path]:
    """The folders that were noted and are still there, in order."""
    folders = []
    for note in (cache.root / FOLDER).glob("*"):
        with suppress(OSError, UnicodeDecodeError):
            folders.append(Path(note.read_text(encoding="utf-8")))
    return sorted(folder for folder in folders if folder.is_dir())
