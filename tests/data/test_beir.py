import gzip
import shutil

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from colbert_research.data import BeirConfig, Collection, DataError


def test_a_folder_is_read_as_it_stands(folder):
    assert BeirConfig(path=str(folder)).load() == Collection(
        name="fruit",
        document_ids=("d1", "d2", "d3"),
        titles=("Apples", "", ""),
        texts=("Apples grow on trees.", "Pears do too.", "Potatoes do not."),
        metadata=({"page": 1}, {}, {"url": "http://example.org/3"}),
        query_ids=("q2", "q1"),  # those judged, in the order of queries.jsonl
        query_texts=("what grows in the ground", "what grows on trees"),
        query_metadata=({}, {"asked": "often"}),
        qrels={"q1": {"d1": 2, "d2": 1}, "q2": {"d3": 1}},
    )


def test_settings_reach_the_collection(folder):
    loaded = BeirConfig(path=str(folder), exclude_self=True, text_fields="text").load()
    assert loaded.exclude_self
    assert loaded.document_texts()[0] == "Apples grow on trees."


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(BeirConfig(path="~/fruit").load()) == 3


def test_splits_are_apart(folder, write):
    write(folder, judgements=[("q0", "d3", 1)], split="dev")
    assert BeirConfig(path=str(folder), split="dev").load().query_ids == ("q0",)
    assert BeirConfig(path=str(folder)).load().query_ids == ("q2", "q1")


def test_gzipped_files_give_the_same(folder, tmp_path, write):
    packed = write(tmp_path / "packed", gz=True)
    assert not list(packed.rglob("*.jsonl"))
    assert BeirConfig(path=str(packed)).load().fingerprint() == BeirConfig(path=str(folder)).load().fingerprint()


def test_header_line_byte_order_marks_blank_lines_and_crlf_change_nothing(folder, tmp_path, write):
    other = write(tmp_path / "other", header=False)
    for path in (p for p in other.rglob("*") if p.is_file()):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert BeirConfig(path=str(other)).load().fingerprint() == BeirConfig(path=str(folder)).load().fingerprint()


def test_what_else_a_query_holds_is_its_metadata(tmp_path, write):
    queries = [
        {"_id": "q1", "text": "x", "metadata": {"kind": "easy"}, "turn": 3, "title": "A title"},
        {"_id": "q2", "text": "y", "metadata": None, "title": ""},
    ]
    write(tmp_path, [{"_id": "d1", "text": "x"}], queries, [("q1", "d1", 1), ("q2", "d1", 1)])
    loaded = BeirConfig(path=str(tmp_path)).load()
    assert loaded.query_metadata == ({"kind": "easy", "turn": 3, "title": "A title"}, {})
    assert loaded.subset(["d1"]).query_metadata == loaded.query_metadata


def test_null_title_and_metadata_are_absent_ones(tmp_path, write):
    made = write(tmp_path, [{"_id": "d1", "title": None, "text": "x", "metadata": None}], judgements=[("q1", "d1", 1)])
    loaded = BeirConfig(path=str(made)).load()
    assert (loaded.titles, loaded.metadata) == (("",), ({},))


def test_grades_may_be_zero_or_negative_and_repeated(tmp_path, write):
    made = write(tmp_path, judgements=[("q1", "d1", -2), ("q1", "d2", 0), ("q1", "d1", -2)])
    assert BeirConfig(path=str(made)).load().qrels == {"q1": {"d1": -2, "d2": 0}}


def test_only_documents_restricts_the_corpus(folder, tmp_path, monkeypatch):
    (folder / "some.txt").write_bytes("\ufeffd2\r\n\nd1\nd2\n".encode())
    (tmp_path / "elsewhere.txt").write_text("d3\n")
    inside = BeirConfig(path=str(folder), only_documents="some.txt").load()
    assert (inside.document_ids, inside.query_ids) == (("d1", "d2"), ("q1",))
    monkeypatch.chdir(tmp_path)
    outside = BeirConfig(path=str(folder), only_documents="elsewhere.txt").load()
    assert (outside.document_ids, outside.query_ids) == (("d3",), ("q2",))
    assert BeirConfig(path=str(folder), only_documents=str(tmp_path / "elsewhere.txt")).load() == outside


def test_unknown_judgements_can_be_dropped_and_are_counted(tmp_path, write, caplog):
    made = write(tmp_path, judgements=[("q1", "d1", 1), ("q1", "d9", 1), ("q9", "d1", 1), ("q2", "d9", 1)])
    loaded = BeirConfig(path=str(made), unknown_judgements="drop").load()
    assert (loaded.query_ids, loaded.qrels) == (("q1",), {"q1": {"d1": 1}})
    assert f"{made / 'qrels' / 'test.tsv'}: 3 of 4 judgements name unknown queries or documents: dropped" in caplog.text


def test_its_files(folder):
    assert [path.name for path in BeirConfig(path=str(folder)).files()] == ["corpus.jsonl", "queries.jsonl", "test.tsv"]
    (folder / "few.txt").write_text("d1\n")
    assert BeirConfig(path=str(folder), only_documents="few.txt").files()[-1] == folder / "few.txt"
    for wrong, message in (
        ({"split": "dev"}, "splits that exist: test"),
        ({"only_documents": "no.txt"}, "no file of document ids"),
    ):
        with pytest.raises(DataError, match=message):
            BeirConfig(path=str(folder), **wrong).files()


def test_lines_of_a_gzip_file_are_not_split_at_unicode_line_ends(tmp_path, write):
    text = "one\u2028two\x85three\x0bfour"
    made = write(tmp_path, [{"_id": "d1", "text": text}], judgements=[("q1", "d1", 1)])
    corpus = made / "corpus.jsonl"
    (made / "corpus.jsonl.gz").write_bytes(gzip.compress(corpus.read_bytes()))
    corpus.unlink()
    assert BeirConfig(path=str(made)).load().texts == (text,)


UNICODE = st.text(st.characters(codec="utf-8"), max_size=20)
# a tab or a line end inside an id cannot be written in a qrels file, and measures' C code ends an id at a NUL
IDS = st.text(st.characters(codec="utf-8", exclude_characters="\t\r\n\0"), min_size=1, max_size=8)


@given(
    documents=st.dictionaries(IDS, st.tuples(UNICODE, UNICODE), min_size=1, max_size=4), queries=st.dictionaries(IDS, UNICODE)
)
@example(documents={"\u2028": ("\u2029", "a\u2028b\x85c\x1cd\r\n")}, queries={"\ufeff\u2028 ": "\x0c"})
@settings(max_examples=60, deadline=None)
def test_any_unicode_survives_writing_and_reading(tmp_path_factory, write, documents, queries):
    queries = queries or {"q": "x"}
    made = write(
        tmp_path_factory.mktemp("unicode"),
        [{"_id": d, "title": title, "text": text} for d, (title, text) in documents.items()],
        [{"_id": q, "text": text} for q, text in queries.items()],
        [(q, d, 1) for q in queries for d in documents],
    )
    loaded = BeirConfig(path=str(made)).load()
    assert dict(zip(loaded.document_ids, zip(loaded.titles, loaded.texts, strict=True), strict=True)) == documents
    assert dict(zip(loaded.query_ids, loaded.query_texts, strict=True)) == queries
    assert loaded.qrels == {q: dict.fromkeys(documents, 1) for q in queries}
    assert loaded.document_ids == tuple(documents)


def test_numbers_stand_for_their_digits_wherever_they_are(tmp_path, write):
    """An id that is a JSON number, a grade that is written 1.0."""
    made = write(tmp_path, [{"_id": 7, "text": "seven"}, {"_id": "8", "text": "eight"}], judgements=[("q1", "7", "2.0")])
    collection = BeirConfig(path=str(made)).load()
    assert collection.document_ids == ("7", "8")
    assert collection.qrels == {"q1": {"7": 2}}


def test_a_document_that_is_there_twice(tmp_path, write, caplog):
    documents = [{"_id": "d1", "text": "one"}, {"_id": "d1", "text": "one"}, {"_id": "d2", "text": "two"}]
    made = write(tmp_path, documents, judgements=[("q1", "d1", 1)])
    with pytest.raises(DataError, match=r"'d1' was already given in line 1; to keep the first.*set dataset.duplicates=first"):
        BeirConfig(path=str(made)).load()
    assert BeirConfig(path=str(made), duplicates="first").load().document_ids == ("d1", "d2")
    assert "1 documents are there again, word for word" in caplog.text
    other = write(tmp_path / "other", [*documents[:1], {"_id": "d1", "text": "another"}], judgements=[("q1", "d1", 1)])
    with pytest.raises(DataError, match="'d1' was already given in line 1"):
        BeirConfig(path=str(other), duplicates="first").load()


def test_a_folder_with_documents_alone_and_one_with_questions_that_nobody_judged(tmp_path, write):
    made = write(tmp_path, [{"_id": "d1", "text": "one"}], judgements=[("q1", "d1", 1)])
    shutil.rmtree(made / "qrels")
    unjudged = BeirConfig(path=str(made)).load()
    assert len(unjudged.query_ids) > 0
    assert not unjudged.qrels
    (made / "queries.jsonl").unlink()
    alone = BeirConfig(path=str(made)).load()
    assert (alone.texts, alone.query_ids) == (("one",), ())
    assert BeirConfig(path=str(made)).files() == [made / "corpus.jsonl"]
