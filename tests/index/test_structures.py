"""Derived structures in an index's own folder: built once, part by part, and named by its manifest."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from colbert_research.artifacts import folder_bytes
from colbert_research.index import Index, IndexCorruptedError, build_index, structures
from colbert_research.index.derived import in_order
from tests.index.conftest import CODECS, SEVERAL, bytes_of, edit_manifest
from tests.index.structures import LaterLengths, Lengths, Norms, Sums, built


@pytest.fixture
def index(tmp_path, collection, vectors) -> Index:
    built.clear()
    return build_index(tmp_path / "i", collection, vectors, CODECS[1], build=SEVERAL)


def names(index: Index) -> list[str]:
    return [segment.path.name for segment in index.segments]


def manifest_of(path: Path) -> dict:
    return json.loads((path / "manifest.json").read_text())


def test_it_is_built_once_and_found_by_the_next_reader(index, vectors):
    before = index.nbytes()
    for _ in range(2):
        assert np.array_equal(index.structure(Lengths()), vectors.lengths)
    again = Index.open(index.path)
    assert np.array_equal(again.structure(Lengths(times=2)), 2 * vectors.lengths)
    assert np.array_equal(again.structure(Lengths()), vectors.lengths)
    assert built == [("lengths", name) for name in names(index)] * 2
    again.verify()
    assert again.nbytes() == before, "structures are not counted as the index's"
    assert again.generation == index.generation == 1


def test_one_of_the_codec_is_built_once_for_all_segments(index):
    assert np.array_equal(index.structure(Norms()), np.linalg.norm(index.codec.centroids, axis=1))
    Index.open(index.path).structure(Norms())
    assert built == [("norms", "codec")]


def test_what_it_is_built_from_is_built_first_and_kept(index, vectors):
    found = index.structure(Sums())
    assert [sums.tolist() for sums in found] == [segment.offsets.tolist() for segment in index.segments]
    assert np.array_equal(Index.open(index.path).structure(Lengths()), vectors.lengths)
    assert [kind for kind, _ in built] == ["lengths"] * len(names(index)) + ["sums"] * len(names(index))
    assert in_order([Sums(), Norms(), Lengths()]) == (Lengths(), Sums(), Norms())


def test_bytes_are_stated(index):
    with pytest.raises(KeyError, match="is not built"):
        index.structure_bytes(Lengths())
    index.structure(Sums())
    sizes = [index.structure_bytes(structure) for structure in (Lengths(), Sums())]
    assert sizes[0] == folder_bytes(index.path / "structures" / Lengths().name)
    assert sum(sizes) == folder_bytes(index.path / "structures")
    assert Index.open(index.path).structure_bytes(Sums()) == sizes[1]


def test_the_order_of_building_changes_no_byte(tmp_path, collection, vectors):
    for name, order in (("a", [Sums(), Norms()]), ("b", [Norms(), Lengths(), Sums()])):
        index = build_index(tmp_path / name, collection, vectors, CODECS[1], build=SEVERAL)
        for structure in order:
            index.structure(structure)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_later_code_builds_again_and_removes_what_it_supersedes(index, vectors):
    index.structure(Sums())
    built.clear()
    later = Index.open(index.path)
    assert np.array_equal(later.structure(LaterLengths()), vectors.lengths)
    assert len(built) == len(names(index))
    entries = manifest_of(index.path)["structures"]
    assert {(entry["kind"], entry["version"]) for entry in entries.values()} == {("lengths", 2), ("sums", 1)}
    assert {folder.name for folder in (index.path / "structures").iterdir()} == set(entries)
    assert np.array_equal(index.structure(Lengths()), vectors.lengths), "older code may build its own again"
    assert {entry["version"] for entry in manifest_of(index.path)["structures"].values()} == {1, 2}
    Index.open(index.path).verify()


def test_a_change_of_what_it_is_built_from_builds_again(index, monkeypatch):
    index.structure(Sums())
    monkeypatch.setattr(Lengths, "version", 2)
    built.clear()
    Index.open(index.path).structure(Sums())
    assert [kind for kind, _ in built] == ["lengths"] * len(names(index)) + ["sums"] * len(names(index))
    assert len(manifest_of(index.path)["structures"]) == 2


def test_only_the_parts_that_are_lacking_are_built(index, vectors):
    """As for an index that got another segment: here a part was deleted."""
    index.structure(Lengths())
    shutil.rmtree(index.path / "structures" / Lengths().name / names(index)[1])
    built.clear()
    again = Index.open(index.path)
    assert np.array_equal(again.structure(Lengths()), vectors.lengths)
    assert built == [("lengths", names(index)[1])]
    Index.open(index.path).verify()


def test_a_folder_that_was_deleted_is_built_again(index, vectors):
    index.structure(Lengths())
    shutil.rmtree(index.path / "structures")
    again = Index.open(index.path)
    again.verify()
    with pytest.raises(KeyError, match="is not built"):
        again.structure_bytes(Lengths())
    assert np.array_equal(again.structure(Lengths()), vectors.lengths)


def test_an_index_of_version_1(index, vectors):
    """It has no structures in its manifest, and perhaps a folder of auxiliary ones, which is left alone."""
    edit_manifest(index.path, lambda manifest: manifest.update(version=1) or manifest.pop("structures"))
    (index.path / "auxiliary" / "lengths-1-0").mkdir(parents=True)
    np.save(index.path / "auxiliary" / "lengths-1-0" / "lengths.npy", np.zeros(3))
    old = Index.open(index.path)
    old.verify()
    assert manifest_of(index.path)["version"] == 1
    assert np.array_equal(old.structure(Lengths()), vectors.lengths)
    assert manifest_of(index.path)["version"] == 3
    assert (index.path / "auxiliary" / "lengths-1-0" / "lengths.npy").is_file()


def test_another_index_in_the_same_folder_meanwhile(index, collection, vectors):
    shutil.rmtree(index.path)
    build_index(index.path, collection, vectors, CODECS[1], seed=3, build=SEVERAL)
    with pytest.raises(RuntimeError, match="was changed after it was opened; open it again"):
        index.structure(Lengths())
    assert built == []


def test_what_building_raises_is_not_mistaken_for_that(index, monkeypatch):
    def refuse(*_):
        raise OSError("the power went out")

    monkeypatch.setattr(Lengths, "build", refuse)
    with pytest.raises(OSError, match="the power went out"):
        index.structure(Lengths())
    Index.open(index.path).verify()


def test_a_reader_of_a_read_only_folder_finds_what_others_built_since(index, vectors, monkeypatch):
    Index.open(index.path).structure(Lengths())
    monkeypatch.setattr(structures, "add_parts", None)
    assert np.array_equal(index.structure(Lengths()), vectors.lengths)


@pytest.mark.parametrize(
    "edit",
    [
        lambda entries: entries["x"]["parts"].popitem(),
        lambda entries: entries.update(x={"kind": "lengths"}),
        lambda entries: entries["x"]["parts"].update({"segment-000001": {"source": ""}}),
        lambda entries: entries["x"]["parts"]["segment-000001"]["files"]["lengths.npy"].pop("sha256"),
    ],
)
def test_a_manifest_with_entries_that_lack_something(index, edit):
    index.structure(Lengths())
    entries = {"x": manifest_of(index.path)["structures"][Lengths().name]}
    edit(entries)
    edit_manifest(index.path, lambda manifest: manifest.update(structures=entries))
    try:
        Index.open(index.path)
    except IndexCorruptedError as error:
        assert "lacks entries" in str(error)
    else:
        assert len(entries["x"]["parts"]) == len(names(index)) - 1, "a structure may lack parts"
