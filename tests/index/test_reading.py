"""What an open index gives."""

import numpy as np
import pytest

from colbert_research.data import Collection
from colbert_research.index import Index, build_index, writing
from colbert_research.index.build import BuildConfig
from colbert_research.ragged import Ragged, offsets_of
from tests.index.conftest import CODECS, DIM, SEVERAL, N


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.kind)
@pytest.mark.parametrize("lengths", [[0, 3, 0, 0, 5, 30, 0], [0, 0, 8], [8]], ids=str)
def test_documents_without_tokens(tmp_path, rng, codec, lengths):
    vectors = Ragged(rng.standard_normal((sum(lengths), 4)).astype(np.float32), offsets_of(lengths))
    build = BuildConfig(segment_tokens=4, chunk_tokens=3)
    index = build_index(tmp_path / "i", Collection.from_texts(["x"] * len(lengths)), vectors, codec, build=build)
    found = index.vectors_of(index.document_ids)
    assert found.lengths.tolist() == lengths
    assert np.array_equal(found.values, index.codec.decode(index.codec.encode(vectors.values)))
    assert [d.id for d in index.documents(index.document_ids)] == list(index.document_ids)


class TestReading:
    @pytest.fixture
    def index(self, tmp_path, collection, vectors) -> Index:
        return build_index(tmp_path / "i", collection, vectors, CODECS[1], build=SEVERAL)

    def test_positions(self, index):
        assert index.positions(["d7", "d0", "d39", "d7"]).tolist() == [7, 0, 39, 7]
        assert index.positions([]).dtype == np.int64
        with pytest.raises(KeyError, match=r"2 unknown document ids, such as \['x', 'D0'\]; the index has 40"):
            index.positions(["d1", "x", "D0"])

    @pytest.mark.parametrize("positions", [[], [0], [39], [3, 9, 10, 38], list(range(N))], ids=len)
    def test_codes(self, index, vectors, positions):
        codes, offsets = index.codes_of(np.array(positions, np.int64))
        chosen = vectors.take(positions)
        assert offsets.tolist() == chosen.offsets.tolist()
        for name, expected in index.codec.encode(chosen.values).items():
            assert codes[name].dtype == expected.dtype
            assert np.array_equal(codes[name], expected)
        some, _ = index.codes_of(np.array(positions, np.int64), names=["centroid_ids"])
        assert list(some) == ["centroid_ids"]

    def test_documents_and_vectors_of_none(self, index):
        assert index.documents([]) == []
        assert index.vectors_of([]).values.shape == (0, DIM)

    def test_documents_are_what_was_given(self, index, collection):
        wanted = [f"d{i}" for i in np.random.default_rng(3).permutation(N)] + ["d5", "d5"]
        for document in index.documents(wanted):
            i = int(document.id[1:])
            assert document == writing.document_at(collection, i)
        assert [d.id for d in index.documents(wanted)] == wanted

    def test_documents_by_position(self, index, collection):
        positions = np.random.default_rng(4).permutation(N)
        found = index.documents_at(np.concatenate([positions, positions[:3]]))
        assert [document.id for document in found] == [f"d{i}" for i in (*positions, *positions[:3])]

    def test_unknown_ids(self, index):
        for read in (index.documents, index.vectors_of):
            with pytest.raises(KeyError, match="nowhere"):
                read(["d1", "nowhere"])
