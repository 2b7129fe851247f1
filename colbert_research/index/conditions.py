"""Conditions of a filter, and where they are true, false or unknown, as in SQL: a comparison with a value that a document
lacks is unknown, and so is its negation."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from colbert_research.index.column import Rows
from colbert_research.index.columns import Columns
from colbert_research.index.fields import FilterError


class Truth(NamedTuple):
    """Where a condition is true and where it is false, `(n_documents,)` bool each; where neither, it is unknown."""

    true: Rows
    false: Rows


class Condition(ABC):
    """A part of a filter."""

    @abstractmethod
    def over(self, columns: Columns) -> Truth:
        """Its truth for each document. Raises FilterError where it does not fit the columns."""


@dataclass(frozen=True)
class Comparison(Condition):
    """A field's value compared with `operands`; `given` is the operator as the filter has it."""

    field: str
    operator: str
    operands: tuple[Any, ...]
    given: str

    def over(self, columns: Columns) -> Truth:
        column = columns.column(self.field)
        found = column.matches(self.operator, self.operands, self.given)
        return Truth(column.known & found, column.known & ~found)


@dataclass(frozen=True)
class Exists(Condition):
    """Whether a document has a field; never unknown."""

    field: str

    def over(self, columns: Columns) -> Truth:
        known = columns.column(self.field).known
        return Truth(known, ~known)


@dataclass(frozen=True)
class Not(Condition):
    """True where a condition is false."""

    condition: Condition

    def over(self, columns: Columns) -> Truth:
        true, false = self.condition.over(columns)
        return Truth(false, true)


@dataclass(frozen=True)
class AllOf(Condition):
    """True where all conditions are, false where any is false."""

    conditions: tuple[Condition, ...]

    def over(self, columns: Columns) -> Truth:
        true, false = np.ones(len(columns), np.bool_), np.zeros(len(columns), np.bool_)
        for condition in self.conditions:
            each = condition.over(columns)
            true, false = true & each.true, false | each.false
        return Truth(true, false)


@dataclass(frozen=True, eq=False)
class ArrowExpression(Condition):
    """A `pyarrow.compute.Expression` over the columns and `$id`, with Arrow's own meaning of comparisons and of null."""

    expression: Any

    def over(self, columns: Columns) -> Truth:
        import pyarrow as pa
        from pyarrow import acero

        table = acero.Declaration("table_source", acero.TableSourceNodeOptions(columns.table()))
        project = acero.Declaration("project", acero.ProjectNodeOptions([self.expression], ["truth"]), [table])
        try:
            truth = project.to_table(use_threads=False)["truth"]
        except pa.ArrowException as error:
            raise FilterError(_explained(self.expression, error, columns)) from error
        if truth.type != pa.bool_():
            raise FilterError(f"expected an expression that is true or false; {self.expression!s:.60} is {truth.type}")
        true, known = np.asarray(truth.fill_null(False)), np.asarray(truth.is_valid())
        return Truth(true, known & ~true)


def _explained(expression: Any, error: Exception, columns: Columns) -> str:
    """What is wrong with an expression; a field that cannot be filtered by is told as in a mapping."""
    said = str(error).partition("\n")[0]
    missing = said.removeprefix("No match for FieldRef.Name(").partition(") in ")[0]
    if missing != said and missing not in columns.types:
        return columns.refusal(missing)
    types = ", ".join(f"{name} ({type_})" for name, type_ in columns.types.items())
    return f"the expression {expression!s:.60} does not fit the metadata: {said}. Fields: {types:.500}"
