"""Collections on the Hugging Face Hub in the schema of BeIR's, or in a local folder of parquet files of that schema."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from colbert_research.data.collection import Collection
from colbert_research.data.records import DataError, DatasetConfig, Records, assemble

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
IDS = ("_id", "query-id", "corpus-id")


class HubConfig(DatasetConfig):
    """A dataset by its name on the Hub, with its judgements in the dataset `<name>-qrels`.

    Read are the configurations `corpus` (columns _id, title, text) and `queries` (_id, text) and the qrels' `split` (query-id,
    corpus-id, score); what BEIR calls the split dev is called validation there. `revision` and `qrels_revision` pin the commits
    of the two datasets, which have separate histories. A `name` that starts with `/`, `./`, `../` or `~` is a folder: its files
    `corpus/*.parquet` and `queries/*.parquet` are read, and beside it `<name>-qrels/<split>.parquet` or `<split>-*.parquet`.
    """

    kind: Literal["hub"] = "hub"
    name: str = "BeIR/nfcorpus"
    revision: str | None = None
    qrels_revision: str | None = None
    split: str = "test"

    @model_validator(mode="after")
    def _hub_or_folder(self) -> Self:
        if self._folder() is None and not HUB_NAME.fullmatch(self.name):
            expected = "a name on the Hub (owner/name) or a folder that starts with /, ./, ../ or ~"
            raise ValueError(f"{self.name!r} is not {expected}")
        if self._folder() is not None and (self.revision or self.qrels_revision):
            raise ValueError(f"a folder has no revisions; leave revision and qrels_revision out for {self.name!r}")
        return self

    def files(self) -> list[Path] | None:
        """The files that decide the collection, where it is a folder; None for a dataset on the Hub, which may move."""
        folder = self._folder()
        if folder is None:
            return None
        folders = (folder, folder.with_name(folder.name + "-qrels"))
        return [path for each in folders for path in sorted(each.rglob("*.parquet"))]

    def load(self) -> Collection:
        """Read the folder, or download on first use; raises `DataError` where that fails, naming the table and row of a bad
        record."""
        folder = self._folder()
        if folder is None and Path(self.name).exists():
            advice = f"write './{self.name}' to read the folder, or start elsewhere to read the Hub"
            raise DataError(f"{self.name!r} is a name on the Hub and also a folder here; {advice}")
        qrels_name = self.name.rstrip("/") + "-qrels"
        if folder is not None:
            corpus, queries = (self._parquet(folder, [f"{part}/*.parquet"]) for part in ("corpus", "queries"))
            patterns = [f"{self.split}.parquet", f"{self.split}-*.parquet"]
            qrels = self._parquet(folder.with_name(folder.name + "-qrels"), patterns)
        else:
            corpus, queries = (self._table(self.name, part, self.revision) for part in ("corpus", "queries"))
            qrels = self._table(qrels_name, None, self.qrels_revision)
        return assemble(
            self.name if folder is None else folder.name,
            Records(f"{self.name} corpus", "row", _rows(corpus)),
            Records(f"{self.name} queries", "row", _rows(queries)),
            Records(f"{qrels_name} {self.split}", "row", _rows(qrels)),
            settings=self,
        )

    def _folder(self) -> Path | None:
        is_folder = self.name in (".", "..") or self.name.startswith(("./", "../", "~")) or Path(self.name).is_absolute()
        return Path(os.path.abspath(os.path.expanduser(self.name))) if is_folder else None

    def _table(self, name: str, part: str | None, revision: str | None) -> Any:
        """The one table of a configuration on the Hub, or of the qrels' split when `part` is None."""
        tables = _load_dataset(name, part, revision=revision)
        wanted = part or self.split
        if wanted in tables:
            return tables[wanted]
        if part is not None and len(tables) == 1:
            return next(iter(tables.values()))
        raise DataError(f"{name!r} has no split {wanted!r}; splits that exist: {', '.join(sorted(map(str, tables)))}")

    def _parquet(self, folder: Path, patterns: list[str]) -> Any:
        files = sorted(str(path) for pattern in patterns for path in folder.glob(pattern))
        if not files:
            there = ", ".join(sorted(str(path.relative_to(folder)) for path in folder.rglob("*.parquet"))) or "nothing"
            raise DataError(f"no parquet files {' or '.join(patterns)} in {str(folder)!r}; parquet files there: {there}")
        return _load_dataset("parquet", None, data_files={"train": files})["train"]


def _load_dataset(name: str, part: str | None, *, revision: str | None = None, data_files: Any = None) -> Any:
    """All splits of a configuration (None: the default one), as a mapping of name -> table."""
    import datasets

    try:
        return datasets.load_dataset(name, part, revision=revision, data_files=data_files)
    except ConnectionError as error:
        advice = "check the network, or use the kind beir with a folder that was downloaded elsewhere"
        raise DataError(f"{name!r} cannot be fetched from the Hub and is not in the cache: {error}; {advice}") from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        what = f"{name!r}, configuration {part or 'default'!r}" if data_files is None else ", ".join(data_files["train"])
        reason = f"{error} {error.__cause__ or ''}".strip()
        expected = "expected parquet tables without a loading script in the schema of BeIR's, with the qrels in <name>-qrels"
        raise DataError(f"{what} cannot be loaded: {reason}; {expected}") from error


def _rows(table: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows numbered from 0, as in `table[0]`. Some sets have integers as ids: those become text."""
    number = 0
    for batch in table.iter(batch_size=1000):
        for values in zip(*batch.values(), strict=True):
            fields = dict(zip(batch, values, strict=True))
            yield number, fields | {key: str(fields[key]) for key in IDS if type(fields.get(key)) is int}
            number += 1
