"""Changes of an index whose folder, working folder or disk is not what it was, and few descriptors to read it with."""

import os
import shutil
import subprocess
import sys
from errno import ENOSPC

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.encoders import HashingConfig, TextPipeline
from colbert_research.index import Index, IndexCorruptedError, build_index, changes
from tests.index.changing import CODEC, first, more

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="no shared locks, no limits of descriptors")


def test_a_relative_path_is_that_of_the_folder_in_which_the_index_was_opened(tmp_path, monkeypatch):
    for name in ("a", "b"):
        build_index(tmp_path / name / "rel", *first(), CODEC)
    monkeypatch.chdir(tmp_path / "a")
    index = Index.open("rel")
    monkeypatch.chdir(tmp_path / "b")
    index.add(*more(20, 1))
    assert len(Index.open(tmp_path / "a" / "rel")) == len(first()[0]) + 1
    assert len(Index.open("rel")) == len(first()[0])


@POSIX
def test_an_index_that_was_replaced_is_not_changed(tmp_path):
    index = build_index(tmp_path / "i", *first(), CODEC)
    shutil.rmtree(index.path)
    other = build_index(tmp_path / "i", *more(50, 3), CODEC)
    with pytest.raises(RuntimeError, match="deleted or replaced since this one was opened; open it again"):
        index.add(*more(20, 1))
    assert Index.open(tmp_path / "i").document_ids == other.document_ids


@pytest.mark.parametrize("keep", [1.5, "1", None, True, -1])
def test_what_is_no_number_of_generations_is_refused_before_anything_is_changed(tmp_path, keep):
    index = build_index(tmp_path / "i", *first(), CODEC)
    with pytest.raises(ValueError, match="keep is how many older generations stay"):
        index.delete(["d1"], keep=keep)
    assert Index.open(tmp_path / "i").generation == 1
    with pytest.raises(TypeError, match="generations have whole numbers"):
        Index.open(tmp_path / "i", generation="1")


def test_a_full_disk_is_told_with_what_remains(tmp_path, monkeypatch):
    index = build_index(tmp_path / "i", *first(), CODEC)

    def full(*_, **__):
        raise OSError(ENOSPC, os.strerror(ENOSPC))

    monkeypatch.setattr(changes, "added", full)
    with pytest.raises(OSError, match="at generation 1 and whole; make room, and do it again") as raised:
        index.add(*more(20, 1))
    assert (raised.value.errno, raised.value.filename) == (ENOSPC, str(tmp_path / "i"))


MANY = """
import resource, sys
from colbert_research.index import Index
from tests.index.changing import more
index = Index.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
for i in range(30):
    index = index.add(*more(100 + i, 1))
index.verify()
"""


@pytest.mark.slow
@POSIX
def test_small_segments_keep_no_descriptors(tmp_path):
    build_index(tmp_path / "i", *first(), CODEC)
    subprocess.run([sys.executable, "-c", MANY, str(tmp_path / "i")], check=True)
    assert len(Index.open(tmp_path / "i").segments) == 31


def test_documents_are_encoded_by_the_pipeline_of_the_index(tmp_path):
    pipeline = TextPipeline.of(HashingConfig(dim=8))
    texts = Collection.from_texts(["tea", "whales"], ids=["tea", "whales"])
    vectors = pipeline.documents(texts.document_texts())
    index = build_index(tmp_path / "i", texts, vectors, ExactConfig(), pipeline=pipeline)
    bees = Collection.from_texts(["bees make honey"], ids=["bees"])
    found = index.add(bees).vectors_of(["bees"])
    np.testing.assert_array_equal(found.values, pipeline.documents(["bees make honey"]).vectors.values)
    bare = build_index(tmp_path / "bare", *first(), CODEC)
    with pytest.raises(ValueError, match="does not say how a text becomes vectors"):
        bare.add(bees)


def test_names_of_metadata_are_strings():
    with pytest.raises(ValueError, match="metadata of '0': the field 1 is named by int; names of fields are strings"):
        Collection.from_texts(["tea"], metadata=[{1: 2}])


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": "colbert_research index", "version": true}'])
def test_a_manifest_that_nests_or_counts_oddly_is_called_damaged(tmp_path, text):
    index = build_index(tmp_path / "i", *first(), CODEC)
    (index.path / "manifest.json").write_text(text)
    with pytest.raises(IndexCorruptedError):
        Index.open(index.path)
