"""Experiments: one config to one record, through stages that are cached by content."""

import json
import sys

import numpy as np
import pytest

from colbert_research.cache import StageCache
from colbert_research.config import load_config
from colbert_research.experiment import Experiment, ExperimentConfig, Workspace, start
from colbert_research.kernels.cpu.prepare import decoder_of, worst_error
from colbert_research.settings import ConfigError
from tests.experiment.small import ROOT, TINY, make, states


def test_metrics_are_right(cache, folder):
    experiment = make(cache, folder)
    assert experiment.metrics["nDCG@10"] == pytest.approx(1.0)
    assert experiment.metrics["RR@10"] == 1.0
    assert experiment.metrics["R@10"] == 1.0


def test_what_a_change_computes_again(cache, folder):
    make(cache, folder).run("rank")
    codec = make(cache, folder, "codec.nbits=2")
    codec.run("rank")
    cached = dict.fromkeys(("encode documents", "encode queries", "cluster"), "cached")
    expected = cached | {"index": "computed", "rank": "computed"}
    assert states(codec) == expected
    clustering = make(cache, folder, "codec.iterations=3")
    clustering.run("rank")
    assert states(clustering) == expected | {"cluster": "computed"}
    exact = make(cache, folder, "codec={kind: exact} search={kind: exhaustive}")
    assert "cluster" not in exact.stages
    search = make(cache, folder, "search.ncells=2")
    search.run("rank")
    assert states(search) == expected | {"index": "cached"}
    reduced = make(cache, folder, "reducer.kind=svd reducer.dim=8")
    reduced.run("rank")
    assert states(reduced)["reduce"] == "computed"
    assert states(reduced)["encode documents"] == "cached"
    assert reduced.index.dim == 8
    again = make(cache, folder)
    again.run("rank")
    assert set(states(again).values()) == {"cached"}


def test_the_plan_computes_nothing(cache, folder):
    experiment = make(cache, folder)
    assert set(experiment.plan()["state"]) == {"to do"}
    assert not list(cache.rglob("*.npy"))
    experiment.run("encode queries")
    assert dict(make(cache, folder).plan()["state"])["encode queries"] == "cached"


def test_stages_are_shown_in_the_order_of_the_flow(cache, folder):
    experiment = make(cache, folder, "search.ndocs=4 search.n_exact=4 search.ncells=1 k=4 measures=[AP]")
    _ = experiment.queries
    experiment.run("rank")
    experiment.results = dict(reversed(experiment.results.items()))
    order = ["encode documents", "encode queries", "cluster", "index", "rank"]
    assert list(experiment.status().index) == list(experiment.plan().index) == order
    searched = ["probe", "candidates", "interaction", "exact"]
    assert [name for name in experiment.work_table().index if name in searched] == searched[:2] + searched[-2:]
    assert list(experiment.record.work) == list(experiment.work_table().index)


def test_artifacts_depend_on_content_not_on_place(cache, folder, tmp_path):
    make(cache, folder).run("rank")
    moved = folder.rename(tmp_path / "elsewhere")
    experiment = make(cache, moved)
    experiment.run("rank")
    assert set(states(experiment).values()) == {"cached"}
    corpus = moved / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("note 3", "note three"))
    changed = make(cache, moved)
    changed.run("index")
    assert states(changed)["encode documents"] == "computed"


def test_a_strategy_that_cannot_serve_the_index_is_named(cache, folder):
    experiment = make(cache, folder, "codec={kind: centroid, centroids: 4} search={kind: warp}")
    with pytest.raises(ValueError, match="warp needs an index whose codec has centroids and codes beside them"):
        experiment.run("rank")
    assert not list(cache.glob("structure/*")), "nothing was built for it"


def test_exclude_self(cache, folder):
    queries = folder / "queries.jsonl"
    queries.write_text(queries.read_text().replace('"q0"', '"d0"'))
    qrels = folder / "qrels" / "test.tsv"
    rows = [row for row in qrels.read_text().splitlines() if row != "q0\td0\t1"]
    qrels.write_text("\n".join(row.replace("q0\t", "d0\t") for row in rows) + "\n")
    plain, excluding = make(cache, folder), make(cache, folder, "dataset.exclude_self=true")
    assert "d0" in {d for d, _ in plain.ranking.top(0)}
    assert "d0" not in {d for d, _ in excluding.ranking.top(0)}
    assert len(excluding.ranking.top(0)) == 10


def test_an_interrupted_encoding_is_taken_up_again(cache, folder, monkeypatch):
    experiment = make(cache, folder)
    method = type(experiment.encoder).encode_queries
    monkeypatch.setattr(type(experiment.encoder), "encode_queries", lambda self, texts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        experiment.run("rank")
    monkeypatch.setattr(type(experiment.encoder), "encode_queries", method)
    again = make(cache, folder)
    again.run("rank")
    assert states(again)["encode documents"] == "cached"
    assert states(again)["encode queries"] == "computed"


@pytest.mark.parametrize("left", ["damaged rows", "another's journal", "no journal", "a projection"])
def test_a_leftover_that_cannot_be_taken_up_is_started_anew(cache, folder, monkeypatch, caplog, left):
    stage = make(cache, folder).stages["encode documents"]
    leftover = cache / "encode" / f".{stage.key}.resumes"
    with monkeypatch.context() as patch:
        patch.setattr("colbert_research.cache.StageCache._publish", lambda *_: 1 / 0)  # everything is there but the last step
        with pytest.raises(ZeroDivisionError):
            make(cache, folder).run("rank")
    if left == "damaged rows":
        data = (leftover / "vectors.npy").read_bytes()
        (leftover / "vectors.npy").write_bytes(data[:200] + bytes([data[200] ^ 4]) + data[201:])
    elif left == "another's journal":
        journal = (leftover / "journal.json").read_text()
        (leftover / "journal.json").write_text(journal.replace(json.loads(journal)["work"], "0" * 12))
    elif left == "no journal":
        (leftover / "journal.json").unlink()
    else:
        np.save(leftover / "projection.npy", np.eye(32, dtype=np.float32)[:, :4])
    again = make(cache, folder)
    again.run("rank")
    assert ("it is removed" if left == "a projection" else "it is started anew") in caplog.text
    assert again.metrics == make(cache.parent / "other", folder).metrics
    assert not list(cache.rglob("*.resumes"))


def test_a_filter_of_the_collections_metadata(cache, folder):
    corpus = folder / "corpus.jsonl"
    documents = [json.loads(line) | {"number": i} for i, line in enumerate(corpus.read_text().splitlines())]
    corpus.write_text("".join(json.dumps(document) + "\n" for document in documents))
    experiment = make(cache, folder)
    found = experiment.search("yellow banana", k=4, filter={"number": {"$lt": 5}})
    assert set(found["document_id"].tolist()[:2]) == {"d1", "d4"}
    assert set(found["document_id"]) < {f"d{i}" for i in range(5)}
    assert len(found) == 4


def test_one_new_query(cache, folder):
    experiment = make(cache, folder)
    found = experiment.search("yellow banana", k=4)
    assert {int(d[1:]) % 3 for d in found["document_id"]} == {1}
    table = experiment.alignment("yellow banana")
    assert set(table["query_token"]) == set(table["document_token"]) == {"yellow", "banana"}
    query, codec = experiment.encode_query("yellow banana").vectors[0], experiment.index.codec
    # codes are scored in integers; inverse norms of decoded vectors of length about one stay below 2
    rounded = 2 * worst_error(query, decoder_of(codec.table))
    assert table["similarity"].sum() == pytest.approx(found.loc[1, "score"], abs=rounded)
    figure = experiment.plot("yellow banana")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["yellow", "banana"]
    variant = experiment.variant("codec.nbits=1")
    assert variant.config.codec.nbits == 1
    assert variant.id != experiment.id


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("codec.nbit=2", "'nbit'.*did you mean 'nbits'"),
        ("serch.k=2", "'serch'.*did you mean 'search'"),
        ("codec.nbits=3", "1, 2, 4 or 8.*given '3'"),
        ("k=many", "k: .*integer.*given 'many'"),
        ("encoder.kind=hashin", "unknown encoder kind 'hashin'.*did you mean 'hashing'"),
        ("measures=[nDGC@10]", "nDGC@10"),
        ("k=9 measures=[R@10,AP]", r"R@10 cannot be told from k=9 documents"),
        ("measures=[alpha_nDCG@10]", "alpha_nDCG@10.*no provider is installed"),
        ("measures=['R(rel=9)@10']", r"R\(rel=9\)@10 count documents from a grade that no judgement .*\(the highest is 2\)"),
        ("latency.repeats=0", "latency.repeats.*greater than or equal to 1"),
        ("codec.nbits", "name=value"),
        ("dataset.unknown_judgements=ignore", "'error' or 'drop'"),
    ],
)
def test_a_wrong_setting_stops_before_anything_is_written(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        start(str(TINY), overrides, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_component_whose_config_would_run_another(cache, folder):
    from colbert_research.codecs import CODECS, ExactConfig

    class Mine(ExactConfig):
        """Its kind is inherited."""

    config = make(cache, folder, "codec={kind: exact} search={kind: exhaustive}").config
    with pytest.raises(ConfigError, match=r"codec: .*Mine says that its kind is 'exact', which is that of ExactConfig"):
        Experiment(config.model_copy(update={"codec": Mine()}))
    renamed = Mine.model_construct(kind="nobodys")
    with pytest.raises(ConfigError, match=r"could not be run from a config.yaml: unknown codec kind 'nobodys'"):
        Experiment(config.model_copy(update={"codec": renamed}))
    assert CODECS["exact"] is ExactConfig


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("search={kind: plaid, ndocs: 12, n_exact: 4}", "k=10 results cannot come from n_exact=4 documents"),
        ("search={kind: emvb, n_exact: 4}", "k=10 results cannot come from n_exact=4 documents"),
        ("search={kind: rerank, depth: 4}", "k=10 results cannot come from depth=4 documents"),
        ("search={kind: fast_plaid, n_full_scores: 8}", "k=10 results cannot come from a quarter of n_full_scores=8"),
        ("latency.threads=4000", "latency.threads=4000 is more than the"),
        ("codec={kind: exact} search={kind: plaid}", "search.kind=plaid needs centroids, which codec.kind=exact does not have"),
        ("codec={kind: exact} search={kind: rerank, first_stage: igp}", "search.first_stage.kind=igp needs centroids"),
        (
            "codec={kind: exact} search={kind: weighted, first_stage: sparse}",
            "search.first_stage.kind=sparse without search.first_stage.atoms needs centroids",
        ),
    ],
)
def test_what_can_be_known_at_the_start_is_refused_there(cache, folder, overrides, message):
    with pytest.raises(ValueError, match=message):
        _ = make(cache, folder, overrides).stages
    assert not (cache / "encode").exists()


def test_what_this_machine_lacks_is_said_before_anything_is_written(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    settings = f"dataset.path={folder} search={{kind: rerank}}"
    with pytest.raises(ImportError, match="BM25 needs the package bm25s"):
        start(str(TINY), settings, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_more_queries_to_time_than_there_are(cache, folder):
    with pytest.raises(ConfigError, match=r"latency.queries=4 is more than the 3 queries that there are"):
        _ = make(cache, folder, "latency.queries=4").stages


def test_an_output_is_not_overwritten_by_another_experiment(cache, folder, tmp_path):
    make(cache, folder, output=tmp_path / "out").save()
    with pytest.raises(ConfigError, match="holds the record of experiment"):
        start(str(TINY), f"dataset.path={folder}", str(tmp_path / "out"))


def test_all_configs_are_valid():
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        config = load_config(ExperimentConfig, path)
        assert load_config(ExperimentConfig, None, config.model_dump(mode="json")) == config
        config.search.check_size(10**6, config.k)


def test_the_table_of_a_config_shows_what_is_not_at_its_default():
    plain = load_config(ExperimentConfig)
    assert len(plain.table()) == 0
    settings = "search={kind: plaid, ncells: 4, centroid_score_threshold: {value: 0.4}} k=50 measures=[AP] latency.repeats=3"
    table = load_config(ExperimentConfig, None, settings).table()["value"]
    shown = {"search.kind": "plaid", "search.centroid_score_threshold.value": 0.4, "k": 50, "measures": ["AP"]}
    assert dict(table) == shown | {"latency.repeats": 3}, "ncells=4 is the default; that anything is timed is not"
    everything = load_config(ExperimentConfig, None, settings).table(full=True)["value"]
    assert everything["search.ncells"] == 4 and everything["encoder.query_length"] == 48
    assert set(table.index) < set(everything.index)
    kinds = [i for i, name in enumerate(everything.index) if name.count(".") == 1 and name.endswith(".kind")]
    assert all(i == 0 or everything.index[i - 1].split(".")[0] != everything.index[i].split(".")[0] for i in kinds)


def test_token_vectors_can_be_kept_in_half_precision(cache, folder):
    experiment = make(cache, folder, "vectors=float16")
    assert experiment.documents.vectors.values.dtype == np.float16
    assert experiment.metrics["RR@10"] == 1.0


def test_strategies_that_look_at_words_get_them(cache, folder):
    words = "search={kind: rerank, first_stage: {kind: bm25}, depth: 4} k=4 measures=[R@4]"
    experiment = make(cache, folder).variant(words)
    assert experiment.config.search.kind == "rerank"
    for query in range(3):
        assert {int(d[1:]) % 3 for d, _ in experiment.ranking.top(query)} == {query}
    assert set(experiment.search("banana", k=4)["document_id"]) == {"d1", "d4", "d7", "d10"}
    assert sum(kept["bytes"] for kept in experiment.record.index["structures"].values()) > 0


TEXTS = ["apple orchard cider", "banana peel yellow", "cherry blossom pink"]


def test_texts_of_ones_own(cache, tmp_path):
    workspace = Workspace(StageCache(cache))
    settings = "codec.centroids=4 search={kind: exhaustive} k=3 measures=[RR@3]"
    asked = {"queries": {"a": "yellow banana", "b": "who knows"}, "qrels": {"a": {"1": 1}}}
    experiment = Experiment.from_texts(TEXTS, settings, config=TINY, **asked, output=tmp_path / "o", workspace=workspace)
    assert experiment.search("pink cherry", k=1)["document_id"].item() == "2"
    assert experiment.save().metrics == {"RR@3": 1.0}
    again = Experiment(load_config(ExperimentConfig, tmp_path / "o" / "config.yaml"), workspace=workspace)
    assert again.id == experiment.id
    alone = Experiment.from_texts(
        {"x": TEXTS[0], "y": TEXTS[1]}, settings, config=TINY, workspace=workspace, output=tmp_path / "p"
    )
    assert alone.search("yellow banana", k=1)["document_id"].item() == "y"
    assert alone.save().metrics == {}
    with pytest.raises(ValueError, match="a query needs at least one word"):
        alone.search("  ")
    with pytest.raises(ValueError, match="no document at rank 9: 2 were found"):
        alone.alignment("yellow banana", rank=9)


def test_settings_of_the_dataset_reach_texts_of_ones_own(cache):
    """They were dropped in silence, mistyped ones too."""
    given = {"texts": ["tea is green", "whales"], "titles": ["ALPHA", "BETA"], "config": TINY}
    workspace = Workspace(StageCache(cache))
    settings = "search={kind: exhaustive} codec={kind: exact}"
    both = Experiment.from_texts(**given, overrides=settings, workspace=workspace)
    text = Experiment.from_texts(**given, overrides=f"{settings} dataset.text_fields=text", workspace=workspace)
    assert both.id != text.id
    assert text.documents.vectors.n_rows < both.documents.vectors.n_rows
    with pytest.raises(ConfigError, match="unknown key 'text_field', did you mean 'text_fields'"):
        Experiment.from_texts(**given, overrides="dataset.text_field=text")
    with pytest.raises(ConfigError, match="the dataset of from_texts are the texts that are given"):
        Experiment.from_texts(**given, overrides="dataset.kind=hub")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"texts": "one string"}, "texts must be a list or a mapping; given one string"),
        ({"texts": []}, "at least 1 item"),
        ({"texts": ["a", None]}, r"dataset.*texts.1: .*valid string"),
        ({"texts": ["a"], "titles": {"7": "t"}}, r"titles name documents that are not among the 1 texts, such as \['7'\]"),
        ({"texts": ["a"], "queries": ["q"], "qrels": {"0": {"9": 1}}}, "qrels of query '0' name the document '9'"),
        ({"texts": ["a"], "queries": ["q"], "qrels": {"7": {"0": 1}}}, "qrels name queries that are not among the 1 given"),
    ],
)
def test_texts_that_do_not_fit(cache, given, message):
    with pytest.raises(ValueError, match=message):
        Experiment.from_texts(**given, config=TINY, workspace=Workspace(StageCache(cache)))
