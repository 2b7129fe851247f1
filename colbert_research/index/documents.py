"""The document store of a segment: identifiers, titles, texts and metadata in one Parquet file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

FILE = "documents.parquet"


@dataclass(frozen=True)
class Document:
    """One document as it was given."""

    id: str
    title: str
    text: str
    metadata: Mapping[str, Any]


def write_documents(folder: Path, documents: Iterator[Document], *, rows_a_group: int = 4096) -> None:
    """Write documents, in order, in row groups, so that memory does not grow with their number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in ("id", "title", "text", "metadata")])
    with pq.ParquetWriter(folder / FILE, schema, compression="zstd") as writer:
        rows: list[dict[str, str]] = []
        for d in documents:
            metadata = json.dumps(dict(d.metadata), sort_keys=True, ensure_ascii=False)
            rows.append({"id": d.id, "title": d.title, "text": d.text, "metadata": metadata})
            if len(rows) == rows_a_group:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema))


@dataclass(frozen=True)
class DocumentStore:
    """Reads a segment's documents by position; only the row groups that are asked for."""

    path: Path

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The identifiers of all documents of the segment, in order."""
        import pyarrow.parquet as pq

        return tuple(pq.read_table(self.path, columns=["id"])["id"].to_pylist())

    def read(self, positions: Sequence[int]) -> list[Document]:
        """The documents at `positions` within the segment."""
        import pyarrow.parquet as pq

        file = pq.ParquetFile(self.path)
        starts, found = [0], dict[int, dict[str, str]]()
        for group in range(file.num_row_groups):
            starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
        for group in range(file.num_row_groups):
            wanted = [p for p in positions if starts[group] <= p < starts[group + 1]]
            if wanted:
                table = file.read_row_group(group)
                rows = table.take([p - starts[group] for p in wanted]).to_pylist()
                found.update(zip(wanted, rows, strict=True))
        return [
            Document(row["id"], row["title"], row["text"], json.loads(row["metadata"])) for row in (found[p] for p in positions)
        ]
