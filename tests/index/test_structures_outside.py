"""Derived structures in folders of their own, beside an index that is not written to."""

import errno
import os
import shutil

import numpy as np
import pytest

from colbert_research.index import Index, IndexCorruptedError, IndexMissingError, build_index, build_structure
from tests.index.conftest import CODECS, SEVERAL, bytes_of
from tests.index.structures import LaterLengths, Lengths, Norms, Sums, built


@pytest.fixture
def path(tmp_path, collection, vectors):
    built.clear()
    return build_index(tmp_path / "i", collection, vectors, CODECS[1], build=SEVERAL).path


def test_the_index_is_not_written_to(path, tmp_path, vectors):
    before, done = bytes_of(path), {}
    for structure in (Lengths(), Sums(), Norms()):
        folder = tmp_path / structure.kind
        folder.mkdir()
        (folder / "notes.txt").write_text("somebody else's")
        build_structure(Index.open(path, structures=done), structure, folder)
        assert (folder / "notes.txt").read_text() == "somebody else's"
        done[structure] = folder
    built.clear()
    index = Index.open(path, structures=done)
    assert np.array_equal(index.structure(Lengths()), vectors.lengths)
    assert [sums.tolist() for sums in index.structure(Sums())] == [segment.offsets.tolist() for segment in index.segments]
    assert np.array_equal(index.structure(Norms()), np.linalg.norm(index.codec.centroids, axis=1))
    assert index.structure_bytes(Lengths()) == sum(file.stat().st_size for file in (tmp_path / "lengths").rglob("*.npy"))
    index.verify()
    assert built == []
    assert bytes_of(path) == before


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_an_index_that_cannot_be_written_to(path, tmp_path, monkeypatch, refusal):
    """Its structures are built once in the cache, those that they are built from as well; the next process finds them."""

    def refuse(*_):
        raise OSError(refusal, os.strerror(refusal))

    expected = [sums.tolist() for sums in Index.open(path).structure(Sums())]
    shutil.rmtree(path / "structures")
    before = bytes_of(path)
    monkeypatch.setattr("colbert_research.index.structure_files.writing", refuse)
    built.clear()
    for done in (2 * len(Index.open(path).segments), 0):
        index = Index.open(path)
        assert [sums.tolist() for sums in index.structure(Sums())] == expected
        assert len(built) == done
        built.clear()
        index.verify()
    assert bytes_of(path) == before
    monkeypatch.setenv("COLBERT_RESEARCH_CACHE", "/proc/nowhere")
    with pytest.raises(OSError, match="COLBERT_RESEARCH_CACHE"):
        Index.open(path).structure(Sums())


def test_a_full_disk_is_no_reason_to_build_elsewhere(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("colbert_research.index.structure_files.writing", refuse)
    with pytest.raises(OSError, match="No space left"):
        Index.open(path).structure(Lengths())


def test_a_finished_one_is_kept_and_the_bytes_are_the_same(path, tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):
        build_structure(Index.open(path), Lengths(), folder)
    assert len(built) == 2 * len(Index.open(path).segments)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_what_it_is_built_from_must_be_there(path, tmp_path):
    with pytest.raises(ValueError, match=r"Sums\(.*is built from Lengths\(.*which .* lacks; build that first"):
        build_structure(Index.open(path), Sums(), tmp_path / "sums")
    Index.open(path).structure(Lengths())
    build_structure(Index.open(path), Sums(), tmp_path / "sums")


def test_another_structure_in_the_folder(path, tmp_path):
    folder = tmp_path / "lengths"
    build_structure(Index.open(path), Lengths(), folder)
    for other in (Lengths(times=2), LaterLengths(), Norms()):
        with pytest.raises(IndexCorruptedError, match=r"holds lengths {'times': 1} of version 1, and .* is asked for"):
            Index.open(path, structures={other: folder})
        with pytest.raises(IndexCorruptedError, match="is asked for"):
            build_structure(Index.open(path), other, folder)


def test_one_of_another_index(path, tmp_path, collection, vectors):
    folder = tmp_path / "lengths"
    build_structure(Index.open(path), Lengths(), folder)
    other = build_index(tmp_path / "other", collection, vectors, CODECS[1], seed=3, build=SEVERAL)
    with pytest.raises(IndexCorruptedError, match=r"was built from another index: its parts \['segment-000001'"):
        Index.open(other.path, structures={Lengths(): folder})


def test_no_structure_in_the_folder(path, tmp_path):
    with pytest.raises(IndexMissingError, match=r"no finished structure in .*; fill it with build_structure"):
        Index.open(path, structures={Lengths(): tmp_path / "nowhere"})


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": "other", "name": "lengths", "parts": {}}'])
def test_a_description_of_something_else(path, tmp_path, text):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "structure.json").write_text(text)
    with pytest.raises(IndexCorruptedError, match="does not describe a colbert_research structure"):
        Index.open(path, structures={Lengths(): tmp_path / "x"})


@pytest.mark.parametrize("damage", ["cut", "remove", "flip", "range"])
@pytest.mark.parametrize("outside", [True, False], ids=["outside", "inside"])
def test_damage_is_named(path, tmp_path, damage, outside):
    """A truncated or missing file when the index is opened, a number out of range at the first use, others by `verify`."""
    folder, structures = path / "structures", {}
    if outside:
        folder, structures = tmp_path / "lengths", {Lengths(): tmp_path / "lengths"}
        build_structure(Index.open(path), Lengths(), folder)
    else:
        Index.open(path).structure(Lengths())
    file = folder / Lengths().name / "segment-000002" / "lengths.npy"
    data = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(data[:-1])
    elif damage == "flip":
        data[-8] ^= 1
        file.write_bytes(data)
    else:
        data[-1] = 255
        file.write_bytes(data)
    with pytest.raises(IndexCorruptedError, match=r"lengths\.npy.*; delete the folder .*, and have it built again") as caught:
        index = Index.open(path, structures=structures)
        if damage == "range":
            index.structure(Lengths())
        index.verify()
    assert str(file) in str(caught.value)
    shutil.rmtree(folder)
    if outside:
        build_structure(Index.open(path), Lengths(), folder)
    Index.open(path, structures=structures).structure(Lengths())


def test_what_cannot_be_looked_at_is_compared_with_its_checksum(path):
    Index.open(path).structure(Norms())
    file = path / "structures" / Norms().name / "codec" / "norms.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(IndexCorruptedError, match=r"norms\.npy is not what the manifest says \(SHA-256 differs\); delete"):
        Index.open(path).structure(Norms())
