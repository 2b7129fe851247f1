"""First stages: the suite that each of them passes, BM25 against its formula, mean vectors by hand, TREC runs looked up."""

import builtins
import math
import re
from collections import Counter

import bm25s
import numpy as np
import pytest

from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.config import config_id
from colbert_research.data import Collection
from colbert_research.index import Scope, build_index
from colbert_research.index.build import BuildConfig
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.ranking import Ranking
from colbert_research.search import FIRST_STAGES, Exhaustive, Queries, Rerank, Trace
from colbert_research.search.bm25 import Bm25Settings
from colbert_research.search.first_stages import Bm25Stage, IgpStage, LemurStage, MeanVectorStage, SparseStage, TrecStage
from colbert_research.search.word_counts import WordCounts, split
from colbert_research.settings import ConfigError
from tests.conftest import random_ragged
from tests.search.conftest import DIM, EPS, WORDS, N, built, positions_of

K = 12

IDS = ("q0", "q1", "q2")
ALL = Scope.all(N)
TEXTS = ("apple, Banana and apple", "the unheard of zebra", "note 7 of the grape")


@pytest.fixture(scope="module")
def clustered(collection, vectors, tmp_path_factory):
    """Residual codes in several segments."""
    build, path = BuildConfig(segment_tokens=120, chunk_tokens=50), tmp_path_factory.mktemp("clustered") / "index"
    return build_index(path, collection, vectors, ResidualConfig(nbits=4, centroids=K), build=build)


def by_id(ranking, query: int) -> np.ndarray:
    """The scores of documents d0, d1, ... in this order."""
    return np.array([dict(ranking.top(query))[f"d{i}"] for i in range(N)])


@pytest.fixture
def asked(queries) -> Queries:
    return Queries(queries, IDS, TEXTS)


@pytest.fixture
def run_file(tmp_path, index, rng):
    """A run of q0 and q2 with 30 and 20 documents."""
    found = [(rng.choice(N, size, replace=False), rng.standard_normal(size)) for size in (30, 20)]
    path = tmp_path / "run.trec"
    Ranking.of(found, query_ids=("q0", "q2"), document_ids=index.document_ids).to_trec(path)
    return path


@pytest.fixture
def stages(run_file):
    return {
        "bm25": Bm25Stage(),
        "mean_vector": MeanVectorStage(),
        "lemur": LemurStage(width=32, epochs=1),
        "igp": IgpStage(nprobe=1),
        "sparse": SparseStage(atoms=24, document_atoms=2, query_atoms=3),
        "trec": TrecStage(path=str(run_file), missing="nothing"),
    }


@pytest.mark.parametrize("kind", list(FIRST_STAGES))
class TestEveryFirstStage:
    @pytest.fixture
    def index(self, index, clustered, kind):
        """With centroids, where the stage needs them."""
        return clustered if kind == "igp" else index

    def test_depth_and_subset(self, index, asked, stages, kind):
        stage = stages[kind]
        everything = stage.candidates(index, asked, N, ALL, Trace())
        scored = list(stage.scores(index, asked))
        assert all(np.all(np.diff(positions) > 0) for positions, _ in scored)
        scores = [dict(zip(p.tolist(), s.tolist(), strict=True)) for p, s in scored]
        for scope in (ALL, Scope.of(np.arange(1, N, 3), N)):
            trace = Trace()
            cut = stage.candidates(index, asked, 4, scope, trace)
            assert trace.work()["first stage"]["documents"] == sum(map(len, cut))
            for q in range(len(asked)):
                may = [p for p in everything[q].tolist() if p in scope.positions]
                expected = sorted(may, key=lambda p, q=q: (-scores[q][p], p))[:4]
                assert cut[q].tolist() == sorted(expected)
                assert cut[q].dtype == np.int64

    def test_queries_are_independent_and_nothing_is_remembered(self, index, asked, stages, kind):
        together = stages[kind].candidates(index, asked, 5, ALL, Trace())
        for q, one in enumerate(asked):
            assert np.array_equal(stages[kind].candidates(index, one, 5, ALL, Trace())[0], together[q])

    def test_through_rerank(self, index, queries, stages, kind):
        truth = np.stack([by_id(Exhaustive().search(index, queries, N), q) for q in range(len(queries))])
        strategy = Rerank(first_stage=stages[kind], depth=6)
        asked = {"query_ids": IDS, "query_texts": TEXTS}
        candidates = stages[kind].candidates(index, Queries(queries, IDS, TEXTS), 6, ALL, Trace())
        ranking = strategy.search(index, queries, 4, **asked)
        for q in range(len(queries)):
            best = sorted(candidates[q].tolist(), key=lambda d, q=q: -truth[q, d])[:4]
            assert [int(d[1:]) for d, _ in ranking.top(q)] == best
        half = strategy.search(index, queries, 4, subset=[f"d{i}" for i in range(0, N, 2)], **asked)
        candidates = stages[kind].candidates(index, Queries(queries, IDS, TEXTS), 6, Scope.of(np.arange(0, N, 2), N), Trace())
        for q in range(len(queries)):
            best = sorted(candidates[q].tolist(), key=lambda d, q=q: -truth[q, d])[:4]
            assert [int(d[1:]) for d, _ in half.top(q)] == best
        everything = strategy.exhaustive_equivalent(index).search(index, queries, N, **asked)
        assert all(len(everything.top(q)) == N for q in range(len(queries)))
        small = strategy.search(index, queries, 4, subset=["d4", "d9", "d30"], **asked)
        assert all(positions_of(small, q) == {4, 9, 30} for q in range(len(queries)))
        assert len(strategy.search(index, queries, 4, subset=[], **asked).positions) == 0


def bm25_by_hand(collection, text: str, *, k1=0.9, b=0.4) -> list[float]:
    """Lucene's formula: idf = ln(1 + (n - df + 0.5) / (df + 0.5)), tf / (tf + k1 (1 - b + b length / mean length))."""

    def words(text):
        return [w for w in re.findall(r"\w\w+", text.lower()) if w not in ("the", "of", "and")]

    documents = [Counter(words(text)) for text in collection.document_texts()]
    mean = sum(d.total() for d in documents) / len(documents)
    totals = []
    for document in documents:
        total = 0.0
        for word in words(text):
            df, tf = sum(word in d for d in documents), document[word]
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            total += idf * tf / (tf + k1 * (1 - b + b * document.total() / mean))
        totals.append(total)
    return totals


class TestBm25:
    @pytest.mark.parametrize("settings", [{}, {"k1": 1.5, "b": 0.75}])
    def test_the_formula(self, index, collection, asked, settings):
        stage = Bm25Stage(**settings)
        for text, (positions, scores) in zip(TEXTS, stage.scores(index, asked), strict=True):
            assert np.array_equal(positions, np.arange(N))
            expected = bm25_by_hand(collection, text, **settings)
            matched = np.array(expected) > 0
            # a few float32 additions of scores below 10
            assert scores[matched] == pytest.approx(np.array(expected)[matched], abs=10 * 4 * 10 * EPS)
            assert np.all(scores[~matched] == -np.inf)

    def test_documents_that_share_no_word_are_not_found(self, index, queries):
        ranking = Rerank(depth=20).search(index, queries, 20, query_texts=TEXTS)
        assert positions_of(ranking, 1) == set()
        apples = {i for i in range(N) if i % 10 in (0, 1)}
        titled = {i for i in range(0, N, 5) if WORDS[(i + 3) % 10] in ("apple", "banana")}
        assert positions_of(ranking, 0) <= apples | titled

    def test_the_same_bytes(self, index):
        for one, other in zip(built(WordCounts(), index), built(WordCounts(), index), strict=True):
            assert all(one[name].tobytes() == other[name].tobytes() for name in one)

    @pytest.mark.parametrize("settings", [{}, {"k1": 1.5, "b": 0.75, "stopwords": "none"}, {"b": 0}])
    def test_the_scores_are_those_of_bm25s_whatever_the_segments(self, index, whole, collection, settings):
        settings = Bm25Settings(**settings)
        words = split(collection.document_texts(), settings.stopwords)
        vocabulary = {word: i for i, word in enumerate(dict.fromkeys(word for each in words for word in each))}
        expected = bm25s.BM25(k1=settings.k1, b=settings.b, method="lucene")
        ids = [[vocabulary[word] for word in each] for each in words]
        expected.index((ids, vocabulary), create_empty_token=False, show_progress=False)
        for each in (index, whole):
            scored = settings.scores_of(each.structure(settings.counts()))
            assert scored.vocabulary == vocabulary
            assert np.array_equal(scored.scores, expected.scores["data"])
            assert np.array_equal(scored.documents, expected.scores["indices"])
            assert np.array_equal(scored.offsets, expected.scores["indptr"])

    def test_stop_words_can_be_kept(self, index, asked):
        assert split(["the zebra"], "none") == [["the", "zebra"]]
        assert split(["the zebra"], "english") == [["zebra"]]
        assert "of" not in index.structure(WordCounts()).vocabulary

    def test_it_needs_the_texts(self, index, queries):
        with pytest.raises(ValueError, match="looks at the words of the queries; pass query_texts"):
            Rerank().search(index, queries, 5)
        with pytest.raises(ValueError, match="3 queries, but 2 query texts"):
            Rerank().search(index, queries, 5, query_texts=["a", "b"])

    def test_without_bm25s_the_error_says_what_to_install(self, index, queries, monkeypatch):
        original = builtins.__import__

        def without(name, *args, **kwargs):
            if name == "bm25s":
                raise ImportError(name)
            return original(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(ImportError, match=r"colbert-research\[bm25\]"):
            Rerank(first_stage={"kind": "bm25", "k1": 1.1}, depth=20).search(index, queries, 5, query_texts=TEXTS)

    def test_documents_without_words(self, tmp_path):
        collection = Collection.from_texts(["?", "!", "a"], ids=["x", "y", "z"])
        vectors = Ragged(np.eye(3, DIM, dtype=np.float32), offsets_of([1, 1, 1]))
        wordless = build_index(tmp_path / "i", collection, vectors, ExactConfig(), build=BuildConfig(segment_tokens=2))
        with pytest.raises(ValueError, match="no document of the index has a word"):
            Rerank(depth=2).search(wordless, vectors, 2, query_texts=["a", "b", "c"])


def test_mean_vectors_by_hand(index, vectors, asked):
    directions = np.stack([document.mean(axis=0) / np.linalg.norm(document.mean(axis=0)) for document in vectors])
    for query, (positions, scores) in zip(asked, MeanVectorStage().scores(index, asked), strict=True):
        mean = query.vectors.values.mean(axis=0)
        assert np.array_equal(positions, np.arange(N))
        assert scores == pytest.approx(directions @ mean / np.linalg.norm(mean), abs=4 * DIM * EPS)


@pytest.mark.parametrize("kind", ["mean_vector", "lemur", "sparse", "igp"])
def test_a_document_without_tokens_is_not_found(kind, tmp_path, rng):
    lengths = np.array([0, 3, 2, 0, 4])
    vectors = random_ragged(rng, lengths, DIM)
    collection = Collection.from_texts(["text"] * 5, ids=[f"d{i}" for i in range(5)])
    built = build_index(tmp_path / "i", collection, vectors, ResidualConfig(nbits=4, centroids=2))
    lemur = LemurStage(width=8, epochs=0, sample=9)
    stage = {"mean_vector": MeanVectorStage(), "lemur": lemur, "sparse": SparseStage(), "igp": IgpStage(nprobe=9)}[kind]
    ((positions, _),) = stage.scores(built, Queries.of(vectors.slice(1, 2), None, None, dim=DIM))
    assert set(positions.tolist()) <= {1, 2, 4} and len(positions)


class TestTrec:
    def test_queries_are_looked_up_by_id(self, index, queries, run_file):
        stage = TrecStage(path=str(run_file))
        run = Ranking.from_trec(run_file, document_ids=index.document_ids)
        found = stage.candidates(index, Queries(queries.slice(0, 1), ("q2",)), 7, ALL, Trace())
        assert set(found[0].tolist()) == {int(d[1:]) for d, _ in run.truncate(7).top(1)}

    def test_a_query_that_the_file_lacks(self, index, asked, run_file):
        with pytest.raises(ValueError, match=r"no results for 1 of the 3 queries, such as \['q1'\]"):
            TrecStage(path=str(run_file)).candidates(index, asked, 5, ALL, Trace())
        found = TrecStage(path=str(run_file), missing="nothing").candidates(index, asked, 5, ALL, Trace())
        assert [len(positions) for positions in found] == [5, 0, 5]

    def test_a_run_of_another_collection(self, index, asked, tmp_path):
        (tmp_path / "other.trec").write_text("q0 Q0 elsewhere 1 2.0 tag\n")
        with pytest.raises(ValueError, match="line 1: unknown query 'q0' or document 'elsewhere'"):
            TrecStage(path=str(tmp_path / "other.trec")).candidates(index, asked, 5, ALL, Trace())

    def test_its_identity_is_what_the_file_says(self, run_file, tmp_path):
        before = config_id(Rerank(first_stage=TrecStage(path=str(run_file))))
        moved = run_file.rename(tmp_path / "moved.trec")
        assert config_id(Rerank(first_stage=TrecStage(path=str(moved)))) == before
        moved.write_text(moved.read_text().replace(" 1 ", " 1  ", 1))
        assert config_id(Rerank(first_stage=TrecStage(path=str(moved)))) != before
        with pytest.raises(ConfigError, match=r"gone.trec' is no file; give the path of a TREC run"):
            config_id(Rerank(first_stage=TrecStage(path=str(tmp_path / "gone.trec"))))


def test_rerank_refuses_what_it_cannot_give(index, queries):
    with pytest.raises(ValueError, match="k=6 results cannot come from depth=5"):
        Rerank(first_stage="mean_vector", depth=5).search(index, queries, 6)
    with pytest.raises(ValueError, match=r"unknown first_stage kind 'bm52'.*did you mean 'bm25'"):
        Rerank(first_stage="bm52")


def test_a_run_is_looked_up_by_ids_that_were_given(index, queries, run_file):
    """A text that the run never saw was answered with the documents of its query "0"."""
    strategy = Rerank(first_stage=TrecStage(path=str(run_file), missing="nothing"), depth=30)
    with pytest.raises(ValueError, match=r"looks queries up by id.*pass query_ids"):
        strategy.search(index, queries, 3)
    assert len(strategy.search(index, queries, 3, query_ids=IDS).top(0)) == 3


def test_queries_that_find_nothing_are_counted(index, queries, caplog):
    """Words in a script that BM25 does not split, or none that any document has."""
    trace = Trace()
    found = Rerank(depth=10).search(index, queries, 3, query_texts=["apple", "苹果 酒", "of the and"], trace=trace)
    assert [len(found.top(i)) > 0 for i in range(3)] == [True, False, False]
    assert "rerank: 2 of 3 queries found nothing" in trace.notes
    assert "rerank: 2 of 3 queries found nothing" in caplog.text
