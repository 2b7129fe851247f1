"""Metadata as columns: what their types are, and that they say what the document store says."""

import enum
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.index import FilterError, Index, IndexCorruptedError, build_index, column_files, fields
from colbert_research.index.column_files import FILE, derive_columns, open_columns, write_columns
from colbert_research.index.documents import Document, write_documents
from colbert_research.index.fields import Fields
from colbert_research.ragged import Ragged, offsets_of
from tests.index.conftest import SEVERAL, N, edit_manifest
from tests.index.filter_oracle import Part, columns_of, documents_of
from tests.index.test_filters_fuzz import drawn


def written(folder, documents: list[Document]):
    """The columns of a segment with these documents, as its folder holds them."""
    folder.mkdir(exist_ok=True)
    seen = Fields()
    write_documents(folder, seen.watched(documents))
    write_columns(folder, seen, len(documents))
    return open_columns(folder, len(documents))


@pytest.mark.parametrize("batch", [1, 3, 1024])
def test_what_is_written_is_what_the_documents_hold(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(column_files, "BATCH", batch)
    for seed in range(8):
        documents = drawn(seed)[0]
        stored, derived = written(tmp_path / str(seed), documents), derive_columns(Part(documents), len(documents))
        names = [*stored.fields.types()]
        assert len(names) > 5
        assert stored.fields.seen == derived.fields.seen
        assert stored.read(names).equals(derived.read(names))
        assert stored.read(names[2:1:-1]).column_names == names[2:1:-1]
        for name in names:
            held = [document.metadata.get(name) for document in documents]
            assert stored.read([name])[name].to_pylist() == held


def test_the_type_of_a_field():
    class Level(enum.IntEnum):
        HIGH = 3

    values = {
        "boolean": [True, None, False],
        "integer": [1, Level.HIGH, -(2**63), 2**63 - 1],
        "number": [0.5, 2**53, -(2**53)],
        "string": ["", "x"],
        "list of strings": [[], ("x", "y")],
    }
    for expected, held in values.items():
        assert columns_of(documents_of([{"f": value} for value in held])).types == {"f": expected}
    numpy_float = columns_of(documents_of([{"f": np.float64(0.5)}]))
    assert numpy_float.column("f").array.to_pylist() == [0.5]
    assert columns_of(documents_of([{"f": None}, {}]), documents_of([{}])).types == {}


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (1, "x", "it holds an integer (document 'd0') and a string (document 'e0')"),
        (True, 1, "it holds a boolean (document 'd0') and an integer (document 'e0')"),
        (2**53 + 1, 0.5, "it holds an integer beyond 2^53 (document 'd0') and a number (document 'e0')"),
        (2**63, 1, "it holds an integer beyond 64 bits (document 'd0') and an integer (document 'e0')"),
        ("x", ["x"], "it holds a string (document 'd0') and a list of strings (document 'e0')"),
        ([1], [], "it holds a list of other values than strings (document 'd0') and a list of strings (document 'e0')"),
        (["x", None], None, "it holds a list of other values than strings (document 'd0')"),
        (None, {"a": 1}, "it holds a nested value (document 'e0')"),
        (float("nan"), 1.0, "it holds a number that is not finite (document 'd0') and a number (document 'e0')"),
        ("\ud800", "x", "it holds a string with half a character (document 'd0') and a string (document 'e0')"),
    ],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_a_field_without_a_type(first, second, message, parts):
    """It does not matter whether one segment holds both."""
    documents = [Document("d0", "", "", {"f": first, "g": 1}), Document("e0", "", "", {"f": second})]
    columns = columns_of(documents) if parts == 1 else columns_of(documents[:1], documents[1:])
    assert columns.types == {"g": "integer"}
    with pytest.raises(FilterError) as error:
        columns.column("f")
    assert message in str(error.value)
    assert "change these documents, and compact the index" in str(error.value)


def test_segments_of_two_types_have_the_wider_one():
    columns = columns_of(documents_of([{"f": 2**53}, {}]), documents_of([{"g": 1}]), documents_of([{"f": 0.5}]))
    assert columns.types == {"f": "number", "g": "integer"}
    assert columns.column("f").array.to_pylist() == [2.0**53, None, None, 0.5]
    assert columns.table()["$id"].to_pylist() == ["d0", "d1", "d0", "d0"]


def test_an_index_without_metadata():
    columns = columns_of(documents_of([{}, {}]))
    with pytest.raises(FilterError, match=r"no document has a field 'f': no metadata of this index have a type; only \$id"):
        columns.column("f")
    assert columns.column("$id").known.tolist() == [True, True]


def test_there_is_an_end_of_fields(tmp_path, monkeypatch):
    """A field that a segment may have dropped is refused, for its documents would be found to lack it."""
    monkeypatch.setattr(fields, "GREATEST_FIELDS", 5)
    many = documents_of([{f"f{i}": 1, "shared": 1} for i in range(9)])
    columns = columns_of(many, documents_of([{"f8": 1, "shared": 2}]))
    assert columns.types == dict.fromkeys(("f0", "f1", "f2", "f3", "shared"), "integer")
    with pytest.raises(
        FilterError, match=r"'f8' cannot be filtered by: a segment has more than 1000 fields, and it is not among"
    ):
        columns.column("f8")
    stored = written(tmp_path / "s", many)
    assert stored.fields.more
    assert len(stored.fields.seen) == 5


def test_of_many_fields_the_nearest_is_named():
    columns = columns_of(documents_of([{f"field {i:03}": i for i in range(300)}]))
    assert len(columns.refusal("field_017")) < 700
    assert "did you mean 'field 017'" in columns.refusal("field_017")


def test_values_are_those_that_json_gives(tmp_path):
    """Tuples become lists, as in the document store."""
    collection = Collection.from_texts(["a", "b"], metadata=[{"1": "x"}, {"t": ("a", "b")}])
    vectors = Ragged(np.eye(8, dtype=np.float32)[:2], offsets_of([1, 1]))
    index = build_index(tmp_path / "i", collection, vectors, ExactConfig())
    assert [dict(each.metadata) for each in index.documents(["0", "1"])] == [{"1": "x"}, {"t": ["a", "b"]}]
    assert index.columns.types == {"1": "string", "t": "list of strings"}
    assert index.columns.column("1").array.to_pylist() == ["x", None]


def test_memory_is_that_of_a_batch(tmp_path):
    """Ten times as many documents, whose metadata would be 40 MB."""
    text = "x" * 1000

    def peak(n: int) -> int:
        folder = tmp_path / str(n)
        folder.mkdir()
        seen = Fields()
        write_documents(folder, seen.watched(Document(str(i), "", "", {"text": f"{i}{text}"}) for i in range(n)))
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        write_columns(folder, seen, n)
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert pa.total_allocated_bytes() - before < 2**22
        return held

    assert peak(4000) < 1.5 * peak(2000)


class TestIndex:
    @pytest.fixture
    def path(self, tmp_path, collection, vectors):
        return build_index(tmp_path / "i", collection, vectors, ExactConfig(), build=SEVERAL).path

    def test_it_has_columns_of_each_segment(self, path):
        index = Index.open(path)
        assert all((segment.path / FILE).is_file() for segment in index.segments)
        assert index.columns.types == {"number": "integer", "name": "string"}
        assert index.columns.column("number").array.to_pylist() == [*range(N)]
        assert index.scope(filter={"number": {"$lt": 2}}).positions.tolist() == [0, 1]

    @pytest.mark.parametrize("last", [2, None])
    def test_one_of_before_there_were_columns(self, path, last):
        """All segments, or only some: what they lack is made of their documents."""
        before = Index.open(path)
        expected = before.columns.table()
        for segment in before.segments[:last]:
            (segment.path / FILE).unlink()
        edit_manifest(path, lambda manifest: [part["files"].pop(FILE) for part in manifest["segments"][:last]])
        index = Index.open(path)
        index.verify()
        assert index.columns.table().combine_chunks().equals(expected.combine_chunks())

    def test_any_byte(self, path):
        """Damage is noticed by the first filter, before anything is read."""
        file = path / "segment-000002" / FILE
        data = file.read_bytes()
        for place in range(0, len(data), 97):
            changed = bytearray(data)
            changed[place] ^= 0x55
            file.write_bytes(changed)
            index = Index.open(path)
            for look in (index.verify, lambda index=index: index.scope(filter={"number": 3})):
                with pytest.raises(IndexCorruptedError, match=f"{FILE} is not what the manifest says"):
                    look()
        file.unlink()
        with pytest.raises(IndexCorruptedError, match=f"{FILE} is missing"):
            Index.open(path)

    def test_a_file_of_other_documents(self, tmp_path):
        stored = written(tmp_path / "s", documents_of([{"a": 1}, {"a": 2}]))
        with pytest.raises(IndexCorruptedError, match="has version 1 and 2 documents, expected up to 1 and 3"):
            open_columns(tmp_path / "s", 3)
        table = stored.read(["a"])
        for content, message in (
            (b"", "does not hold the columns of a segment"),
            (b"ARROW1" * 50, "does not hold the columns"),
        ):
            (tmp_path / "s" / FILE).write_bytes(content)
            with pytest.raises(IndexCorruptedError, match=message):
                open_columns(tmp_path / "s", 2)
            with pytest.raises(IndexCorruptedError, match="cannot be read"):
                stored.read(["a"])
        with pa.ipc.new_file(str(tmp_path / "s" / FILE), table.schema.remove_metadata()) as writer:
            writer.write_table(table.slice(1).replace_schema_metadata(None))
        with pytest.raises(IndexCorruptedError, match="does not hold the columns of a segment: 'version'"):
            open_columns(tmp_path / "s", 2)
        with pytest.raises(IndexCorruptedError, match="holds 1 documents, not 2"):
            stored.read(["a"])
