"""mteb runs the models of this package's encoders as they are, and comes to the same figures."""

import warnings

import pytest

pytest.importorskip("mteb")

import mteb
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from colbert_research.codecs import ExactConfig
from colbert_research.data import BeirConfig
from colbert_research.encoders import TextPipeline, TransformerConfig
from colbert_research.evaluation import evaluate
from colbert_research.index import build_index
from colbert_research.search import Exhaustive


class Bundled(AbsTaskRetrieval):
    """The bundled collection as a task."""

    metadata = TaskMetadata(
        name="Bundled",
        dataset={"path": "none/none", "revision": "1"},
        type="Retrieval",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        description="Passages written for a demonstration.",
    )

    def load_data(self, *_, **__):
        given = BeirConfig().load()
        rows = zip(given.document_ids, given.titles, given.texts, strict=True)
        split = {
            "corpus": Dataset.from_list([{"id": i, "title": title, "text": text} for i, title, text in rows]),
            "queries": Dataset.from_list(
                [{"id": i, "text": text} for i, text in zip(given.query_ids, given.query_texts, strict=True)]
            ),
            "relevant_docs": {query: dict(grades) for query, grades in given.qrels.items()},
            "top_ranked": None,
        }
        self.dataset, self.data_loaded = {"default": {"test": split}}, True


@pytest.fixture
def config(tmp_path, monkeypatch):
    from tests.encoders.conftest import _load_tiny

    monkeypatch.setattr("colbert_research.encoders.settings.has_cuda", lambda: False)
    return TransformerConfig(model=str(_load_tiny().bare(tmp_path / "model")), query_length=20, document_length=60)


@pytest.mark.slow
def test_equal_figures(config, tmp_path):
    collection = BeirConfig().load()
    pipeline = TextPipeline.of(config)
    index = build_index(tmp_path / "i", collection, pipeline.documents(collection.document_texts()), ExactConfig())
    ranking = Exhaustive().search(index, pipeline.queries(collection.query_texts), 100, query_ids=collection.query_ids)
    expected = evaluate(ranking, collection.qrels, ["nDCG@10", "R@100"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of mteb and of what it imports
        found = mteb.evaluate(pipeline.encoder.model, Bundled(), cache=None, encode_kwargs={"show_progress_bar": False})
    scores = found.task_results[0].scores["test"][0]
    means = expected.groupby("measure")["value"].mean()
    for measure, theirs in {"nDCG@10": "ndcg_at_10", "R@100": "recall_at_100"}.items():
        assert abs(means[measure] - scores[theirs]) <= 0.5e-5, measure  # they round to five digits
        assert means[measure] > 0.01
