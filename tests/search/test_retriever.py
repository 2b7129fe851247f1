"""Text in, documents out."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import colbert_research
from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.data import Collection
from colbert_research.encoders import HashingConfig, TextPipeline, TransformerConfig
from colbert_research.encoders.pooling import IdfPruningConfig, WardPoolingConfig
from colbert_research.encoders.reduce import SVDConfig
from colbert_research.index import FilterError, Index, IndexCorruptedError, IndexMissingError, build_index
from colbert_research.search import Auto, Exhaustive, Hit, Plaid, Retriever
from colbert_research.settings import ConfigError
from tests.conftest import ROOT
from tests.search.conftest import WORDS

ENCODER = HashingConfig(dim=48)


def build(path, collection, pipeline=None, codec=None, *, kept=True) -> Index:
    pipeline = pipeline or TextPipeline.of(ENCODER)
    vectors = pipeline.documents(collection.document_texts()).vectors
    codec = codec or ResidualConfig(nbits=8, centroids=16)
    return build_index(path, collection, vectors, codec, pipeline=pipeline if kept else None)


@pytest.fixture
def path(collection, tmp_path):
    return build(tmp_path / "index", collection).path


def test_it_is_found_where_one_looks():
    assert colbert_research.Retriever is Retriever
    assert colbert_research.TextPipeline is TextPipeline


def test_hits_are_documents_as_they_were_given(tmp_path):
    collection = Collection.from_texts(
        ["green tea is a drink", "whales have large hearts", "tea and cancer, a study"],
        ids=["a", "b", "c"],
        titles=["Tea", "", ""],
        metadata=[{"year": 2001}, {}, {"year": None, "tags": ["x", "é"]}],
    )
    retriever = Retriever.open(build(tmp_path / "i", collection, codec=ExactConfig()).path)
    first, second = retriever.search("a study of cancer", k=2)
    assert (first.rank, first.document_id, first.title, first.text) == (1, "c", "", "tea and cancer, a study")
    assert (second.rank, first.metadata) == (2, {"year": None, "tags": ["x", "é"]})
    assert isinstance(first.score, float) and first.score > second.score
    assert retriever.search("green tea", k=1) == [
        Hit(1, retriever.search("green tea", k=1)[0].score, "a", "Tea", "green tea is a drink", {"year": 2001})
    ]


def test_it_is_the_strategy_on_encoded_queries(path):
    retriever, texts = Retriever.open(path), ["elder note", "fig 5 grape", "iris"]
    expected = Exhaustive().search(Index.open(path), ENCODER.load().encode_queries(texts).vectors, 7)
    found = retriever.search_many(texts, k=7)
    assert [[(hit.document_id, hit.score) for hit in hits] for hits in found] == [expected.top(i) for i in range(3)]
    assert [[hit.rank for hit in hits] for hits in found] == [list(range(1, 8))] * 3
    assert retriever.search(texts[1], k=7) == found[1]
    assert retriever.search_many([]) == []


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("pooling", [None, WardPoolingConfig(factor=1.5), IdfPruningConfig(factor=1.5)])
def test_queries_are_projected_as_the_documents_were(collection, tmp_path, reduced, pooling):
    plain = TextPipeline.of(ENCODER)
    vectors = plain.documents(collection.document_texts()).vectors.values
    projection = SVDConfig(dim=10).fit(vectors, seed=0) if reduced else None
    state = pooling.fit(plain.documents(collection.document_texts())) if pooling else None
    pipeline = TextPipeline.of(ENCODER, projection=projection, pooling=pooling, state=state)
    retriever = Retriever.open(build(tmp_path / "i", collection, pipeline, ExactConfig()).path)
    for text in collection.document_texts()[::7]:
        (hit,) = retriever.search(text, k=1)
        query = ENCODER.load().encode_queries([text]).vectors.values
        if reduced:
            query = query @ projection.matrix
            query /= np.linalg.norm(query, axis=1, keepdims=True)
        document = retriever.index.vectors_of([hit.document_id]).values
        # float32 sums of at most 48 products, and of one maximum per query token
        rounding = (48 + len(query)) * np.finfo(np.float32).eps * len(query)
        assert abs(hit.score - np.max(query.astype(np.float64) @ document.T, axis=1).sum()) <= rounding


def test_only_some_documents(path):
    retriever = Retriever.open(path)
    some = ["d3", "d13", "d7"]
    assert {hit.document_id for hit in retriever.search("damson", k=10, ids=some)} == set(some)
    assert retriever.search("damson", ids=[]) == []
    with pytest.raises(KeyError, match="unknown document ids"):
        retriever.search("damson", ids=["nowhere"])


def test_only_what_a_filter_admits(tmp_path, collection):
    described = replace(collection, metadata=tuple({"number": i, "even": i % 2 == 0} for i in range(len(collection))))
    retriever = Retriever.open(build(tmp_path / "i", described).path)
    asked = {"even": True, "number": {"$lt": 10}}
    hits = retriever.search("damson", k=10, filter=asked)
    assert {hit.metadata["number"] for hit in hits} == {0, 2, 4, 6, 8}
    assert retriever.search_many(["damson", "fig"], k=10, filter=asked)[0] == hits
    assert retriever.search("damson", k=10, ids=["d3", "d4"], filter=asked)[0].document_id == "d4"
    assert hits == retriever.search("damson", k=10, ids=[f"d{i}" for i in range(0, 10, 2)])
    assert retriever.search("damson", filter={"number": {"$in": []}}) == []
    with pytest.raises(FilterError, match="an empty filter would admit every document"):
        retriever.search("damson", filter={})


@pytest.mark.parametrize("k", [1, 5, 24, 25, 1000])
@pytest.mark.parametrize("strategy", [None, Auto(exhaustive_tokens=0, ncells=1, n_exact=1)])
def test_as_many_as_a_filter_admits(tmp_path, collection, k, strategy):
    described = replace(collection, metadata=tuple({"even": i % 2 == 0} for i in range(len(collection))))
    retriever = Retriever.open(build(tmp_path / "i", described).path, strategy)
    for hits in retriever.search_many(WORDS[:3], k=k, filter={"even": True}):
        assert len(hits) == min(k, 25)
        assert all(hit.metadata["even"] for hit in hits)


@pytest.mark.parametrize("k", [1, 10, 49, 50, 1000])
@pytest.mark.parametrize("strategy", [None, Auto(exhaustive_tokens=0, ncells=1, n_exact=1)])
def test_as_many_as_there_are(path, k, strategy):
    retriever = Retriever.open(path, strategy)
    for word in WORDS:
        assert len(retriever.search(word, k=k)) == min(k, 50)


def test_a_strategy_is_handed_in(path):
    retriever = Retriever.open(path, Plaid(ncells=1, ndocs=3, n_exact=3))
    assert len(retriever.search("damson", k=3)) <= 3
    with pytest.raises(ValueError, match="k=4 results cannot come from n_exact=3"):
        retriever.search("damson", k=4)


FRESH = """
import json, sys
from colbert_research import Retriever
retriever = Retriever.open(sys.argv[1])
print(json.dumps([[hit.document_id, hit.score] for hit in retriever.search(sys.argv[2], 5)]))
"""


def in_a_fresh_process(path, text: str, cwd="/") -> list[tuple[str, float]]:
    """What another process finds that has nothing but the folder."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", FRESH, str(path), text]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd, env=variables)
    return [tuple(pair) for pair in json.loads(ran.stdout)]


def pairs(hits) -> list[tuple[str, float]]:
    return [(hit.document_id, hit.score) for hit in hits]


@pytest.mark.slow
def test_a_folder_is_all_that_a_fresh_process_needs(path, tmp_path):
    expected = pairs(Retriever.open(path).search("hazel note 27", 5))
    moved = path.rename(tmp_path / "moved")
    assert in_a_fresh_process(moved, "hazel note 27", cwd=moved) == expected


@pytest.fixture(scope="module")
def checkpoint_maker():
    """`tests/encoders/tiny.py`, which needs torch."""
    from tests.encoders.conftest import _load_tiny

    return _load_tiny()


@pytest.fixture
def model(checkpoint_maker, tmp_path):
    return checkpoint_maker.bare(tmp_path / "model")


@pytest.fixture
def trained(model, collection, tmp_path, monkeypatch):
    """The index of a small transformer, built with a relative path."""
    monkeypatch.setattr("colbert_research.encoders.settings.has_cuda", lambda: False)
    monkeypatch.chdir(tmp_path)
    config = TransformerConfig(model="model", query_length=20, document_length=30)
    return build(tmp_path / "index", collection, TextPipeline.of(config)).path


@pytest.mark.slow
def test_an_encoder_with_a_model(trained, tmp_path):
    retriever = Retriever.open(trained)
    expected = pairs(retriever.search("the diet of the heart", 5))
    assert in_a_fresh_process(trained, "the diet of the heart") == expected
    encoder = TransformerConfig(model=str(tmp_path / "model"), query_length=20, document_length=30).load()
    assert pairs(Retriever.open(trained, encoder=encoder).search("the diet of the heart", 5)) == expected


def test_a_checkpoint_that_was_trained_on_is_refused(trained, model, checkpoint_maker):
    weights = {name: value.clone() for name, value in checkpoint_maker.load_file(model / "model.safetensors").items()}
    weights["embeddings.word_embeddings.weight"][3] += 1
    checkpoint_maker.save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"the encoder as its files are now did not make these vectors"):
        Retriever.open(trained).search("heart")


def test_a_model_that_lies_elsewhere_is_handed_in(trained, model, tmp_path):
    expected = pairs(Retriever.open(trained).search("heart", 5))
    moved = model.rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"cannot be loaded on this machine: no folder .*with_model\(folder\).*with_encoder"):
        Retriever.open(trained).search("heart")
    config = TransformerConfig(model=str(moved), query_length=20, document_length=30)
    assert pairs(Retriever.open(trained, encoder=config.load()).search("heart", 5)) == expected
    index = Index.open(trained)
    assert pairs(Retriever(index, index.pipeline.with_model(moved)).search("heart", 5)) == expected


def test_another_encoder_is_refused(path):
    with pytest.raises(ConfigError, match=r"the encoder handed in did not make these vectors.*\(hashing dim=48\)"):
        Retriever.open(path, encoder=HashingConfig(dim=48, seed=1).load())


def test_an_index_of_bare_vectors(collection, tmp_path):
    index = build(tmp_path / "i", collection, kept=False)
    with pytest.raises(ConfigError) as error:
        Retriever.open(index.path)
    for part in (str(index.path), "has bare vectors", "Retriever(Index.open(path), TextPipeline.of(encoder_config))"):
        assert part in str(error.value)
    assert Retriever(index, TextPipeline.of(ENCODER)).search("banana", 1)[0].text.startswith("banana")
    with pytest.raises(TypeError, match="expected a TextPipeline"):
        Retriever(index, None)
    with pytest.raises(ConfigError, match="the pipeline gives 47 dimensions, and the index has 48"):
        Retriever(index, TextPipeline.of(HashingConfig(dim=47)))


def test_a_pipeline_that_is_not_the_indexs(path):
    index = Index.open(path)
    with pytest.raises(ConfigError, match=r"seed=1', dim 48\) did not make the vectors of .*Use index\.pipeline"):
        Retriever(index, TextPipeline.of(HashingConfig(dim=48, seed=1)))
    assert Retriever(index, TextPipeline.of(ENCODER)).search("fig", 1)


@pytest.mark.parametrize("name", ["pipeline.json", "arrays.safetensors"])
def test_a_damaged_pipeline_is_named(path, name):
    file = path / "pipeline" / name
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(IndexCorruptedError, match=f"{name} is not what the manifest says"):
        Retriever.open(path)
    shutil.rmtree(path / "pipeline")
    with pytest.raises(IndexCorruptedError, match="is missing"):
        Retriever.open(path)


def test_what_cannot_be_asked(path, tmp_path):
    retriever = Retriever.open(path)
    with pytest.raises(ValueError, match=r"a query needs at least one word; text 1 is ' \\n'"):
        retriever.search_many(["tea", " \n"])
    with pytest.raises(ValueError, match="text 0 is ''"):
        retriever.search("")
    with pytest.raises(TypeError, match=r"expected one text; given \['tea'\]. search_many takes a list"):
        retriever.search(["tea"])
    with pytest.raises(TypeError, match="Put it into a list"):
        retriever.search_many("tea")
    with pytest.raises(TypeError, match="text 1 is a int"):
        retriever.search_many(["tea", 1])
    with pytest.raises(ValueError, match="k must be at least 1; given 0"):
        retriever.search("tea", k=0)
    with pytest.raises(IndexMissingError, match="no finished index"):
        Retriever.open(tmp_path / "nowhere")
