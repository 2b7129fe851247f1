"""Random filters over random metadata, against plain Python: the same documents, and an error exactly where one is due."""

import os
import random
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colbert_research.index import Filter, FilterError
from colbert_research.index.columns import Columns
from colbert_research.index.documents import Document
from tests.index.filter_oracle import InvalidError, admitted, columns_of, documents_of

EDGES = [2**53, 2**63, 10**400]
WHOLE = [*range(-3, 4), *(sign * (edge + step) for edge in EDGES for sign in (1, -1) for step in (-1, 0, 1))]
FLOATS = [-0.0, 0.0, 0.5, 1.0, 2.5, -3.0, 0.1, 2.0**53, 2.0**63, -(2.0**63), 1e308, -1e308, 5e-324]
STRINGS = ["", "e", "en", "eN", "d0", "d1", "é", "e\u0301", "\uffff", "\U0001f600", "a\0b", "%", "e%"]
LISTS = [[], ["e"], ["en", "e"], ["e", "e"], ["é", "", "d0"]]
# what documents hold, at first in fields of one type
HELD = {
    "year": range(-3, 4),
    "big": [n for n in WHOLE if -(2**63) <= n < 2**63],
    "score": [*range(-3, 4), *FLOATS, 2**53, -(2**53)],
    "lang": STRINGS,
    "flag": [True, False],
    "tags": LISTS,
    "a.b": STRINGS,
    "": range(-3, 4),
    "$id": STRINGS,
    "mixed": [*STRINGS, 1, 2.5],
    "wide": [*WHOLE, 0.5],
    "deep": [*LISTS, [1], {"a": 1}],
}
TYPED = list(HELD)[:9]


@cache
def drawn(seed: int) -> tuple[list[Document], Columns]:
    """Documents with some of the fields, in two segments; now and then no document has one."""
    rng = random.Random(seed)
    names = [name for name in HELD if rng.random() < 0.95]
    metadata = [
        {name: rng.choice([None, *HELD[name]]) for name in names if rng.random() < 0.7} for _ in range(rng.randint(4, 9))
    ]
    documents, cut = documents_of(metadata), rng.randint(0, 4)
    return documents, columns_of(documents[:cut], documents[cut:])


NUMBERS = [*WHOLE, *FLOATS]
SCALARS = [*NUMBERS, *STRINGS, True, False]
ASKED = {
    **dict.fromkeys(("year", "big", "score", "", "wide"), NUMBERS),
    **dict.fromkeys(("lang", "tags", "a.b", "$id", "deep", "mixed"), STRINGS),
    "flag": [True, False],
}
STRANGE = [None, float("nan"), float("inf"), [], ["e"], {}, {"a": 1}, {"$what": 1}, {"$gt": {"$gt": 1}}, "x", 1]
MALFORMED = [{}, {"$or": []}, {"nowhere": 1}, {"$gt": 1}, {"$and": {}}, {"$not": []}, 3, {"year": {}}]
ORDER = ("$gt", "$gte", "$lt", "$lte")


def operators(rng: random.Random, name: str, depth: int = 2) -> dict[str, Any]:
    """Operators of a field that mostly go with what it holds."""
    values, found = ASKED[name] if rng.randrange(60) else SCALARS, {}
    usual = ("$contains",) if name == "tags" else ("$eq", "$ne", "$in", "$nin", *(ORDER if name != "flag" else ()))
    usual += ("$prefix",) if name in ("lang", "a.b", "$id") else ()
    usual = usual if rng.randrange(60) else ("$eq", "$in", "$contains", "$prefix", *ORDER)
    for _ in range(rng.choice([1, 1, 2])):
        operator = rng.choice([*usual, "$exists", *["$not"] * (depth > 0)])
        if operator == "$not":
            found[operator] = operators(rng, name, depth - 1)
        elif operator == "$exists":
            found[operator] = rng.choice([True, False])
        elif operator in ("$in", "$nin"):
            found[operator] = rng.choice([list, tuple, set])([rng.choice(values) for _ in range(rng.randrange(4))])
        else:
            found[operator] = rng.choice(values)
    return found


def condition(rng: random.Random, depth: int = 3) -> Any:
    """A filter; one in some is malformed, or names what is not there."""
    kind = rng.randrange(10 if depth else 5)
    if kind == 6:
        return {"$not": condition(rng, depth - 1)}
    if kind > 6:
        return {rng.choice(["$and", "$or"]): [condition(rng, depth - 1) for _ in range(rng.randint(1, 3))]}
    if rng.randrange(80) == 0:
        return rng.choice(MALFORMED)
    name = rng.choice([*HELD, *TYPED * 5])
    if rng.randrange(80) == 0:
        return {name: rng.choice(STRANGE)}
    found = {name: operators(rng, name) if rng.randrange(6) or name == "tags" else rng.choice(ASKED[name])}
    other = condition(rng, 0) if kind == 5 else {}
    return found | other if isinstance(other, dict) else other


class Counts(Counter[str]):
    """How many filters were valid, how many of these admitted some documents but not all, and how many were invalid."""

    def trial(self, rng: random.Random, seeds: int) -> None:
        documents, columns = drawn(rng.randrange(seeds))
        asked = condition(rng)
        try:
            expected = admitted(asked, documents)
        except InvalidError:
            self["invalid"] += 1
            with pytest.raises(FilterError):
                Filter.of(asked).admits(columns)
            return
        self["valid"] += 1
        self["some"] += 0 < len(expected) < len(documents)
        assert np.flatnonzero(Filter.of(asked).admits(columns)).tolist() == expected, asked

    def check(self) -> None:
        n = self["valid"] + self["invalid"]
        assert self["some"] > n / 10, self
        assert self["invalid"] > n / 50, self


@pytest.mark.slow
def test_a_filter_admits_what_plain_python_admits():
    counts = Counts()

    @settings(max_examples=500, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def trial(rng):
        counts.trial(rng, seeds=20)

    trial()
    assert counts["valid"] + counts["invalid"] >= 500
    counts.check()


@pytest.mark.skipif(not os.environ.get("ALL_TRIALS"), reason="many trials: ALL_TRIALS=1")
def test_a_hundred_thousand_filters():
    counts, rng = Counts(), random.Random(0)
    for _ in range(100_000):
        counts.trial(rng, seeds=2000)
    counts.check()
