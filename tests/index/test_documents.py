"""The document store: what was written is read, whatever it is; damage is named; stores of version 1 are read."""

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_research.index import Index, IndexCorruptedError, build_index, records
from colbert_research.index.documents import Document, ParquetStore, RecordStore, open_documents, write_documents
from tests.index.conftest import CODECS, SEVERAL, N

ODD = ["", "\n", "a\nb\r\n\u2028", '"quoted" \\ back', "Łódź é 猫 🐈", "\x00\x1f", "\ud800 alone", "x" * 5000]
DOCUMENTS = [Document(f"{i} {odd}", odd, f"text {odd}", {"i": i, "ü": [odd], "n": None}) for i, odd in enumerate(ODD * 3)]


@pytest.fixture(params=[1, 300, 2**13], ids=lambda size: f"blocks of {size}")
def store(request, tmp_path, monkeypatch) -> RecordStore:
    monkeypatch.setattr(records, "BLOCK_BYTES", request.param)
    write_documents(tmp_path, iter(DOCUMENTS))
    return open_documents(tmp_path, len(DOCUMENTS))


def test_what_was_written_is_read(store):
    n = len(DOCUMENTS)
    assert store.ids == tuple(document.id for document in DOCUMENTS)
    for wanted in ([], [n - 1], [4, 5, 0, n - 1, 5], range(n)[::-1], np.arange(3, 9)):
        assert store.read(wanted) == [DOCUMENTS[i] for i in wanted]


def test_no_documents(tmp_path):
    write_documents(tmp_path, iter([]))
    store = open_documents(tmp_path, 0)
    assert store.ids == ()
    assert store.read([]) == []


@given(st.lists(st.text(max_size=30), max_size=20), st.integers(1, 60))
def test_any_texts(tmp_path_factory, texts, size):
    folder = tmp_path_factory.mktemp("documents")
    documents = [Document(text, text[::-1], text * 2, {text: text}) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK_BYTES", size)
        write_documents(folder, iter(documents))
    assert open_documents(folder, len(texts)).read(range(len(texts))) == documents


def test_only_the_blocks_of_what_is_asked_for_are_decompressed(store, monkeypatch):
    """Each once, however many documents of it are asked for."""
    opened, original = [], records.Records._lines
    monkeypatch.setattr(records.Records, "_lines", lambda self, block: opened.append(block) or original(self, block))
    positions = [7, 3, 7, 20]
    store.read(positions)
    expected = {int(np.searchsorted(store.documents.blocks[:, 0], place, side="right")) - 1 for place in positions}
    assert sorted(opened) == sorted(expected)


def test_a_reader_keeps_what_it_opened(store, tmp_path):
    for file in tmp_path.glob("documents*"):
        file.unlink()
    assert store.read([5]) == [DOCUMENTS[5]]
    assert store.ids[5] == DOCUMENTS[5].id


class TestDamage:
    @pytest.fixture
    def path(self, tmp_path, collection, vectors):
        return build_index(tmp_path / "i", collection, vectors, CODECS[1], build=SEVERAL).path

    @pytest.mark.parametrize("name", ["documents", "documents_ids"])
    @pytest.mark.parametrize(("row", "column", "value"), [(0, 0, 1), (-1, 0, 10**9), (-1, 1, 3), (-1, 2, -1), (0, 1, 2**40)])
    def test_blocks_that_are_none(self, path, name, row, column, value):
        file = path / "segment-000002" / f"{name}_blocks.npy"
        blocks = np.load(file)
        blocks[row, column] = value
        np.save(file, blocks)
        with pytest.raises(IndexCorruptedError, match=rf"the blocks in .*{name}_blocks\.npy do not rise from 0 to"):
            Index.open(path)

    @pytest.mark.slow
    def test_any_byte(self, path):
        """It is refused, or else reading gives other documents, and `verify` says so; Python never crashes."""
        for file in sorted((path / "segment-000002").glob("documents*")):
            data = file.read_bytes()
            for place in range(0, len(data), 7):
                changed = bytearray(data)
                changed[place] ^= 0x55
                file.write_bytes(changed)
                try:
                    index = Index.open(path)
                    found = index.segments[1].documents.ids, index.segments[1].documents.read(range(len(index.segments[1])))
                    assert len(found[0]) == len(found[1]) or "ids" in file.name
                except IndexCorruptedError as error:
                    assert str(file.parent) in str(error)
                with pytest.raises(IndexCorruptedError):
                    Index.open(path).verify()
            file.write_bytes(data)

    def test_a_size_that_no_memory_holds(self, path):
        file = path / "segment-000002" / "documents_blocks.npy"
        blocks = np.load(file)
        blocks[-1, 2] = 2**60
        np.save(file, blocks)
        with pytest.raises(IndexCorruptedError, match=r"documents\.bin cannot be decompressed"):
            Index.open(path).documents(Index.open(path).document_ids)


class TestVersion1:
    """Segments whose documents are a Parquet file."""

    @pytest.fixture
    def path(self, tmp_path, collection, vectors):
        import pyarrow as pa
        import pyarrow.parquet as pq

        from colbert_research.index.segment import checksums

        index = build_index(tmp_path / "i", collection, vectors, CODECS[1], build=SEVERAL)
        manifest = json.loads((index.path / "manifest.json").read_text())
        schema = pa.schema([(name, pa.string()) for name in ("id", "title", "text", "metadata")])
        for entry, segment in zip(manifest["segments"], index.segments, strict=True):
            documents = segment.documents.read(range(len(segment)))
            for file in [*segment.path.glob("documents*"), segment.path / "metadata.arrow"]:
                file.unlink()
            rows = [
                {"id": d.id, "title": d.title, "text": d.text, "metadata": json.dumps(d.metadata, sort_keys=True)}
                for d in documents
            ]
            with pq.ParquetWriter(segment.path / "documents.parquet", schema, compression="zstd") as writer:
                for low in range(0, len(rows), 3):
                    writer.write_table(pa.Table.from_pylist(rows[low : low + 3], schema))
            entry["files"] = checksums(segment.path)
        del manifest["structures"], manifest["check"]
        (index.path / "manifest.json").write_text(json.dumps(manifest | {"version": 1}))
        return index.path

    def test_it_is_read(self, path, collection):
        index = Index.open(path)
        index.verify()
        assert isinstance(index.segments[0].documents, ParquetStore)
        assert index.document_ids == collection.document_ids
        wanted = [f"d{i}" for i in np.random.default_rng(3).permutation(N)] + ["d5", "d5"]
        found = index.documents(wanted)
        assert [d.id for d in found] == wanted
        assert [d.metadata["number"] for d in found] == [int(i[1:]) for i in wanted]
        assert index.nbytes()["documents"] == sum(file.stat().st_size for file in path.glob("*/documents.parquet"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")
def test_reading_opens_no_file_again(store):
    store.read([0])
    before = sorted(os.listdir("/proc/self/fd"))
    for place in range(20):
        store.read([place])
    assert sorted(os.listdir("/proc/self/fd")) == before
