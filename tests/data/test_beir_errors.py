"""Whatever is wrong with a folder is an error that names the file and the line."""

import gzip
import re

import pytest

from colbert_research.data import BeirConfig, DataError

GOOD = b'{"_id": "d0", "text": "x"}\n'


def load_error(folder, **settings) -> str:
    with pytest.raises(DataError) as caught:
        BeirConfig(path=str(folder), **settings).load()
    return str(caught.value)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"_id": "d9", "text": ', "not valid JSON"),
        (b"   ", "not valid JSON"),
        (b'{"_id": "d9", "text": "x", "metadata": {"n": ' + b"1" * 5000 + b"}}", "not valid JSON"),
        (b'["d9", "x"]', r'expected a JSON object, \{…\}; given \["d9", "x"\]'),
        (b'{"text": "x"}', "no field '_id'; its fields are 'text'"),
        (b'{"_id": "d9"}', "no field 'text'; its fields are '_id'"),
        (b'{"_id": "d9", "text": "x", "n": NaN}', r"the field 'n' cannot be written as JSON .*given nan"),
        (b'{"_id": "d9", "text": "x", "n": "\\ud800"}', "the field 'n' holds half a character"),
        (b'{"_id": 9.5, "text": "x"}', r"'_id' must be a string; given 9.5 \(float\)"),
        (b'{"_id": true, "text": "x"}', r"'_id' must be a string; given True \(bool\)"),
        (b'{"_id": "d9", "text": null}', r"'text' must be a string; given None \(NoneType\)"),
        (b'{"_id": "d9", "text": ["x"]}', r"'text' must be a string; given \['x'\] \(list\)"),
        (b'{"_id": "", "text": "x"}', "'_id' is empty"),
        (b'{"_id": "d0", "text": "x"}', "the id 'd0' was already given in line 1"),
        (b'{"_id": "d9", "text": "\\ud83d"}', "'text' holds half a character"),
        (b'{"_id": "d9", "text": "caf\xe9"}', r"not UTF-8 at byte 54 of the file .*convert it to UTF-8"),
    ],
)
def test_a_bad_line(folder, name, line, message):
    (folder / name).write_bytes(GOOD + b"\n" + line + b"\n" + GOOD)
    assert re.fullmatch(f"{re.escape(str(folder / name))}, line 3: {message}.*", load_error(folder))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (b'"title": 3', r"'title' must be a string; given 3 \(int\)"),
        (b'"metadata": "x"', r"'metadata' must be a mapping; given 'x' \(str\)"),
        (b'"metadata": {"url": 1}, "url": 2', "the field 'url' and the one of that name in 'metadata' differ"),
    ],
)
def test_a_bad_optional_field(folder, fields, message):
    (folder / "corpus.jsonl").write_bytes(GOOD + b'{"_id": "d1", "text": "x", ' + fields + b"}\n")
    assert re.search(f"corpus.jsonl, line 2: {message}", load_error(folder))


def test_bytes_are_counted_with_the_byte_order_mark(folder):
    (folder / "corpus.jsonl").write_bytes(b'\xef\xbb\xbf{"_id": "\xff"}\n')
    assert "corpus.jsonl, line 1: not UTF-8 at byte 12 of the file" in load_error(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1\td9\t1", "the document id 'd9' is not in .*corpus.jsonl; .*unknown_judgements: drop"),
        ("q9\td1\t1", "the query id 'q9' is not in .*queries.jsonl; .*unknown_judgements: drop"),
        ("q1\td1\t1.5", "the score must be an integer, above 0 when relevant; given '1.5'"),
        ("q1\td1\t1.5", "the score must be an integer, .*given '1.5'"),
        ("q1\td1\t1_0", "the score must be an integer, .*given '1_0'"),
        ("q1\td1\tscore", "the score must be an integer, .*given 'score'"),
        ("q1\td1\t", "the score must be an integer, .*given ''"),
        ("q1\td1", "expected 3 columns separated by tabs, query-id, corpus-id, score; given 2: q1\td1"),
        ("q1 0 d1 1", "expected 3 columns .*; given 1: q1 0 d1 1"),
        ("q1\t0\td1\t1", "expected 3 columns .*; given 4"),
        ("\td1\t1", "'query-id' is empty"),
        ("q1\t\t1", "'corpus-id' is empty"),
        ("q1\td2\t2", "query 'q1' and document 'd2' have the grade 2 here and 1 further up"),
    ],
)
def test_a_bad_judgement(folder, line, message):
    path = folder / "qrels" / "test.tsv"
    path.write_text(path.read_text() + "\n" + line + "\nq1\td1\t2\n")
    assert re.fullmatch(f"{re.escape(str(path))}, line 6: {message}.*", load_error(folder))


def test_the_first_line_is_a_header_only_when_it_says_score(folder):
    (folder / "qrels" / "test.tsv").write_text("q1\td1\tx\n")
    assert "test.tsv, line 1: the score must be an integer" in load_error(folder)


def test_no_judged_query(folder, write):
    path = folder / "qrels" / "test.tsv"
    path.write_text("query-id\tcorpus-id\tscore\n")
    assert f"{path} judges no query of {folder / 'queries.jsonl'}; 0 judgements read, 0 dropped" in load_error(folder)
    write(folder, judgements=[("q9", "d1", 1)])
    assert "1 judgements read, 1 dropped" in load_error(folder, unknown_judgements="drop")


def test_empty_corpus(folder):
    (folder / "corpus.jsonl").write_bytes(b"\n")
    assert load_error(folder) == f"{folder / 'corpus.jsonl'} holds no documents; expected at least one"


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    assert f"no file {name} or {name}.gz in {str(folder)!r}" in load_error(folder)


def test_missing_folder(tmp_path):
    assert f"no folder {str(tmp_path / 'nowhere')!r}; expected one with corpus.jsonl" in load_error(tmp_path / "nowhere")


def test_missing_split_lists_those_that_exist(folder, write):
    write(folder, split="dev", gz=True)
    message = load_error(folder, split="train")
    assert "no file qrels/train.tsv or qrels/train.tsv.gz" in message
    assert message.endswith("splits that exist: dev, test")
    for path in (folder / "qrels").iterdir():
        path.unlink()
    assert load_error(folder).endswith("it has no qrels at all")


PACKED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    "content", [b"not gzip at all", PACKED[:-9], PACKED[:10] + b"\xff" * 20], ids=["other", "short", "broken"]
)
def test_damaged_gzip(folder, content):
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(content)
    assert f"{folder / 'corpus.jsonl.gz'} cannot be read" in load_error(folder)


def test_bad_only_documents(folder):
    message = load_error(folder, only_documents="ids.txt")
    assert "no file of document ids 'ids.txt'" in message
    assert str(folder / "ids.txt") in message
    for content, expected in (
        ("d1\n\nd9\n", "ids.txt, line 3: the document id 'd9' is not in the corpus"),
        ("\n", "ids.txt holds no document ids"),
    ):
        (folder / "ids.txt").write_text(content)
        assert expected in load_error(folder, only_documents="ids.txt")


def test_only_documents_that_answer_nothing(folder, write):
    write(folder, judgements=[("q1", "d1", 1)])
    (folder / "ids.txt").write_text("d2\n")
    assert "no query of the split 'test' has a relevant document among the 1 of" in load_error(folder, only_documents="ids.txt")
