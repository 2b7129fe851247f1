"""Which passage is which: the maps that RAGatouille, PyLate and fast-plaid keep beside the codes."""

import pickle
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from colbert_research.data.passages import SEPARATOR, collection_of
from colbert_research.data.splitting import Passage
from colbert_research.index.damage import IndexCorruptedError
from colbert_research.index.importers.chunks import parsed
from colbert_research.index.importers.foreign import Passages

RAGATOUILLE = ("collection.json", "pid_docid_map.json")
PYLATE = "plaid_ids_to_documents_ids.pkl"
FAST_PLAID = "metadata.db"


class _PlainUnpickler(pickle.Unpickler):
    """Reads pickles of built-in containers, strings and numbers; nothing is imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}; only dicts of strings and numbers are read")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside; only dicts of strings and numbers are read")


def ragatouille(folder: Path, live: Sequence[int]) -> Passages:
    """The passages of a RAGatouille index, whose numbers in the index are `live`, named as ours are (`data.passages`).

    Where they stand in their documents it does not say. It renumbers texts when it deletes, and identifiers not: survivors are
    paired in their order. Raises IndexCorruptedError where texts and identifiers are not as many as passages.
    """
    texts, ids = (parsed(folder / name) for name in RAGATOUILLE)
    metadata = parsed(folder / "docid_metadata_map.json") if (folder / "docid_metadata_map.json").is_file() else None
    if not isinstance(texts, list) or not isinstance(ids, dict) or not isinstance(metadata or {}, dict):
        raise IndexCorruptedError(f"{folder}: {RAGATOUILLE[0]} is a list of texts and {RAGATOUILLE[1]} maps numbers to ids")
    numbered = {_number(pid, folder / RAGATOUILLE[1]): str(document) for pid, document in ids.items()}
    if len(texts) != len(live) or sorted(numbered) != list(live):
        raise IndexCorruptedError(
            f"{folder} has {len(live)} passages, {len(texts)} texts and {len(numbered)} identifiers, which do not belong "
            "together: RAGatouille loses track when documents are deleted and then added. Index the texts anew"
        )
    documents = [numbered[pid] for pid in live]
    parts: dict[str, list[Passage]] = {}
    for document, text in zip(documents, texts, strict=True):
        parts.setdefault(document, []).append(Passage(str(text), None, None))
    try:
        named = collection_of(
            parts.items(), {name: dict(given or {}) for name, given in (metadata or {}).items()}, name=folder.name
        )
    except (TypeError, ValueError) as error:
        raise IndexCorruptedError(f"the documents in {folder} cannot be taken over: {error}") from error
    found, seen = {}, Counter[str]()
    place_of = {name: i for i, name in enumerate(named.document_ids)}
    for pid, document in zip(live, documents, strict=True):
        i = place_of[f"{document}{SEPARATOR}{seen[document]}"]
        seen[document] += 1
        found[pid] = (named.document_ids[i], named.texts[i], named.metadata[i])
    return found


def pylate(folder: Path) -> Passages:
    """The identifiers that PyLate pickles in a folder, without texts. Raises IndexCorruptedError for any other pickle."""
    file = folder / PYLATE
    try:
        with open(file, "rb") as handle:
            ids = _PlainUnpickler(handle).load()
    except Exception as error:  # a damaged pickle raises whatever its bytes say
        raise IndexCorruptedError(f"{file} is not read: {error}") from error
    if not isinstance(ids, dict) or not all(isinstance(pid, int) and isinstance(name, str | int) for pid, name in ids.items()):
        raise IndexCorruptedError(f"{file}: expected a dict of passage numbers and identifiers; given {ids!r:.60}")
    return {pid: (str(name), "", {}) for pid, name in sorted(ids.items())}


def fast_plaid(folder: Path, live: Iterable[int]) -> Passages:
    """Numbers as identifiers, and the metadata in the database that fast-plaid keeps, where there is one."""
    rows: dict[int, Mapping[str, Any]] = {}
    if (folder / FAST_PLAID).is_file():
        try:
            with sqlite3.connect(f"{(folder / FAST_PLAID).resolve().as_uri()}?mode=ro", uri=True) as database:
                database.row_factory = sqlite3.Row
                found = [dict(row) for row in database.execute('SELECT * FROM METADATA ORDER BY "_subset_"')]
            database.close()
            rows = {row.pop("_subset_"): {name: value for name, value in row.items() if value is not None} for row in found}
        except (sqlite3.Error, KeyError) as error:
            raise IndexCorruptedError(f"{folder / FAST_PLAID} is not fast-plaid's table of metadata: {error}") from error
    return {pid: (str(pid), "", rows.get(pid, {})) for pid in live}


def _number(text: str, file: Path) -> int:
    if not text.isdecimal():
        raise IndexCorruptedError(f"{file}: expected numbers of passages; given {text!r:.40}")
    return int(text)
