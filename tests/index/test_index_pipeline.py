"""An index that knows what made its vectors of texts."""

import re
import shutil

import numpy as np
import pytest

from colbert_research.artifacts import folder_bytes, sha256_file
from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.encoders import HashingConfig, TextPipeline
from colbert_research.encoders.pooling import IdfPruningConfig
from colbert_research.encoders.reduce import SVDConfig
from colbert_research.index import Index, IndexCorruptedError, build_index
from colbert_research.settings import ConfigError
from colbert_research.texts import document_text
from tests.index.conftest import SEVERAL, bytes_of, edit_manifest

ENCODER = HashingConfig(dim=32)
FILES = ["pipeline.json", "arrays.safetensors"]


@pytest.fixture
def pipeline(collection) -> TextPipeline:
    tokens = ENCODER.load().encode_documents(collection.document_texts())
    projection = SVDConfig(dim=12).fit(tokens.vectors.values, seed=0)
    plain = TextPipeline.of(ENCODER, projection=projection)
    pooling = IdfPruningConfig(factor=1.5)
    state = pooling.fit(plain.documents(collection.document_texts()))
    return TextPipeline.of(ENCODER, projection=projection, pooling=pooling, state=state)


@pytest.fixture
def built(tmp_path, collection, pipeline) -> Index:
    return build(tmp_path / "i", collection, pipeline)


def build(path, collection, pipeline) -> Index:
    vectors = pipeline.documents(collection.document_texts()).vectors
    return build_index(path, collection, vectors, ExactConfig(), build=SEVERAL, pipeline=pipeline)


def test_its_documents_can_be_encoded_again(built, collection, pipeline):
    index = Index.open(built.path)
    index.verify()
    assert index.pipeline.fingerprint() == pipeline.fingerprint()
    texts = [document_text(d.title, d.text, index.pipeline.text_fields) for d in index.documents(index.document_ids)]
    again, stored = index.pipeline.documents(texts).vectors, index.vectors_of(index.document_ids)
    assert np.array_equal(again.values, stored.values)
    assert np.array_equal(again.offsets, stored.offsets)
    assert index.pipeline.queries(["text 3"]).dim == index.dim == 12


def test_without_one_the_vectors_are_bare(tmp_path, collection, vectors):
    assert "pipeline" not in build_index(tmp_path / "i", collection, vectors, ExactConfig()).manifest
    assert Index.open(tmp_path / "i").pipeline is None


def test_the_same_inputs_give_the_same_bytes(built, tmp_path, collection, pipeline):
    build(tmp_path / "again", collection, pipeline)
    assert bytes_of(built.path) == bytes_of(tmp_path / "again")


def test_its_bytes_are_stated(built):
    assert built.nbytes()["total"] == folder_bytes(built.path) - (built.path / "manifest.json").stat().st_size


def test_a_pipeline_that_cannot_have_made_the_vectors(tmp_path, collection, vectors, pipeline):
    with pytest.raises(ValueError, match="the pipeline gives 12 dimensions, and the token vectors have 16"):
        build_index(tmp_path / "i", collection, vectors, ExactConfig(), pipeline=pipeline)
    other_rule = TextPipeline.of(HashingConfig(dim=16), text_fields="text")
    with pytest.raises(ValueError, match="rule for a document's text is 'text', and the collection's 'title text'"):
        build_index(tmp_path / "i", collection, vectors, ExactConfig(), pipeline=other_rule)
    with pytest.raises(TypeError, match=r"expected a TextPipeline, as TextPipeline\.of makes .*; given HashingConfig"):
        build_index(tmp_path / "i", collection, vectors, ExactConfig(), pipeline=HashingConfig(dim=16))
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_file_is_named_at_opening(built, name, damage):
    file = built.path / "pipeline" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(data if damage == "flip" else data[:-1])
    with pytest.raises(IndexCorruptedError, match=re.escape(str(file))):
        Index.open(built.path)


def vouch(path) -> None:
    """A manifest that says of the pipeline's files what they are now."""
    files = [path / "pipeline" / name for name in FILES]
    known = {file.name: {"bytes": file.stat().st_size, "sha256": sha256_file(file)} for file in files}
    edit_manifest(path, lambda manifest: manifest["pipeline"]["files"].update(known))


def test_a_pipeline_of_another_width(built):
    """Even with a manifest that vouches for it."""
    shutil.rmtree(built.path / "pipeline")
    TextPipeline.of(ENCODER).save(built.path / "pipeline")
    vouch(built.path)
    with pytest.raises(IndexCorruptedError, match="gives 32 dimensions, the manifest says 12"):
        _ = Index.open(built.path).pipeline


def test_an_encoder_that_this_package_lacks_leaves_the_vectors_usable(built):
    file = built.path / "pipeline" / "pipeline.json"
    file.write_text(file.read_text().replace('"hashing"', '"somebodys"'))
    vouch(built.path)
    index = Index.open(built.path)
    assert index.vectors_of(["d3"]).dim == 12
    with pytest.raises(ConfigError, match="unknown encoder kind 'somebodys'"):
        _ = index.pipeline


@pytest.mark.parametrize("entry", [None, [], {"name": "pipeline"}, {"files": {}}, {"name": "pipeline", "files": {"a": 1}}])
def test_a_manifest_with_half_an_entry(built, entry):
    edit_manifest(built.path, lambda manifest: manifest.update(pipeline=entry))
    with pytest.raises(IndexCorruptedError, match="does not describe a colbert_research index"):
        Index.open(built.path)


def test_a_build_that_died_with_its_pipeline_written_is_begun_anew(built, collection, pipeline):
    (built.path / "manifest.json").unlink()
    assert build(built.path, collection, pipeline).pipeline is not None


def test_titles_are_encoded_by_the_rule_of_the_collection(tmp_path):
    collection = Collection.from_texts(["green", "red"], titles=["tea", ""])
    index = build(tmp_path / "i", collection, TextPipeline.of(ENCODER))
    assert index.vectors_of(["0", "1"]).lengths.tolist() == [2, 1]
