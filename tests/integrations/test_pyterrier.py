"""PyTerrier: a transformer in an experiment; no Java is needed."""

import pandas as pd
import pytest

pytest.importorskip("pyterrier")

import pyterrier as pt

from colbert_research.integrations.pyterrier import LateInteractionTransformer

TOPICS = pd.DataFrame([["q1", "animals with large hearts"], ["q2", "honey of bees"]], columns=["qid", "query"])
QRELS = pd.DataFrame([["q1", "whale", 1], ["q2", "bee", 1]], columns=["qid", "docno", "label"])


def test_the_best_passage_of_a_document_counts(retriever):
    found = LateInteractionTransformer(retriever, k=100)(TOPICS)
    assert list(found.columns) == ["qid", "query", "docno", "score", "rank", "text"]
    for qid, query in TOPICS.itertuples(index=False):
        best = {}
        for hit in retriever.search(query, 100):
            best.setdefault(hit.document_id.partition("#")[0], hit.score)
        part = found[found.qid == qid]
        assert dict(zip(part.docno, part.score, strict=True)) == best
        assert part["rank"].tolist() == [0, 1, 2]


def test_in_an_experiment_beside_another(retriever):
    tea = [["q1", "tea", 1.0, 0], ["q2", "tea", 1.0, 0]]
    other = pt.Transformer.from_df(pd.DataFrame(tea, columns=["qid", "docno", "score", "rank"]))
    systems = [LateInteractionTransformer(retriever), other]
    table = pt.Experiment(systems, TOPICS, QRELS, ["recip_rank"], names=["late interaction", "tea"])
    assert table["recip_rank"].tolist() == [1.0, 0.0]


def test_operators_and_bad_input(retriever):
    found = (LateInteractionTransformer(retriever) % 1)(TOPICS)
    assert found.docno.tolist() == ["whale", "bee"]
    assert len(LateInteractionTransformer(retriever)(TOPICS[:0])) == 0
    with pytest.raises(Exception, match="query"):
        LateInteractionTransformer(retriever)(pd.DataFrame({"qid": ["1"]}))
