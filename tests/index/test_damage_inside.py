"""Files of the right size with the wrong content: no search reads past its arrays, and codecs are not mistaken for each other.

Compiled kernels trust centroid ids, offsets and inverted lists, so opening looks at them.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from colbert_research.artifacts import sha256_file
from colbert_research.codecs import ResidualConfig
from colbert_research.index import Index, IndexCorruptedError, build_index
from tests.index.conftest import CODECS, SEVERAL, N, edit_manifest

SEGMENT = "segment-000002"


@pytest.fixture
def path(tmp_path, collection, vectors) -> Path:
    return build_index(tmp_path / "i", collection, vectors, CODECS[1], build=SEVERAL).path


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("centroid_ids", 3, 8, "holds numbers from 0 to 8, expected from 0 to 7"),
        ("centroid_ids", -1, 65535, "expected from 0 to 7"),
        ("offsets", 0, 1, "do not rise from 0 to"),
        ("offsets", 2, 10**9, "do not rise from 0 to"),
        ("offsets", 2, -5, "do not rise from 0 to"),
        ("offsets", -1, 10**12, "do not rise from 0 to"),
        ("inverted_documents", 1, 10**9, "expected from 0 to"),
        ("inverted_documents", 0, -1, "holds numbers from -1"),
        ("inverted_offsets", 2, 10**9, "do not rise from 0"),
        ("inverted_offsets", 2, -1, "do not rise from 0"),
        ("inverted_offsets", -1, 10**9, r"inverted_offsets.npy is not what the manifest says"),
    ],
)
def test_a_number_out_of_range(path, name, place, value, message):
    file = path / SEGMENT / f"{name}.npy"
    array = np.load(file)
    array[place] = value
    np.save(file, array)
    with pytest.raises(IndexCorruptedError, match=message) as caught:
        Index.open(path)
    assert str(path / SEGMENT) in str(caught.value)
    assert "restore it or build again" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("centroid_ids", b"<u2", b"<f2", "holds float16 of shape"),
        ("inverse_norms", b"<f2", b"<i2", "holds int16 of shape"),
        ("residuals", b"NUMPY", b"NUMPI", "is no .npy file"),
        ("offsets", b"<i8", b"<f8", "holds float64 of shape"),
        ("inverted_documents", b"<i4", b"<f4", "holds float32 of shape"),
        ("inverted_offsets", b"<i8", b"<u8", "holds uint64 of shape"),
        ("inverted_offsets", b"NUMPY", b"NUMPI", "is no .npy file"),
    ],
)
def test_a_header_of_something_else(path, name, old, new, message):
    file = path / SEGMENT / f"{name}.npy"
    data = file.read_bytes()
    assert old in data[:128]
    file.write_bytes(data.replace(old, new, 1))
    with pytest.raises(IndexCorruptedError, match=message) as caught:
        Index.open(path)
    assert str(file) in str(caught.value)


def test_the_codec_of_another_index(path, tmp_path, collection, vectors):
    """Of the same settings, fitted with another seed: the same sizes, other centroids."""
    other = build_index(tmp_path / "other", collection, vectors, CODECS[1], seed=9, build=SEVERAL)
    shutil.copy(other.path / "codec" / "state.safetensors", path / "codec" / "state.safetensors")
    with pytest.raises(IndexCorruptedError, match=r"state\.safetensors is not what the manifest says \(SHA-256 differs\)"):
        Index.open(path)


def test_a_codec_of_other_bits(path, tmp_path, collection, vectors):
    """Even with a manifest that vouches for it: its codes have another width."""
    other = build_index(tmp_path / "other", collection, vectors, ResidualConfig(nbits=2, centroids=8), build=SEVERAL)
    shutil.rmtree(path / "codec")
    shutil.copytree(other.path / "codec", path / "codec")
    edit_manifest(path, lambda manifest: manifest.update(codec=dict(other.manifest["codec"])))
    with pytest.raises(IndexCorruptedError, match=r"residuals\.npy holds uint8 of .* the index and its codec say uint8 of"):
        Index.open(path)


def test_a_codec_of_another_width(path, tmp_path, collection, vectors):
    narrow = vectors.map(lambda values: values[:, :8])
    other = build_index(tmp_path / "other", collection, narrow, CODECS[1], build=SEVERAL)
    shutil.rmtree(path / "codec")
    shutil.copytree(other.path / "codec", path / "codec")
    edit_manifest(path, lambda manifest: manifest.update(codec=dict(other.manifest["codec"])))
    with pytest.raises(IndexCorruptedError, match="has 8 dimensions, the manifest says 16"):
        Index.open(path)


def test_a_codec_that_this_package_lacks(path):
    file = path / "codec" / "codec.json"
    file.write_text(file.read_text().replace('"residual"', '"residula"'))
    sums = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    edit_manifest(path, lambda manifest: manifest["codec"]["files"].update({"codec.json": sums}))
    with pytest.raises(ValueError, match=re.escape(f"the codec in {path / 'codec'} cannot be opened: unknown codec kind")):
        Index.open(path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m.pop("dim"),
        lambda m: m.pop("codec"),
        lambda m: m.update(segments={"a": 1}),
        lambda m: m.update(segments=None),
        lambda m: m["segments"].pop(),
        lambda m: m["segments"][0].pop("n_tokens"),
        lambda m: m["segments"][0].update(n_documents=10**6),
        lambda m: m["segments"][0]["files"]["offsets.npy"].pop("sha256"),
        lambda m: m["codec"].pop("files"),
        lambda m: m.update(version="1"),
        lambda m: m.update(n_documents=N + 1),
        lambda m: m["segments"][1].update(name="segment-000001"),
        lambda m: m["segments"][0].update(name="../elsewhere"),
        lambda m: m["codec"].update(name="/tmp"),
        lambda m: m["segments"][0]["files"].update({"../../x": {"bytes": 1, "sha256": ""}}),
    ],
)
def test_a_manifest_that_lacks_or_contradicts(path, edit):
    edit_manifest(path, edit)
    with pytest.raises(IndexCorruptedError, match=r"manifest\.json does not describe a colbert_research index"):
        Index.open(path)


def test_a_manifest_that_was_changed(path):
    file = path / "manifest.json"
    whole = file.read_text()
    for old, new in (('"n_tokens": ', '"n_tokens":  1'), ('"seed": 42', '"seed": 43'), ('"generation": 1', '"generation": 3')):
        if old in whole:
            file.write_text(whole.replace(old, new, 1))
            with pytest.raises(IndexCorruptedError, match="was changed since it was written"):
                Index.open(path)
    file.write_text(whole)
    Index.open(path)


def test_a_newer_format_need_not_have_the_same_entries(path):
    (path / "manifest.json").write_text('{"format": "colbert_research index", "version": 4, "shards": []}')
    with pytest.raises(IndexCorruptedError, match="has format version 4, this package reads up to 3; update colbert_research"):
        Index.open(path)
