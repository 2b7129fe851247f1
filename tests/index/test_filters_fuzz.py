"""Random filters over random metadata, against plain Python: the same documents, and an error exactly where one is due."""

import os
import random
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colbert_research.index import Filter, FilterError
from colbert_research.index.columns import Columns
from colbert_research.index.documents import Document
from tests.index.filter_oracle import InvalidError, admitted, columns_of, documents_of

TRIALS = 100_000 if os.environ.get("ALL_TRIALS") else 500

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


NUMBERS, TEXTS = st.sampled_from([*WHOLE, *FLOATS]), st.sampled_from(STRINGS)
SCALARS = NUMBERS | TEXTS | st.booleans()
ASKED = {
    **dict.fromkeys(("year", "big", "score", "", "wide"), NUMBERS),
    **dict.fromkeys(("lang", "tags", "a.b", "$id", "deep", "mixed"), TEXTS),
    "flag": st.booleans(),
}
STRANGE = st.sampled_from(
    [None, float("nan"), float("inf"), [], ["e"], {}, {"a": 1}, {"$what": 1}, {"$gt": {"$gt": 1}}, "x", 1]
)
OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$prefix")


@st.composite
def operators(draw, name: str, depth: int = 2):
    """Operators of a field that mostly go with what it holds."""
    values = ASKED[name] if draw(st.integers(0, 60)) else SCALARS
    several = st.lists(values, max_size=4) | st.sets(values, max_size=3)
    if name == "tags" and draw(st.integers(0, 60)):
        choices = [st.tuples(st.just("$contains"), values), st.tuples(st.just("$exists"), st.booleans())]
    else:
        usual = ("$eq", "$ne") if name == "flag" else OPERATORS if name in ("lang", "a.b", "$id") else OPERATORS[:-1]
        choices = [
            st.tuples(st.sampled_from(usual), values),
            st.tuples(st.sampled_from(("$in", "$nin")), several),
            st.tuples(st.just("$exists"), st.booleans()),
        ]
    if depth:
        choices.append(st.tuples(st.just("$not"), operators(name, depth - 1)))
    return dict(draw(st.lists(st.one_of(choices), min_size=1, max_size=2)))


@st.composite
def conditions(draw, depth: int = 3):
    """A filter; one in some is malformed, or names what is not there."""
    kind = draw(st.integers(0, 9 if depth else 5))
    if kind == 6:
        return {"$not": draw(conditions(depth - 1))}
    if kind > 6:
        name = draw(st.sampled_from(["$and", "$or"]))
        return {name: draw(st.lists(conditions(depth - 1), min_size=1, max_size=3))}
    name = draw(st.sampled_from([*HELD, *TYPED * 5]))
    if draw(st.integers(0, 80)) == 0:
        return draw(st.sampled_from([{}, {"$or": []}, {"nowhere": 1}, {"$gt": 1}, {"$and": {}}, {"$not": []}, 3, {name: {}}]))
    if draw(st.integers(0, 80)) == 0:
        return {name: draw(STRANGE)}
    if draw(st.integers(0, 5)) == 0:
        return {name: draw(ASKED[name])} if name != "tags" else {name: {"$contains": draw(TEXTS)}}
    other = draw(conditions(0)) if kind == 5 and depth else {}
    return {name: draw(operators(name))} | other if isinstance(other, dict) else other


def test_a_filter_admits_what_plain_python_admits():
    counts = {"valid": 0, "invalid": 0, "some": 0}

    @settings(max_examples=TRIALS, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 999 if TRIALS > 500 else 19), conditions())
    def trial(seed, asked):
        documents, columns = drawn(seed)
        try:
            expected = admitted(asked, documents)
        except InvalidError:
            counts["invalid"] += 1
            with pytest.raises(FilterError):
                Filter.of(asked).admits(columns)
            return
        counts["valid"] += 1
        counts["some"] += 0 < len(expected) < len(documents)
        assert np.flatnonzero(Filter.of(asked).admits(columns)).tolist() == expected

    trial()
    assert counts["valid"] + counts["invalid"] >= TRIALS
    assert counts["some"] > TRIALS / 10, counts
    assert counts["invalid"] > TRIALS / 50, counts
