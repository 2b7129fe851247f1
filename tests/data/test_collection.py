import dataclasses
import pickle

import pytest

from colbert_research.data import Collection


def collection(**changes) -> Collection:
    fields = {
        "name": "fruit",
        "document_ids": ("d1", "d2", "d3"),
        "titles": ("Apples", "", "Roots"),
        "texts": ("Apples grow.", "Pears too.", ""),
        "metadata": ({}, {}, {"page": 3}),
        "query_ids": ("q1", "q2"),
        "query_texts": ("on trees", "in the ground"),
        "qrels": {"q1": {"d1": 2, "d2": 1}, "q2": {"d3": 1, "d1": 0}},
    }
    return Collection(**(fields | changes))


def test_document_texts_follow_the_field_rule():
    assert collection().document_texts() == ["Apples Apples grow.", "Pears too.", "Roots"]
    assert collection(text_fields="text").document_texts() == ["Apples grow.", "Pears too.", ""]
    assert collection(titles=(" a ", "", ""), texts=(" b ", "", "")).document_texts() == [" a   b ", "", ""]


def test_length_and_short_repr():
    assert len(collection()) == 3
    assert repr(collection()) == "Collection('fruit', 3 documents, 2 queries, 4 judgements)"


def test_lists_become_tuples_and_qrels_a_copy_in_query_order():
    qrels = {"q2": {"d3": 1}, "q1": {"d1": 2}}
    made = collection(document_ids=["d1", "d2", "d3"], qrels=qrels)
    qrels["q2"]["d3"] = 7
    assert made.document_ids == ("d1", "d2", "d3")
    assert list(made.qrels) == ["q1", "q2"]
    assert made.qrels["q2"] == {"d3": 1}
    assert collection(qrels={"q1": {}}).qrels == {}
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"titles": ("a", "b")}, r"one entry per document; given .*'titles': 2"),
        ({"metadata": ()}, r"one entry per document; given .*'metadata': 0"),
        ({"query_texts": ("a",)}, r"one entry per query; given .*'query_texts': 1"),
        ({"query_metadata": ({},)}, r"one entry per query; given .*'query_metadata': 1"),
        ({"document_ids": ("d1", "d2", "d1")}, "document ids must be unique; 'd1' is there more than once"),
        ({"document_ids": ("d1", "d2", "")}, "a document id is a non-empty string; number 2 is ''"),
        ({"document_ids": ("d1", "d2", 3)}, "a document id is a non-empty string; number 2 is 3"),
        ({"query_ids": ("q1", "q1")}, "query ids must be unique; 'q1'"),
        ({"texts": ("a", None, "c")}, "texts must be strings; that of 'd2' is None"),
        ({"titles": ("a", "b", 1)}, "titles must be strings; that of 'd3' is 1"),
        ({"texts": ("a", "\ud800", "c")}, "texts: that of 'd2' holds half a character"),
        ({"document_ids": ("d1", "d2", "\udc00")}, "document ids: that of .* holds half a character"),
        ({"texts": "abc"}, "texts must be a list; given one string, 'abc'"),
        ({"qrels": {"q9": {"d1": 1}}}, "qrels name the query 'q9', which is not among the 2 queries"),
        ({"qrels": {"q1": {"d9": 1}}}, "qrels of query 'q1' name the document 'd9'"),
        ({"qrels": {"q1": {"d1": 1.5}}}, "a grade is an integer.*query 'q1' and document 'd1' have 1.5"),
        ({"qrels": {"q1": {"d1": 10**10}}}, "a grade is an integer of at most 10000.*'d1' have 10000000000"),
        ({"document_ids": ("d1", "d2", "d\0")}, "a document id holds no NUL.*number 2 is"),
        ({"query_ids": ("\0", "q2")}, "a query id holds no NUL"),
        ({"text_fields": "body"}, "text_fields is one of .*given 'body'"),
    ],
)
def test_what_is_inconsistent_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        collection(**changes)


EVERYTHING, DOCUMENTS, QUERIES = "fingerprint", "documents_fingerprint", "queries_fingerprint"


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"name": "other"}, set()),
        ({"metadata": ({"page": 1}, {}, {})}, set()),
        ({"query_metadata": ({"kind": "easy"}, {})}, set()),
        ({"qrels": {"q2": {"d1": 0, "d3": 1}, "q1": {"d2": 1, "d1": 2}}}, set()),
        ({"document_ids": ("d2", "d1", "d3")}, {EVERYTHING}),
        ({"query_ids": ("q2", "q1")}, {EVERYTHING}),
        ({"qrels": {"q1": {"d1": 1, "d2": 1}, "q2": {"d3": 1, "d1": 0}}}, {EVERYTHING}),
        ({"qrels": {"q1": {"d1": 2, "d2": 1}, "q2": {"d3": 1}}}, {EVERYTHING}),
        ({"exclude_self": True}, {EVERYTHING}),
        ({"titles": ("Apple", "", "Roots")}, {EVERYTHING, DOCUMENTS}),
        ({"texts": ("Apples grow.", "Pears too", "")}, {EVERYTHING, DOCUMENTS}),
        ({"text_fields": "text"}, {EVERYTHING, DOCUMENTS}),
        ({"texts": ("Pears too.", "Apples grow.", "")}, {EVERYTHING, DOCUMENTS}),
        ({"titles": ("Apples", "", ""), "texts": ("Apples grow.", "Pears too.", "Roots")}, {EVERYTHING}),  # the same one text
        ({"query_texts": ("on trees", "underground")}, {EVERYTHING, QUERIES}),
        ({"query_texts": ("in the ground", "on trees")}, {EVERYTHING, QUERIES}),
    ],
)
def test_fingerprints_change_with_what_they_cover_and_not_otherwise(changes, changed):
    before, after = collection(qrels=collection().qrels), collection(**changes)
    for method in (EVERYTHING, DOCUMENTS, QUERIES):
        assert len(getattr(before, method)()) == 64
        assert (getattr(before, method)() != getattr(after, method)()) == (method in changed)


def test_fingerprint_depends_on_the_order_of_documents():
    backwards = {c: getattr(collection(), c)[::-1] for c in ("document_ids", "titles", "texts", "metadata")}
    assert collection(**backwards).fingerprint() != collection().fingerprint()
    assert collection(**backwards).documents_fingerprint() != collection().documents_fingerprint()


def test_fingerprints_tell_apart_texts_with_the_same_bytes_in_a_row():
    one, other = Collection.from_texts(["ab", "c"]), Collection.from_texts(["a", "bc"])
    assert one.fingerprint() != other.fingerprint()
    assert one.documents_fingerprint() != other.documents_fingerprint()
    same = Collection.from_texts(["x"], queries=["x"])
    assert same.documents_fingerprint() != same.queries_fingerprint()


def test_from_texts_fills_in_what_is_left_out():
    made = Collection.from_texts(["a", "b"], queries=["x"], qrels={"0": {"1": 1}})
    assert (made.name, made.document_ids, made.titles, made.metadata) == ("texts", ("0", "1"), ("", ""), ({}, {}))
    assert (made.query_ids, made.query_texts, made.qrels) == (("0",), ("x",), {"0": {"1": 1}})
    assert made.query_metadata == ({},)
    assert len(Collection.from_texts([])) == 0


def test_from_texts_takes_everything():
    made = Collection.from_texts(
        ["a", "b"],
        ids=["i", "j"],
        titles=["s", "t"],
        metadata=[{}, {"k": 1}],
        name="n",
        queries={"q": "x"},
        qrels={"q": {"j": 2}},
    )
    assert made.document_texts() == ["s a", "t b"]
    assert (made.name, made.document_ids, made.metadata[1], made.query_ids) == ("n", ("i", "j"), {"k": 1}, ("q",))


def test_from_texts_refuses_one_string():
    with pytest.raises(ValueError, match="texts must be a list; given one string, 'abc'"):
        Collection.from_texts("abc")
    with pytest.raises(ValueError, match="queries must be a list"):
        Collection.from_texts(["abc"], queries="abc")


def test_subset_keeps_the_order_and_drops_what_lost_its_relevant_documents():
    part = collection().subset(["d2", "d1"])
    assert part.document_ids == ("d1", "d2")
    assert part.document_texts() == ["Apples Apples grow.", "Pears too."]
    assert part.metadata == ({}, {})
    assert collection(query_metadata=({"n": 1}, {"n": 2})).subset(["d2", "d1"]).query_metadata == ({"n": 1},)
    assert (part.query_ids, part.query_texts) == (("q1",), ("on trees",))  # q2 has only d1 left, of grade 0
    assert part.qrels == {"q1": {"d1": 2, "d2": 1}}


def test_subset_of_everything_and_of_nothing():
    assert collection().subset(["d3", "d2", "d1"]) == collection()
    empty = collection().subset([])
    assert (len(empty), empty.query_ids, empty.qrels) == (0, (), {})


def test_subset_without_judgements_keeps_the_queries_and_the_rules():
    made = dataclasses.replace(Collection.from_texts(["a", "b"], queries=["x"]), exclude_self=True, text_fields="text")
    part = made.subset(["1"])
    assert (part.query_ids, part.exclude_self, part.text_fields) == (("0",), True, "text")


def test_subset_refuses_unknown_ids():
    with pytest.raises(ValueError, match=r"'fruit'.*2 are not: 'd8', 'd9'"):
        collection().subset(["d9", "d1", "d8"])
    with pytest.raises(ValueError, match="document_ids must be a list"):
        collection().subset("d1")
