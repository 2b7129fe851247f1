"""The columns of a segment's metadata on disk: one Arrow file, written in batches, of which single columns are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colbert_research.index.damage import REMEDY, IndexCorruptedError, check_descriptors
from colbert_research.index.documents import DocumentStore, open_documents
from colbert_research.index.fields import Fields, FieldType

FILE = "metadata.arrow"
VERSION = 1
BATCH = 1024
"""Documents whose metadata are held in memory at once."""


@dataclass(frozen=True, eq=False)
class StoredColumns:
    """The metadata of a segment's `n` documents as columns: what their fields are, and where those with a type lie.

    `stored`: a file that `write_columns` wrote, or, for segments of earlier versions, a table that was made of the documents.
    """

    n: int
    fields: Fields
    stored: Any

    def read(self, names: Sequence[str]) -> Any:
        """A pyarrow Table with some of the columns in `fields.types()`. Raises IndexCorruptedError."""
        if not isinstance(self.stored, Path):
            return self.stored.select(names)
        import pyarrow as pa

        try:
            with pa.OSFile(str(self.stored)) as file:
                schema = pa.ipc.open_file(file).schema
                options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in names])
                table = pa.ipc.open_file(file, options=options).read_all()
            table.validate(full=True)
        except (OSError, pa.ArrowException) as error:
            check_descriptors(error, self.stored)
            raise IndexCorruptedError(f"{self.stored} cannot be read: {error}; {REMEDY}") from error
        if table.num_rows != self.n:
            raise IndexCorruptedError(f"{self.stored} holds {table.num_rows} documents, not {self.n}; {REMEDY}")
        return table.select(names)


def write_columns(folder: Path, fields: Fields, n: int) -> None:
    """Write the columns of the `n` documents that lie in a segment's folder; `fields` is what was seen of them.

    The documents are read once more, unless no field has a type. Memory: a batch of 1024 documents.
    """
    import pyarrow as pa

    about = {"version": str(VERSION), "documents": str(n), "fields": fields.to_json()}
    schema = _schema(fields).with_metadata(about)
    with (
        open(folder / FILE, "wb") as file,
        pa.ipc.new_file(file, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer,
    ):
        for batch in _batches(open_documents(folder, n), n, schema):
            writer.write_batch(batch)


def open_columns(folder: Path, n: int) -> StoredColumns:
    """The columns that `write_columns` wrote for `n` documents; the file is checked against its checksum by who opens it.

    Raises IndexCorruptedError for another file.
    """
    import pyarrow as pa

    file = folder / FILE
    try:
        with pa.OSFile(str(file)) as source:
            about = {key.decode(): value.decode() for key, value in (pa.ipc.open_file(source).schema.metadata or {}).items()}
        version, documents, fields = int(about["version"]), int(about["documents"]), Fields.from_json(about["fields"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        check_descriptors(error, file)
        raise IndexCorruptedError(f"{file} does not hold the columns of a segment: {error}; {REMEDY}") from error
    if version > VERSION or documents != n:
        given = f"has version {version} and {documents} documents"
        raise IndexCorruptedError(f"{file} {given}, expected up to {VERSION} and {n}; update colbert_research, or {REMEDY}")
    return StoredColumns(n, fields, file)


def derive_columns(store: DocumentStore, n: int) -> StoredColumns:
    """The columns of a segment that was written before there were such files, in memory; all documents are read, twice."""
    import pyarrow as pa

    fields = Fields()
    for start in range(0, n, BATCH):
        for _ in fields.watched(store.read(range(start, min(start + BATCH, n)))):
            pass
    schema = _schema(fields)
    return StoredColumns(n, fields, pa.Table.from_batches(_batches(store, n, schema), schema))


def arrow_types() -> dict[FieldType, Any]:
    """What a column of each type is in Arrow."""
    import pyarrow as pa

    return {
        "boolean": pa.bool_(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "string": pa.string(),
        "list of strings": pa.list_(pa.string()),
    }


def _schema(fields: Fields) -> Any:
    """The columns of a segment, in the order of their names."""
    import pyarrow as pa

    types = arrow_types()
    return pa.schema([(name, types[type_]) for name, type_ in fields.types().items()])


def _batches(store: DocumentStore, n: int, schema: Any) -> Iterator[Any]:
    """Record batches of the documents' metadata; none where there are no columns."""
    import pyarrow as pa

    for start in range(0, n if len(schema) else 0, BATCH):
        documents = store.read(range(start, min(start + BATCH, n)))
        columns = [pa.array([d.metadata.get(column.name) for d in documents], column.type) for column in schema]
        yield pa.record_batch(columns, schema=schema)
