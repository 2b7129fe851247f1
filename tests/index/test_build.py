"""What a build writes, and what it refuses."""

import numpy as np
import pytest

from colbert_research.artifacts import folder_bytes
from colbert_research.codecs.base import bytes_per_token
from colbert_research.data import Collection
from colbert_research.index import Index, IndexMissingError, build_index
from colbert_research.ragged import Ragged, offsets_of
from tests.index.conftest import CODECS, DIM, SEVERAL, N, bytes_of


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.kind)
class TestBuild:
    def test_it_holds_what_was_given(self, tmp_path, collection, vectors, codec):
        index = build_index(tmp_path / "i", collection, vectors, codec, seed=1, build=SEVERAL)
        index.verify()
        assert index.document_ids == collection.document_ids
        assert (index.n_documents, index.n_tokens, index.dim) == (N, vectors.n_rows, DIM)
        assert len(index.segments) > 2
        wanted = ["d39", "d0", "d7", "d7"]
        assert [(d.id, d.text, d.metadata["number"]) for d in index.documents(wanted)] == [
            (i, f"text {i[1:]} é", int(i[1:])) for i in wanted
        ]
        expected = index.codec.decode(index.codec.encode(vectors.values))
        assert np.array_equal(index.vectors_of(index.document_ids).values, expected)
        some = index.vectors_of(wanted)
        for place, document in enumerate(wanted):
            low, high = vectors.offsets[int(document[1:])], vectors.offsets[int(document[1:]) + 1]
            assert np.array_equal(some[place], expected[low:high])

    def test_segments_change_no_code(self, tmp_path, collection, vectors, codec):
        one = build_index(tmp_path / "one", collection, vectors, codec, seed=1)
        several = build_index(tmp_path / "several", collection, vectors, codec, seed=1, build=SEVERAL)
        assert len(one.segments) == 1
        everything = np.arange(N)
        for name in one.codec.layout:
            assert np.array_equal(one.codes_of(everything)[0][name], several.codes_of(everything)[0][name])

    def test_the_same_inputs_give_the_same_bytes(self, tmp_path, collection, vectors, codec):
        for name in "ab":
            build_index(tmp_path / name, collection, vectors, codec, seed=1, build=SEVERAL)
        assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")

    def test_bytes_are_stated(self, tmp_path, collection, vectors, codec):
        index = build_index(tmp_path / "i", collection, vectors, codec)
        sizes = index.nbytes()
        assert sizes["total"] == folder_bytes(tmp_path / "i") - (tmp_path / "i" / "manifest.json").stat().st_size
        part_of = {
            **dict.fromkeys((f"documents{ids}{kind}" for ids in ("", "_ids") for kind in (".bin", "_blocks.npy")), "documents"),
            "metadata.arrow": "documents",
            "codec.json": "codec",
            "state.safetensors": "codec",
            "offsets.npy": "other",
        }
        part_of |= dict.fromkeys((f"{name}.npy" for name in index.codec.layout), "codes")
        summed = dict.fromkeys(sizes, 0)
        for file in (tmp_path / "i").glob("*/*"):
            summed[part_of.get(file.name, "inverted")] += file.stat().st_size
        assert {name: size for name, size in sizes.items() if name != "total"} == {
            n: s for n, s in summed.items() if n != "total"
        }
        assert (sizes["inverted"] > 0) == (index.codec.centroids is not None)
        headers = 128 * len(index.codec.layout)
        assert sizes["codes"] == bytes_per_token(index.codec) * vectors.n_rows + headers


def test_bad_input(tmp_path, collection, vectors):
    build_index(tmp_path / "i", collection, vectors, CODECS[0])
    with pytest.raises(FileExistsError, match="holds an index"):
        build_index(tmp_path / "i", collection, vectors, CODECS[0])
    with pytest.raises(ValueError, match="40 documents, but token vectors of 39"):
        build_index(tmp_path / "j", collection, vectors.slice(0, 39), CODECS[0])
    broken = vectors.values.copy()
    broken[vectors.offsets[7], 3] = np.inf
    with pytest.raises(ValueError, match="'d7' has a token vector that is not finite"):
        build_index(tmp_path / "k", collection, Ragged(broken, vectors.offsets), CODECS[0])
    with pytest.raises(KeyError, match="nowhere"):
        Index.open(tmp_path / "i").documents(["d1", "nowhere"])


def test_files_of_somebody_else_are_never_deleted(tmp_path, collection, vectors):
    (tmp_path / "i" / "segment-000001").mkdir(parents=True)
    (tmp_path / "i" / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match=r"holds other files, such as \['thesis.tex'\]; choose a new folder"):
        build_index(tmp_path / "i", collection, vectors, CODECS[0])
    assert (tmp_path / "i" / "thesis.tex").read_text() == "x"
    assert (tmp_path / "i" / "segment-000001").is_dir()


@pytest.mark.parametrize("row", [0, 24, 25, 100, -1])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_vector_that_is_not_finite_is_named(tmp_path, collection, vectors, row, value):
    broken = vectors.values.copy()
    broken[row, 5] = value
    document = int(np.searchsorted(np.cumsum(vectors.lengths), row % len(broken), side="right"))
    with pytest.raises(ValueError, match=f"'d{document}' has a token vector that is not finite"):
        build_index(tmp_path / "i", collection, Ragged(broken, vectors.offsets), CODECS[0], build=SEVERAL)
    with pytest.raises(IndexMissingError):
        Index.open(tmp_path / "i")


def test_no_vectors_at_all(tmp_path):
    empty = Ragged(np.zeros((0, 4), np.float32), offsets_of([0, 0]))
    with pytest.raises(ValueError, match="no token vectors; an index needs at least one"):
        build_index(tmp_path / "i", Collection.from_texts(["a", "b"]), empty, CODECS[0])
