"""`Columns`: the metadata of all documents of an index, a typed column for each field, read when it is asked for."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from colbert_research.index.column import COLUMNS, Column, Strings
from colbert_research.index.column_files import FILE, StoredColumns, arrow_types
from colbert_research.index.fields import GREATEST_FIELDS, Fields, FieldType, FilterError, why_not
from colbert_research.index.manifest import File, check_sums
from colbert_research.index.segment import Segment
from colbert_research.settings import nearest

ID = "$id"
"""The name of documents' ids among the fields; metadata of that name are not looked at."""
SHOWN = 20


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of an index's `segments`, in the order of positions, those of deleted documents among them."""

    segments: tuple[Segment, ...]
    _read: dict[str, Column] = field(default_factory=dict)

    @classmethod
    def open(cls, segments: Iterable[Segment], files: Iterable[File]) -> "Columns":
        """Those of some segments. `files`: all that the manifest names; of columns among them, the checksums are compared.

        Raises IndexCorruptedError.
        """
        check_sums(file for file in files if file[0].name == FILE)
        return cls(tuple(segments))

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    @cached_property
    def parts(self) -> tuple[StoredColumns, ...]:
        """Those of each segment."""
        return tuple(segment.columns for segment in self.segments)

    @cached_property
    def types(self) -> dict[str, FieldType]:
        """The fields that documents can be filtered by, in the order of their names, and the type of each."""
        return {name: type_ for name, type_ in self._fields.types().items() if not self._beyond(name) and name != ID}

    def column(self, name: str) -> Column:
        """The values of a field. Raises FilterError for a field that no document has, and for one without a type."""
        if name not in self._read:
            self._read[name] = self._ids() if name == ID else self._column(name)
        return self._read[name]

    def table(self) -> Any:
        """A pyarrow Table of the documents' ids and of all fields with a type, for expressions."""
        import pyarrow as pa

        return pa.table({name: self.column(name).array for name in (ID, *self.types)})

    def refusal(self, name: str) -> str:
        """Why documents cannot be filtered by a field that is not among `types`, and what to do."""
        if self._beyond(name):
            return (
                f"the field {name!r} cannot be filtered by: a segment has more than {GREATEST_FIELDS} fields, and it is not "
                "among the first of them, which alone are columns; keep what is to be filtered by in few fields"
            )
        if name in self._fields.seen:
            return why_not(name, self._fields.seen[name])
        if not self.types:
            return f"no document has a field {name!r}: no metadata of this index have a type; only {ID} can be filtered by"
        if len(self.types) <= SHOWN:
            return f"no document has a field {name!r}; {nearest(name, (*self.types, ID))}"
        return f"no document has a field {name!r}; {nearest(name, self.types)[:500]}"

    @cached_property
    def _fields(self) -> Fields:
        """Those of all segments."""
        merged = Fields(more=any(part.fields.more for part in self.parts))
        for part in self.parts:
            for name, kinds in part.fields.seen.items():
                known = merged.seen.setdefault(name, {})
                known.update((kind, document) for kind, document in kinds.items() if kind not in known)
        return merged

    def _beyond(self, name: str) -> bool:
        """Whether a segment may have a field that is not among its columns, because there were too many."""
        return self._fields.more and any(part.fields.more and name not in part.fields.seen for part in self.parts)

    def _column(self, name: str) -> Column:
        import pyarrow as pa

        if name not in self.types:
            raise FilterError(self.refusal(name))
        type_, chunks = self.types[name], []
        arrow = arrow_types()[type_]
        for part in self.parts:
            if name in part.fields.seen:
                chunks += part.read([name])[name].cast(arrow).chunks
            else:
                chunks.append(pa.nulls(part.n, arrow))
        return COLUMNS[type_](name, pa.chunked_array(chunks, arrow))

    def _ids(self) -> Column:
        import pyarrow as pa

        return Strings(ID, pa.chunked_array([pa.array(segment.documents.ids, pa.string()) for segment in self.segments]))
