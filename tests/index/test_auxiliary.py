"""Structures beside the codes: built once, put in place by one rename, no part of the index's own checksums."""

from typing import Literal

import numpy as np
import pytest

from colbert_research.artifacts import folder_bytes
from colbert_research.index import Auxiliary, Index, IndexCorruptedError, build_index
from tests.index.conftest import CODECS, SEVERAL

built = []


class Lengths(Auxiliary):
    kind: Literal["lengths"] = "lengths"
    times: int = 1

    def build(self, index):
        built.append(self.times)
        if self.times < 0:
            raise OSError("the power went out")
        return {"lengths": self.times * np.concatenate([np.diff(s.offsets) for s in index.segments])}

    def open(self, index, arrays):
        return np.asarray(arrays["lengths"])


@pytest.fixture
def index(tmp_path, collection, vectors) -> Index:
    built.clear()
    return build_index(tmp_path / "i", collection, vectors, CODECS[1], build=SEVERAL)


def test_it_is_built_once_and_found_by_the_next_reader(index, vectors):
    bytes_before = index.nbytes()
    for _ in range(2):
        assert np.array_equal(index.auxiliary(Lengths()), vectors.lengths)
    again = Index.open(index.path)
    assert np.array_equal(again.auxiliary(Lengths(times=2)), 2 * vectors.lengths)
    assert np.array_equal(again.auxiliary(Lengths()), vectors.lengths)
    assert built == [1, 2]
    again.verify()
    assert again.nbytes() == bytes_before, "what a strategy adds is not counted as the index's"


def test_a_build_that_dies_leaves_nothing(index):
    with pytest.raises(OSError, match="power"):
        index.auxiliary(Lengths(times=-1))
    assert folder_bytes(index.path / "auxiliary") == 0


def test_a_damaged_one_is_named(index):
    index.auxiliary(Lengths())
    (file,) = (index.path / "auxiliary").glob("lengths-*/lengths.npy")
    for damaged in (b"", file.read_bytes()[:-8], b"x" * 300):
        file.write_bytes(damaged)
        with pytest.raises(IndexCorruptedError, match=r"lengths.* is no array: .*; delete the folder to build it again"):
            Index.open(index.path).auxiliary(Lengths())
