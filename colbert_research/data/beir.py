"""Collections in the BEIR layout: a folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv, plain or gzipped."""

import codecs
import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from colbert_research.data.collection import Collection
from colbert_research.data.records import DataError, DatasetConfig, Records, assemble

BUNDLED = Path(__file__).parent / "bundled"
COLUMNS = ("query-id", "corpus-id", "score")


class BeirConfig(DatasetConfig):
    """A folder in the BEIR layout; `path: bundled` is the collection that ships inside the package.

    Of the queries those with judgements in `split` are kept, in the order of queries.jsonl. `only_documents` is a text file of
    document ids, one per line (in the folder or at its own path), to which the corpus is restricted as by `Collection.subset`.
    """

    kind: Literal["beir"] = "beir"
    path: str = "bundled"
    split: str = "test"
    only_documents: str | None = None

    def files(self) -> list[Path]:
        """The files that decide the collection; raises `DataError` where one is missing."""
        folder = self._folder()
        listed = [] if self.only_documents is None else [_ids_file(folder, self.only_documents)]
        return [_existing(folder, "corpus.jsonl"), *self._asked(folder), *listed]

    def _asked(self, folder: Path) -> list[Path]:
        """The files of queries and judgements: both, or queries alone, or none."""
        queries, judged = _either(folder / "queries.jsonl"), (folder / "qrels").is_dir()
        if queries is None and not judged:
            return []
        found = _existing(folder, "queries.jsonl")
        return [found, _qrels_file(folder, self.split)] if judged else [found]

    def _folder(self) -> Path:
        folder = BUNDLED if self.path == "bundled" else Path(self.path).expanduser()
        if not folder.is_dir():
            raise DataError(f"no folder {str(folder)!r}; expected one with corpus.jsonl, queries.jsonl and qrels/<split>.tsv")
        return folder

    def load(self) -> Collection:
        """Read the folder; raises `DataError`, naming file and line, for whatever is missing or not in the layout."""
        folder = self._folder()
        documents, asked = _existing(folder, "corpus.jsonl"), self._asked(folder)
        queries = [Records(str(path), "line", _json_lines(path)) for path in asked[:1]]
        judgements = [Records(str(path), "line", _judgements(path)) for path in asked[1:]]
        collection = assemble(
            _last_name(self.path),
            Records(str(documents), "line", _json_lines(documents)),
            *(records[0] if records else None for records in (queries, judgements)),
            settings=self,
        )
        return collection if self.only_documents is None else _restrict(collection, folder, self.only_documents, self.split)


def _last_name(path: str) -> str:
    return os.path.basename(os.path.abspath(os.path.expanduser(path)))


def _either(path: Path) -> Path | None:
    """The file, or else its gzipped variant, or else nothing."""
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _existing(folder: Path, name: str) -> Path:
    found = _either(folder / name)
    if found is None:
        raise DataError(f"no file {name} or {name}.gz in {str(folder)!r}; a BEIR folder holds both documents and queries")
    return found


def _qrels_file(folder: Path, split: str) -> Path:
    found = _either(folder / "qrels" / f"{split}.tsv")
    if found is not None:
        return found
    splits = sorted({p.name.removesuffix(".gz").removesuffix(".tsv") for p in (folder / "qrels").glob("*.tsv*")})
    there = f"splits that exist: {', '.join(splits)}" if splits else "it has no qrels at all"
    raise DataError(f"no file qrels/{split}.tsv or qrels/{split}.tsv.gz in {str(folder)!r}; {there}")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not empty; only a line feed ends one (U+2028 is text), and a byte order mark is left out."""
    offset = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as handle:
            for number, line in enumerate(handle, start=1):
                offset += len(line)
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                try:
                    text = line.decode("utf-8").removesuffix("\n").removesuffix("\r")
                except UnicodeDecodeError as error:
                    byte = offset - len(line) + error.start
                    message = (
                        f"{path}, line {number}: not UTF-8 at byte {byte} of the file ({error.reason}); convert it to UTF-8"
                    )
                    raise DataError(message) from None
                if text:
                    yield number, text
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not valid JSON: {error}") from None
        if not isinstance(fields, dict):
            raise DataError(f"{path}, line {number}: expected a JSON object, {{…}}; given {line:.60}")
        yield number, fields


def _judgements(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in _lines(path):
        values = line.split("\t")
        if len(values) != len(COLUMNS):
            expected = f"{len(COLUMNS)} columns separated by tabs, {', '.join(COLUMNS)}"
            raise DataError(f"{path}, line {number}: expected {expected}; given {len(values)}: {line:.60}")
        if number > 1 or values[2].strip().lower() != "score":  # else a header line
            yield number, dict(zip(COLUMNS, values, strict=True))


def _ids_file(folder: Path, only_documents: str) -> Path:
    choices = [folder / only_documents, Path(only_documents).expanduser()]
    path = next((p for p in choices if p.is_file()), None)
    if path is None:
        raise DataError(f"no file of document ids {only_documents!r}; looked for {' and '.join(map(str, choices))}")
    return path


def _restrict(collection: Collection, folder: Path, only_documents: str, split: str) -> Collection:
    path = _ids_file(folder, only_documents)
    known = set(collection.document_ids)
    wanted = set()
    for number, document in _lines(path):
        if document not in known:
            raise DataError(f"{path}, line {number}: the document id {document!r} is not in the corpus of {str(folder)!r}")
        wanted.add(document)
    if not wanted:
        raise DataError(f"{path} holds no document ids; expected one per line")
    subset = collection.subset(wanted)
    if collection.query_ids and not subset.query_ids:
        raise DataError(f"no query of the split {split!r} has a relevant document among the {len(wanted)} of {path}")
    return subset
