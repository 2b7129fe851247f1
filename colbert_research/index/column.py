"""A column of metadata in memory, and its comparisons, which are exact: what they say is what Python says of the values."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from colbert_research.index.fields import FieldType, FilterError

Rows = NDArray[np.bool_]
"""`(n_documents,)` bool."""

ORDER = ("$gt", "$gte", "$lt", "$lte")


@dataclass(frozen=True, eq=False)
class Column(ABC):
    """The values that the documents have in a field; `array` is a pyarrow ChunkedArray `(n_documents,)`, null where missing."""

    field: str
    array: Any
    type: ClassVar[FieldType]
    plural: ClassVar[str]
    takes: ClassVar[str]
    operators: ClassVar[tuple[str, ...]]

    @cached_property
    def known(self) -> Rows:
        """Which documents have the field."""
        return np.asarray(self.array.is_valid())

    def matches(self, operator: str, operands: Sequence[Any], given: str) -> Rows:
        """Which documents' values compare so; whatever where there is none.

        `$in` takes any number of operands, all others one. `given`: the operator as the filter has it. Raises FilterError for
        an operator that the type lacks, and for an operand of another type.
        """
        if operator not in self.operators:
            takes = ", ".join(_written(self.operators))
            raise FilterError(
                f"the field {self.field!r} holds {self.plural}, which {given} does not compare; they take {takes}"
            )
        for each in operands:
            if not self.comparable(each):
                raise FilterError(
                    f"the field {self.field!r} holds {self.plural}, and {given} compares it with {each!r:.60}, "
                    f"{_name_of(each)}; give {self.takes}"
                )
        return self._matches(operator, operands)

    @abstractmethod
    def comparable(self, value: Any) -> bool:
        """Whether a value can be compared with those of the column."""

    @abstractmethod
    def _matches(self, operator: str, operands: Sequence[Any]) -> Rows:
        """`matches` after the checks."""


class Booleans(Column):
    """See `Column`."""

    type, plural, takes, operators = "boolean", "booleans", "true or false", ("$in",)

    def comparable(self, value: Any) -> bool:
        return isinstance(value, bool)

    def _matches(self, operator: str, operands: Sequence[Any]) -> Rows:
        values = np.asarray(self.array.fill_null(False))
        return (values & (True in operands)) | (~values & (False in operands))


class Numbers(Column):
    """See `Column`. A number that the column's dtype lacks is compared by way of its neighbours there, and not rounded."""

    takes, operators = "a number", ("$in", *ORDER)

    @cached_property
    def values(self) -> NDArray[Any]:
        """`(n_documents,)` int64 or float64."""
        return np.asarray(self.array.fill_null(0))

    def comparable(self, value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    def _matches(self, operator: str, operands: Sequence[Any]) -> Rows:
        around = [self.around(value) for value in operands]
        if operator == "$in":
            equal = [below for below, above in around if below == above]
            return np.isin(self.values, np.array(equal, self.values.dtype))
        ((below, above),) = around
        if operator in ("$gt", "$lte"):
            greater = self.values > below
            return greater if operator == "$gt" else ~greater
        less = self.values < above
        return less if operator == "$lt" else ~less

    @abstractmethod
    def around(self, value: float) -> tuple[float, float]:
        """The greatest number of the dtype that is at most a value, and the least that is at least it; infinity for none."""


class Integers(Numbers):
    """See `Numbers`; int64."""

    type, plural = "integer", "integers"

    def around(self, value: float) -> tuple[float, float]:
        least, greatest = -(2**63), 2**63 - 1
        below, above = math.floor(value), math.ceil(value)
        return (-math.inf if below < least else min(below, greatest), math.inf if above > greatest else max(above, least))


class Floats(Numbers):
    """See `Numbers`; float64, which hold the integers of such a column exactly."""

    type, plural = "number", "numbers"

    def around(self, value: float) -> tuple[float, float]:
        try:
            near = float(value)
        except OverflowError:
            near = math.inf if value > 0 else -math.inf
        return (
            near if near <= value else math.nextafter(near, -math.inf),
            near if near >= value else math.nextafter(near, math.inf),
        )


class Strings(Column):
    """See `Column`. Compared by code points, each distinct string once."""

    type, plural, takes, operators = "string", "strings", "a string", ("$in", *ORDER, "$prefix")

    @cached_property
    def coded(self) -> tuple[NDArray[np.int32], Any]:
        """`(n_documents,)` int32, and the distinct strings that these numbers stand for, a pyarrow array."""
        return _coded(self.array)

    def comparable(self, value: Any) -> bool:
        return isinstance(value, str)

    def _matches(self, operator: str, operands: Sequence[Any]) -> Rows:
        import pyarrow as pa
        import pyarrow.compute as pc

        codes, distinct = self.coded
        if operator == "$in":
            found = pc.is_in(distinct, value_set=pa.array(operands, pa.string()))
        elif operator == "$prefix":
            found = pc.starts_with(distinct, pattern=operands[0])
        else:
            compare = {"$gt": pc.greater, "$gte": pc.greater_equal, "$lt": pc.less, "$lte": pc.less_equal}[operator]
            found = compare(distinct, operands[0])
        return np.asarray(found)[codes] if len(distinct) else np.zeros(len(codes), np.bool_)


class StringLists(Column):
    """See `Column`. `$contains` asks for one of the strings."""

    type, plural, takes, operators = "list of strings", "lists of strings", "a string", ("$contains",)

    @cached_property
    def coded(self) -> tuple[NDArray[np.int64], NDArray[np.int32], Any]:
        """Of all strings of all lists, the document and a number each, and the distinct strings that these stand for."""
        import pyarrow as pa

        lists = self.array.combine_chunks()
        lists = lists if isinstance(lists, pa.Array) else lists.chunk(0)
        return (np.asarray(lists.value_parent_indices()), *_coded(pa.chunked_array([lists.flatten()], pa.string())))

    def comparable(self, value: Any) -> bool:
        return isinstance(value, str)

    def _matches(self, operator: str, operands: Sequence[Any]) -> Rows:
        import pyarrow.compute as pc

        documents, codes, distinct = self.coded
        found = np.zeros(len(self.array), np.bool_)
        place = pc.index(distinct, operands[0]).as_py()
        if place >= 0:
            found[documents[codes == place]] = True
        return found


COLUMNS: dict[FieldType, type[Column]] = {cls.type: cls for cls in (Booleans, Integers, Floats, Strings, StringLists)}


def _coded(strings: Any) -> tuple[NDArray[np.int32], Any]:
    """Numbers of strings, 0 where there is none, and the distinct strings in the order of these numbers."""
    import pyarrow as pa

    chunks = strings.dictionary_encode().unify_dictionaries().chunks
    if not chunks:
        return np.empty(0, np.int32), pa.array([], pa.string())
    return np.concatenate([np.asarray(chunk.indices.fill_null(0)) for chunk in chunks]), chunks[0].dictionary


def _written(operators: Sequence[str]) -> list[str]:
    """Operators as a filter may have them."""
    equality = ["$eq", "$ne", "$in", "$nin"] if "$in" in operators else []
    return [*equality, *(each for each in operators if each != "$in"), "$exists"]


def _name_of(value: Any) -> str:
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
    return next((name for cls, name in names.items() if isinstance(value, cls)), f"a {type(value).__name__}")
