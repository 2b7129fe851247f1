"""An index that is made again, or whose making ended early."""

from pathlib import Path

import pytest

from colbert_research.codecs import ExactConfig
from colbert_research.data import Collection
from colbert_research.encoders import TextPipeline
from colbert_research.index import build_index
from colbert_research.rag import RAGPretrainedModel, store
from colbert_research.settings import ConfigError
from tests.rag.conftest import ENCODER, IDS, TEXTS, ids_of


def test_what_is_there_is_replaced_when_the_new_index_is_whole(indexed, tmp_path, monkeypatch):
    before = indexed.search("sea", k=3)
    with pytest.raises(FileExistsError, match="overwrite_index=True replaces it"):
        indexed.index(TEXTS[:1], index_name="things", overwrite_index=False)
    monkeypatch.setattr(store, "build_index", None)
    with pytest.raises(TypeError):
        indexed.index(TEXTS[:1], index_name="things")
    assert RAGPretrainedModel.from_index(tmp_path / "colbert/indexes/things").search("sea", k=3) == before
    monkeypatch.undo()
    indexed.index(TEXTS[:1], ["tea"], index_name="things")
    assert ids_of(indexed.search("sea")) == ["tea"]
    folder = tmp_path / "colbert/indexes"
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["things"]


@pytest.mark.parametrize("at", range(4))
def test_a_process_that_dies_leaves_the_index_as_it_was_or_as_it_should_be(indexed, tmp_path, monkeypatch, at):
    """Killed before or after either rename, or before what was there is deleted."""
    path, done = tmp_path / "colbert/indexes/things", []
    rename, rmtree = Path.rename, store.shutil.rmtree

    def counted(function):
        def call(target, *rest, **how):
            last = target.name if function is rmtree else "rename"
            if last == "rename" or (last == ".things.old" and len(done) >= 2):
                done.append(last)
                if len(done) > at:
                    raise KeyboardInterrupt
            return function(target, *rest, **how)

        return call

    monkeypatch.setattr(Path, "rename", counted(rename))
    monkeypatch.setattr(store.shutil, "rmtree", counted(rmtree))
    if at < 3:
        with pytest.raises(KeyboardInterrupt):
            indexed.index(TEXTS[:1], ["tea"], index_name="things")
    else:
        indexed.index(TEXTS[:1], ["tea"], index_name="things")
    monkeypatch.undo()
    assert len(done) == min(at + 1, 3)
    found = set(ids_of(RAGPretrainedModel.from_index(path).search("honey", k=100)))
    assert found == ({"tea"} if at >= 2 else set(IDS))
    RAGPretrainedModel.from_index(path).index(TEXTS[1:], IDS[1:])
    assert set(ids_of(RAGPretrainedModel.from_index(path).search("honey", k=100))) == {"whale", "bee"}
    assert [each.name for each in path.parent.iterdir() if each.is_dir()] == ["things"]


def test_files_of_somebody_else_are_left_alone(rag, tmp_path):
    folder = tmp_path / "colbert/indexes/things"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text("{}")
    with pytest.raises(FileExistsError, match="something else than an index of this package"):
        rag.index(TEXTS, index_name="things")
    with pytest.raises(ConfigError, match=r"things was begun by RAGatouille.*collection\.json"):
        RAGPretrainedModel.from_index(folder)
    assert (folder / "plan.json").read_text() == "{}"


def test_encoding_that_was_cut_short_goes_on(rag, monkeypatch):
    texts = [f"Document number {i}." for i in range(1100)]  # more than a shard
    encoded = []
    whole = TextPipeline.documents

    def documents(pipeline, some):
        encoded.append(len(some))
        if len(encoded) == 2:
            raise KeyboardInterrupt
        return whole(pipeline, some)

    monkeypatch.setattr(TextPipeline, "documents", documents)
    with pytest.raises(KeyboardInterrupt):
        rag.index(texts)
    rag.index(texts)
    assert encoded == [1024, 76, 76]
    rag.index(texts[:3])
    assert encoded[3:] == [3]


def test_another_index_beside_one_of_somebody_else(tmp_path):
    """Whose rule for a document's text is not the default."""
    collection = Collection(
        name="own", document_ids=("a",), titles=("Tea",), texts=("green tea",), metadata=({},), text_fields="text"
    )
    pipeline = TextPipeline.of(ENCODER, text_fields="text")
    build_index(tmp_path / "i", collection, pipeline.documents(collection.texts), ExactConfig(), pipeline=pipeline)
    rag = RAGPretrainedModel.from_index(tmp_path / "i")
    rag.add_to_index(["whales sing"], ["b"])
    assert ids_of(rag.search("whales", k=2)) == ["b", "a"]
    rag.index(TEXTS, IDS, index_name="j")
    assert ids_of(rag.search("tea", k=1)) == ["tea"]
