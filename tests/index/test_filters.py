"""What a filter means, and what is said of one that cannot be used."""

import datetime
import math

import numpy as np
import pyarrow.compute as pc
import pytest

from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.index import Filter, FilterError, Index, build_index
from colbert_research.index.build import BuildConfig
from colbert_research.ragged import Ragged, offsets_of

METADATA = [
    {"year": 1990, "lang": "en", "tags": ["x", "y"], "draft": True, "page": {"from": 1}},
    {"year": 1991, "lang": "de", "tags": [], "score": 2, "code": "7"},
    {"lang": "en-GB", "draft": False, "score": 0.5, "code": 7},
    {"year": 2000, "lang": None, "tags": ["x"], "score": 3},
    {},
]
IDS = ["a", "b", "c", "d", "e"]


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    """Five documents in three segments."""
    values = np.eye(8, dtype=np.float32)[[0, 1, 2, 3, 4]]
    collection = Collection.from_texts([f"text {each}" for each in IDS], ids=IDS, metadata=METADATA)
    build = BuildConfig(segment_tokens=2)
    path = tmp_path_factory.mktemp("filters") / "index"
    index = build_index(path, collection, Ragged(values, offsets_of([1] * 5)), ExactConfig(), build=build)
    assert len(index.segments) == 3
    return index


def found(index: Index, given, ids=None) -> str:
    return "".join(IDS[position] for position in index.scope(ids, filter=given).positions)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"year": 1990}, "a"),
        ({"year": 1990.0}, "a"),
        ({"year": np.int64(1990)}, "a"),
        ({"year": {"$gte": 1991}}, "bd"),
        ({"year": {"$gt": 1990.5, "$lt": 2000}}, "b"),
        ({"year": {"$in": [1990, 2000, 3]}}, "ad"),
        ({"year": {"$in": (year for year in ())}}, None),
        ({"year": {"$in": {1990}}}, "a"),
        ({"year": {"$in": []}}, ""),
        ({"year": {"$lt": 10**400}}, "abd"),
        ({"score": {"$lte": 2}}, "bc"),
        ({"lang": {"$prefix": "en"}}, "ac"),
        ({"lang": {"$gte": "en"}}, "ac"),
        ({"draft": False}, "c"),
        ({"tags": {"$contains": "x"}}, "ad"),
        ({"tags": {"$contains": "nothing"}}, ""),
        ({"tags": {"$contains": ""}}, ""),
        # what is missing, or null, is neither equal nor different
        ({"lang": {"$ne": "en"}}, "bc"),
        ({"lang": {"$nin": ["en", "de"]}}, "c"),
        ({"lang": {"$nin": []}}, "abc"),
        ({"$not": {"lang": "en"}}, "bc"),
        ({"lang": {"$not": {"$prefix": "en"}}}, "b"),
        ({"tags": {"$not": {"$contains": "x"}}}, "b"),
        ({"$not": {"year": {"$in": []}}}, "abd"),
        ({"lang": {"$exists": False}}, "de"),
        ({"lang": {"$exists": True}}, "abc"),
        ({"$not": {"lang": {"$exists": True}}}, "de"),
        # logic
        ({"lang": "en", "year": {"$lt": 2000}}, "a"),
        ({"$or": [{"year": 2000}, {"lang": "de"}]}, "bd"),
        ({"$or": [{"year": {"$gt": 0}}, {"lang": "en-GB"}]}, "abcd"),
        ({"$and": [{"year": {"$gt": 0}}, {"draft": {"$exists": False}}]}, "bd"),
        ({"$not": {"$or": [{"year": 2000}, {"lang": "de"}]}}, "a"),
        ({"$not": {"$and": [{"year": {"$gt": 0}}, {"lang": "de"}]}}, "ac"),
        # ids
        ({"$id": "c"}, "c"),
        ({"$id": {"$in": ["c", "a", "nobody"]}}, "ac"),
        ({"$id": {"$gt": "b"}, "year": {"$exists": True}}, "d"),
        # expressions of Arrow, by themselves and inside
        (pc.field("year") >= 1991, "bd"),
        (~(pc.field("year") >= 1991), "a"),
        (pc.field("lang").is_null() & (pc.field("$id") != "e"), "d"),
        (pc.list_value_length(pc.field("tags")) == 2, "a"),
        ({"$not": pc.field("year") >= 1991}, "a"),
        ({"$or": [pc.field("score") * 2 == 1, {"year": 1990}]}, "ac"),
        (Filter.of({"$and": [Filter.of({"lang": "en"}), {"year": 1990}]}), "a"),
    ],
)
def test_it_admits(index, given, expected):
    if expected is None:
        with pytest.raises(FilterError, match=r"takes a list of values; given <generator"):
            Filter.of(given)
    else:
        assert found(index, given) == expected


def test_ids_and_a_filter_are_intersected(index):
    given = {"year": {"$exists": True}}
    assert found(index, given, ids=["d", "c", "a", "d"]) == "ad"
    assert found(index, given, ids=[]) == ""
    assert found(index, {"year": {"$in": []}}, ids=["a"]) == ""
    assert index.scope().is_all
    assert found(index, None, ids=["d", "c"]) == "cd"
    with pytest.raises(KeyError, match="nobody"):
        index.scope(["a", "nobody"], filter=given)
    with pytest.raises(FilterError, match="no document has a field 'yaer'"):
        index.scope([], filter={"yaer": 1})


DATE = datetime.date(2020, 1, 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "an empty filter would admit every document; leave the filter out if that is meant"),
        ({"$and": [{"year": 1990}, {}]}, "an empty filter would admit every document"),
        ({"year": {}}, "the field 'year' has no operators and would admit every document"),
        ({"$or": []}, r"\$or takes a list of at least one filter; given \[\]"),
        ({"$and": {"year": 1}}, r"\$and takes a list of at least one filter; given \{'year': 1\}"),
        ({"$not": [1]}, r"a filter is a mapping such as .*; given \[1\]"),
        ("year > 3", "a filter is a mapping such as .*given 'year > 3'"),
        ({3: 4}, "the names in a filter are strings, of fields or operators; given 3"),
        ({"$gte": 3}, r"\$gte stands inside a field"),
        ({"$nor": []}, r"no operator '\$nor'; did you mean '\$or'\?"),
        ({"year": {"$gtt": 3}}, r"'year' is given '\$gtt', which is no operator; did you mean '\$gt'\?"),
        ({"year": {"from": 3}}, r"'year' is given 'from', which is no operator. Values inside of values cannot be filtered by"),
        ({"year": {"$not": 3}}, r"\$not of the field 'year' takes operators, as .*; given 3"),
        ({"year": {"$exists": 1}}, r"\$exists of the field 'year' takes true or false; given 1"),
        ({"year": {"$in": 1990}}, r"\$in of the field 'year' takes a list of values; given 1990"),
        ({"lang": {"$in": "en"}}, r"\$in of the field 'lang' takes a list of values; given 'en'"),
        ({"lang": ["en", "de"]}, r"\$eq of the field 'lang' takes one value, and \$in takes several"),
        ({"lang": None}, r"\$eq of the field 'lang' is given null, which no value equals; say \{\"\$exists\": false\}"),
        ({"lang": {"$nin": ["en", None]}}, r"\$nin of the field 'lang' is given null"),
        ({"lang": {"$prefix": ""}}, 'every string starts with ""'),
        ({"lang": "\ud800"}, "holds half a character"),
        ({"lang": DATE}, r"given datetime.date\(2020, 1, 2\) \(date\); dates in metadata are strings"),
        ({"year": math.nan}, r"\$eq of the field 'year' takes finite numbers; given nan"),
        ({"year": {"$lt": math.inf}}, r"\$lt of the field 'year' takes finite numbers; given inf"),
        ({"year": {"$in": [1, np.float32("nan")]}}, "takes finite numbers; given nan"),
    ],
)
def test_one_that_is_malformed(given, message):
    with pytest.raises(FilterError, match=message):
        Filter.of(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"yaer": 1990}, r"no document has a field 'yaer'; did you mean 'year'\? Valid: \$id, draft, lang, score, tags, year"),
        ({"yaer": {"$exists": False}}, "no document has a field 'yaer'"),
        ({"year": "1990"}, r"'year' holds integers, and \$eq compares it with '1990', a string; give a number"),
        ({"year": True}, r"'year' holds integers, and \$eq compares it with True, a boolean; give a number"),
        ({"score": {"$in": [1, "a"]}}, r"'score' holds numbers, and \$in compares it with 'a', a string; give a number"),
        ({"lang": {"$ne": 3}}, r"'lang' holds strings, and \$ne compares it with 3, an integer; give a string"),
        ({"draft": 1}, r"'draft' holds booleans, and \$eq compares it with 1, an integer; give true or false"),
        (
            {"draft": {"$gt": True}},
            r"'draft' holds booleans, which \$gt does not compare; they take \$eq, \$ne, \$in, \$nin, \$exists",
        ),
        ({"year": {"$prefix": "19"}}, r"'year' holds integers, which \$prefix does not compare; they take \$eq, "),
        (
            {"lang": {"$contains": "e"}},
            r"'lang' holds strings, which \$contains does not compare; they take .*\$prefix, \$exists",
        ),
        ({"tags": "x"}, r"'tags' holds lists of strings, which \$eq does not compare; they take \$contains, \$exists"),
        ({"tags": {"$contains": 3}}, r"\$contains compares it with 3, an integer; give a string"),
        ({"code": "7"}, r"'code' cannot be filtered by: it holds a string \(document 'b'\) and an integer \(document 'c'\)"),
        ({"page": {"$exists": True}}, r"'page' cannot be filtered by: it holds a nested value \(document 'a'\)"),
        (pc.field("yaer") > 3, "no document has a field 'yaer'; did you mean 'year'"),
        (pc.field("page") > 3, r"it holds a nested value \(document 'a'\)"),
        (pc.field("year") > "x", r"expression \(year > \"x\"\) does not fit the metadata: .*Fields: .*year \(integer\)"),
        (pc.field("year"), "expected an expression that is true or false; year is int64"),
        ({"$not": pc.field("year") + 1}, "expected an expression that is true or false"),
        ({"$or": [{"year": {"$gt": 0}}, {"yaer": 1}]}, "no document has a field 'yaer'"),
    ],
)
def test_one_that_does_not_fit_the_metadata(index, given, message):
    with pytest.raises(FilterError, match=message):
        index.scope(filter=given)


def test_nesting_ends():
    nested: dict = {"year": 1990}
    for _ in range(60):
        nested = {"$not": nested}
    Filter.of(nested)
    for _ in range(5):
        nested = {"$not": nested}
    with pytest.raises(FilterError, match="nested at most 64 deep"):
        Filter.of(nested)
    circle: dict = {}
    circle["$not"] = circle
    operators: dict = {}
    operators["$not"] = operators
    for endless in (circle, {"year": operators}):
        with pytest.raises(FilterError, match="nested at most 64 deep"):
            Filter.of(endless)


def test_it_keeps_what_it_was_made_of(index):
    years = [1990]
    made = Filter.of({"year": {"$in": years}})
    years.append(1991)
    assert found(index, made) == "a"
    assert Filter.of(made) is made
    assert made == Filter.of({"year": {"$in": [1990]}})
    assert "1990" in repr(made)


def test_from_json(index):
    assert found(index, Filter.from_json('{"year": {"$gte": 1991}, "$or": [{"lang": "de"}, {"score": 3}]}')) == "bd"
    for text, message in (
        ("{year: 3}", r"expected a filter as JSON, such as .*; given '\{year: 3\}' \(Expecting property name"),
        ('{"year": NaN}', "takes finite numbers; given nan"),
        ('{"year": 1990, "year": 1991}', r"'year' stands twice in one object; put both into one, or into \{\"\$and\""),
        ('{"year": {"$gt": 1, "$gt": 2}}', r"'\$gt' stands twice"),
        ("[]", r"a filter is a mapping such as .*; given \[\]"),
        ("[" * 100_000, "expected a filter as JSON"),
    ):
        with pytest.raises(FilterError, match=message):
            Filter.from_json(text)
