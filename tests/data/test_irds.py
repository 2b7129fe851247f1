"""ir_datasets, replaced by a module object with the few names that are used of it."""

import sys
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from colbert_research.data import DataError, IrDatasetsConfig


class TitledDocument(NamedTuple):
    doc_id: str
    text: str
    title: str
    url: str

    def default_text(self):
        return f"{self.title} {self.text}"


class BodyDocument(NamedTuple):
    doc_id: str
    title: str
    body: str

    def default_text(self):
        return f"{self.title} {self.body}"


class WiderDocument(NamedTuple):
    doc_id: str
    title: str
    text: str
    extra_text: str

    def default_text(self):
        return f"{self.title} {self.text} {self.extra_text}"


class PlainDocument(NamedTuple):
    doc_id: str
    text: str


class Query(NamedTuple):
    query_id: str
    text: str


class Topic(NamedTuple):
    query_id: str
    title: str
    narrative: str

    def default_text(self):
        return self.title


class Judgement(NamedTuple):
    query_id: str
    doc_id: str
    relevance: int
    iteration: str = "0"


DOCUMENTS = [
    TitledDocument("d1", "grow on trees", "Apples", "http://example.org"),
    BodyDocument("d2", "Pears", "grow too"),
    WiderDocument("d3", "Plums", "as well", "indeed"),
    PlainDocument("d4", "Potatoes do not"),
]


@pytest.fixture
def registered(monkeypatch):
    """Datasets by name, as `ir_datasets.load` finds them."""

    def dataset(**parts):
        return SimpleNamespace(**{f"{part}_iter": lambda rows=rows: iter(rows) for part, rows in parts.items()})

    qrels = [Judgement("2", "d1", 1), Judgement("1", "d4", 2)]
    queries = [Query("1", "ground"), Query("0", "not judged"), Topic("2", "trees", "What grows on trees?")]
    datasets = {
        "fruit/test": dataset(docs=DOCUMENTS, queries=queries, qrels=qrels),
        "fruit/odd": dataset(docs=DOCUMENTS, queries=queries, qrels=[*qrels, Judgement("1", "d9", 1)]),
        "fruit": dataset(docs=DOCUMENTS, queries=queries),
    }
    monkeypatch.setitem(sys.modules, "ir_datasets", SimpleNamespace(load=lambda name: datasets[name]))


def test_documents_queries_and_judgements(registered):
    loaded = IrDatasetsConfig(name="fruit/test", exclude_self=True).load()
    assert (loaded.name, loaded.document_ids, loaded.exclude_self) == ("fruit/test", ("d1", "d2", "d3", "d4"), True)
    assert loaded.titles == ("Apples", "", "", "")
    assert loaded.texts == ("grow on trees", "Pears grow too", "Plums as well indeed", "Potatoes do not")
    assert loaded.document_texts() == [getattr(d, "default_text", lambda d=d: d.text)() for d in DOCUMENTS]
    assert loaded.metadata[0] == {"url": "http://example.org"}
    assert loaded.metadata[1] == {"title": "Pears", "body": "grow too"}
    assert loaded.metadata[3] == {}
    assert (loaded.query_ids, loaded.query_texts) == (("1", "2"), ("ground", "trees"))
    assert loaded.query_metadata == ({}, {"narrative": "What grows on trees?"})
    assert loaded.qrels == {"1": {"d4": 2}, "2": {"d1": 1}}


def test_unknown_judgements(registered):
    with pytest.raises(
        DataError, match=r"ir_datasets fruit/odd qrels, record 3: the document id 'd9' is not in .*fruit/odd docs"
    ):
        IrDatasetsConfig(name="fruit/odd").load()
    assert IrDatasetsConfig(name="fruit/odd", unknown_judgements="drop").load().qrels["1"] == {"d4": 2}


def test_unknown_name_and_missing_part(registered):
    with pytest.raises(DataError, match="ir_datasets has no dataset 'vegetables'"):
        IrDatasetsConfig(name="vegetables").load()
    with pytest.raises(DataError, match="the dataset 'fruit' of ir_datasets has no qrels; name one with"):
        IrDatasetsConfig(name="fruit").load()


def test_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(ImportError, match=r'pip install "colbert-research\[ir-datasets\]"'):
        IrDatasetsConfig().load()
