"""Files that are whole or absent."""

import os

import pytest

from colbert_research.artifacts import atomic_folder, checksums, folder_bytes, read_json, sha256_file, write_json, write_text


def refuse(*_):
    raise OSError("disk full")


def test_json_is_put_in_place_at_once(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"b": "é", "a": [1]})
    assert path.read_text(encoding="utf-8") == '{\n "a": [\n  1\n ],\n "b": "é"\n}\n'
    assert os.listdir(tmp_path) == ["a.json"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="disk full"):
            write_json(path, {"new": 1})
    assert read_json(path) == {"a": [1], "b": "é"}
    assert [p.name for p in tmp_path.glob("[!.]*")] == ["a.json"], "what is left behind is hidden"
    assert list(tmp_path.glob("*.json")) == [path]
    write_text(path, "{}")
    assert read_json(path) == {}


@pytest.mark.parametrize("value", [{"x": float("nan")}, {"x": object()}])
def test_what_is_not_json_changes_nothing(tmp_path, value):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == 1
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "target"
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        (folder / "x").write_text("1")
        raise RuntimeError
    assert os.listdir(target.parent) == []
    with atomic_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "x").write_text("123")
        assert not target.exists()
    assert os.listdir(target.parent) == ["target"]
    assert folder_bytes(target) == 3
    assert sha256_file(target / "sub" / "x") == "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"
    with pytest.raises(OSError), atomic_folder(target) as folder:
        (folder / "y").write_text("2")
    assert os.listdir(target.parent) == ["target"]
    assert os.listdir(target) == ["sub"]


def test_checksums_are_of_all_files_below(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("123")
    (tmp_path / "y").write_text("")
    digest = "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"
    found = checksums(tmp_path)
    assert list(found) == ["a/x", "y"]
    assert found["a/x"] == {"bytes": 3, "sha256": digest}
