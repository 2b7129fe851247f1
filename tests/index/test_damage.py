"""Damaged, foreign and newer files are named."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from colbert_research.index import Index, IndexCorruptedError, IndexMissingError, build_index
from tests.index.conftest import CODECS, SEVERAL


class TestDamage:
    @pytest.fixture
    def path(self, tmp_path, collection, vectors) -> Path:
        return build_index(tmp_path / "i", collection, vectors, CODECS[1], build=SEVERAL).path

    def test_one_flipped_bit(self, path):
        file = path / "segment-000002" / "residuals.npy"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        with pytest.raises(IndexCorruptedError, match=r"segment-000002.residuals\.npy"):
            Index.open(path).verify()

    def test_a_short_file(self, path):
        file = path / "segment-000001" / "centroid_ids.npy"
        file.write_bytes(file.read_bytes()[:-2])
        with pytest.raises(IndexCorruptedError, match=r"centroid_ids\.npy has \d+ bytes, the manifest says"):
            Index.open(path)

    def test_a_missing_file(self, path):
        (path / "codec" / "state.safetensors").unlink()
        with pytest.raises(IndexCorruptedError, match=r"state\.safetensors is missing"):
            Index.open(path)

    @pytest.mark.parametrize("text", ["[]", "{}", '{"format": "colbert_research index", "version": 1}'])
    def test_a_manifest_of_something_else(self, path, text):
        (path / "manifest.json").write_text(text)
        with pytest.raises(IndexCorruptedError, match="does not describe"):
            Index.open(path)

    def test_a_newer_format(self, path):
        manifest = path / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"version": 3', '"version": 4'))
        with pytest.raises(IndexCorruptedError, match="update colbert_research"):
            Index.open(path)

    @pytest.mark.slow
    @pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
    def test_any_file(self, path, damage):
        for file in sorted(path.glob("*/*")):
            data = file.read_bytes()
            changed = bytearray(data)
            changed[len(data) // 2] ^= 1
            if damage == "flip":
                index = Index.open(path)
                file.write_bytes(changed)
            elif damage == "cut":
                file.write_bytes(data[:-1])
            else:
                file.unlink()
            with pytest.raises(IndexCorruptedError, match=re.escape(str(file))):
                (index.verify if damage == "flip" else lambda: Index.open(path))()
            file.write_bytes(data)
        Index.open(path).verify()

    @pytest.mark.parametrize(
        ("text", "message"), [("{", "is not JSON"), ('{"format": "something"}', "does not describe"), ("", "is not JSON")]
    )
    def test_a_manifest_that_is_none(self, path, text, message):
        (path / "manifest.json").write_text(text)
        with pytest.raises(IndexCorruptedError, match=message):
            Index.open(path)

    def test_no_folder(self, tmp_path):
        with pytest.raises(IndexMissingError, match=r"no finished index in .*nowhere"):
            Index.open(tmp_path / "nowhere")

    def test_a_reader_keeps_what_it_opened(self, path):
        index = Index.open(path)
        before = index.vectors_of(["d3"]).values.copy()
        os.rename(path / "manifest.json", path / "gone.json")
        assert np.array_equal(index.vectors_of(["d3"]).values, before)
