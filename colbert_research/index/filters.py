"""`Filter`: which documents a search may find, by their metadata and ids.

Logic has three values, as in SQL: a comparison with a value that a document lacks is neither true nor false, nor is its
negation, and a document is admitted where the whole filter is true. So neither `$not` nor `$ne` nor `$nin` admits a document
about which nothing is known; `{"$exists": false}` does, and says so.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from colbert_research.index.column import Rows
from colbert_research.index.columns import ID, Columns
from colbert_research.index.conditions import AllOf, ArrowExpression, Comparison, Condition, Exists, Not
from colbert_research.index.fields import FilterError
from colbert_research.settings import nearest

GREATEST_DEPTH = 64
LOGIC = ("$and", "$or", "$not")
COMPARISONS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$prefix", "$contains", "$exists")
EXAMPLE = '{"year": {"$gte": 1990}, "lang": "en"}'


@dataclass(frozen=True)
class Filter:
    """A condition on documents' ids and metadata; `Filter.of` makes one of a mapping or of an expression."""

    condition: Condition

    @classmethod
    def of(cls, given: "FilterLike") -> "Filter":
        """A filter from a mapping in the style of MongoDB and LangChain, from a pyarrow compute Expression, or from a filter.

        `{"year": {"$gte": 1990, "$lt": 2000}, "lang": "en"}` admits documents for which all that it says is true. Operators of
        a field: `$eq` (as a bare value), `$ne`, `$in`, `$nin`; of numbers and strings `$gt`, `$gte`, `$lt`, `$lte`; of strings
        `$prefix`; of lists of strings `$contains`; `$exists`; `$not` with operators. At the top, and nested: `$and` and `$or`
        with a list of filters, `$not` with one. `$id` is the document's id.
        Numbers and strings are compared exactly, strings by code points; null is as if the field were not there. An empty
        `$in` admits nothing. Raises FilterError for what is malformed, and for an empty filter: one that lost its conditions on
        the way would admit everything, and whoever wants everything leaves the filter out. Whether it fits the fields of an
        index is checked by `admits`.
        """
        return given if isinstance(given, Filter) else cls(_parsed(given, 0))

    @classmethod
    def from_json(cls, text: str) -> "Filter":
        """A filter that was written as a JSON object. Raises FilterError as `of` does, and for a key that stands twice."""
        try:
            return cls.of(json.loads(text, object_pairs_hook=_unique))
        except (json.JSONDecodeError, RecursionError) as error:
            raise FilterError(f"expected a filter as JSON, such as {EXAMPLE}; given {text!r:.60} ({error})") from error

    def admits(self, columns: Columns) -> Rows:
        """Which documents of an index are admitted.

        Raises FilterError for a field that no document has, or whose values have no one type, and for an operator or value that
        does not go with its type.
        """
        return self.condition.over(columns).true


FilterLike = Filter | Mapping[str, Any] | Any
"""A `Filter`, a mapping, or a `pyarrow.compute.Expression`."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of two entries with one key, the first would be dropped in silence."""
    names = [name for name, _ in pairs]
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise FilterError(f'{twice!r} stands twice in one object; put both into one, or into {{"$and": […]}}')
    return dict(pairs)


def _parsed(given: Any, depth: int) -> Condition:
    if depth > GREATEST_DEPTH:
        raise FilterError(f"a filter is nested at most {GREATEST_DEPTH} deep; write it with fewer levels")
    if isinstance(given, Filter):
        return given.condition
    if not isinstance(given, Mapping):
        if _is_expression(given):
            return ArrowExpression(given)
        raise FilterError(f"a filter is a mapping such as {EXAMPLE}, or a pyarrow.compute.Expression; given {given!r:.60}")
    if not given:
        raise FilterError("an empty filter would admit every document; leave the filter out if that is meant")
    conditions = [_entry(name, value, depth + 1) for name, value in given.items()]
    return conditions[0] if len(conditions) == 1 else AllOf(tuple(conditions))


def _entry(name: Any, value: Any, depth: int) -> Condition:
    """The condition of one entry of a filter."""
    if not isinstance(name, str):
        raise FilterError(f"the names in a filter are strings, of fields or operators; given {name!r:.60}")
    if name == "$not":
        return Not(_parsed(value, depth))
    if name in ("$and", "$or"):
        if not isinstance(value, list | tuple) or not value:
            raise FilterError(f"{name} takes a list of at least one filter; given {value!r:.60}")
        conditions = tuple(_parsed(each, depth) for each in value)
        return AllOf(conditions) if name == "$and" else Not(AllOf(tuple(map(Not, conditions))))
    if name in COMPARISONS:
        raise FilterError(f'{name} stands inside a field, as {{"year": {{"{name}": …}}}}; given {name} by itself')
    if name.startswith("$") and name != ID:
        raise FilterError(f"no operator {name!r}; {nearest(name, (*LOGIC, ID))}")
    if isinstance(value, Mapping):
        return _operators(name, value, depth)
    return _comparison(name, "$eq", value)


def _operators(field: str, given: Mapping[Any, Any], depth: int) -> Condition:
    """The condition of a field's operators, all of which are to be true."""
    if depth > GREATEST_DEPTH:
        raise FilterError(f"a filter is nested at most {GREATEST_DEPTH} deep; write it with fewer levels")
    if not given:
        raise FilterError(f"the field {field!r} has no operators and would admit every document; leave it out if that is meant")
    conditions: list[Condition] = []
    for operator, value in given.items():
        if operator == "$not":
            if not isinstance(value, Mapping):
                raise FilterError(f'$not of the field {field!r} takes operators, as {{"$gt": 3}}; given {value!r:.60}')
            conditions.append(Not(_operators(field, value, depth + 1)))
        elif operator in COMPARISONS:
            conditions.append(_comparison(field, operator, value))
        else:
            nested = "" if str(operator).startswith("$") else ". Values inside of values cannot be filtered by"
            hint = nearest(str(operator), (*COMPARISONS, "$not"))
            raise FilterError(f"the field {field!r} is given {operator!r:.60}, which is no operator{nested}; {hint}")
    return conditions[0] if len(conditions) == 1 else AllOf(tuple(conditions))


def _comparison(field: str, operator: str, value: Any) -> Condition:
    where = f"{operator} of the field {field!r}"
    if operator == "$exists":
        if not isinstance(value, bool):
            raise FilterError(f"{where} takes true or false; given {value!r:.60}")
        return Exists(field) if value else Not(Exists(field))
    if operator in ("$in", "$nin"):
        if not isinstance(value, list | tuple | set | frozenset):
            raise FilterError(f"{where} takes a list of values; given {value!r:.60}")
        operands = tuple(_operand(each, where) for each in value)
    else:
        operands = (_operand(value, where),)
    if operator == "$prefix" and operands == ("",):
        raise FilterError(f'{where}: every string starts with ""; say {{"$exists": true}} if that is meant')
    negated = operator in ("$ne", "$nin")
    compared = Comparison(field, "$in" if operator in ("$eq", "$ne", "$in", "$nin") else operator, operands, operator)
    return Not(compared) if negated else compared


def _operand(value: Any, where: str) -> Any:
    """A boolean, a number or a string to compare with; NumPy's become Python's."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None:
        raise FilterError(f'{where} is given null, which no value equals; say {{"$exists": false}} for documents without it')
    if isinstance(value, float) and not math.isfinite(value):
        raise FilterError(f"{where} takes finite numbers; given {value!r}")
    if isinstance(value, list | tuple | set | frozenset):
        raise FilterError(f"{where} takes one value, and $in takes several; given {value!r:.60}")
    if not isinstance(value, bool | int | float | str):
        hint = "; dates in metadata are strings, such as value.isoformat() gives" if hasattr(value, "isoformat") else ""
        raise FilterError(f"{where} takes a boolean, a number or a string; given {value!r:.60} ({type(value).__name__}){hint}")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise FilterError(f"{where}: {value!r:.60} holds half a character (a lone surrogate)") from None
    return value


def _is_expression(given: Any) -> bool:
    import pyarrow.compute as pc

    return isinstance(given, pc.Expression)
