"""Pooling as a stage: what is computed again, what is stored, and that tokens keep their names."""

from pathlib import Path

import numpy as np
import pytest

from colbert_research.config import load_config
from colbert_research.encoders import TokenVectors
from colbert_research.encoders.pooling import POOLERS
from colbert_research.encoders.stored import open_stored
from colbert_research.experiment import Experiment, ExperimentConfig, Workspace, summarize
from colbert_research.experiment.overlaps import compare_rankings
from colbert_research.experiment.stages import pool
from colbert_research.settings import ConfigError
from tests.experiment.small import TINY, make, states, write_folder

EXACT = "codec={kind: exact} search={kind: exhaustive}"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A BEIR folder of 12 documents whose first token is in all of them."""
    return write_folder(tmp_path / "fruit", "note {i} {subject}")


def values_of(tokens: TokenVectors) -> list[bytes]:
    return [np.asarray(array).tobytes() for part in tokens for array in (part.values, part.offsets)]


def test_pooling_encodes_nothing_again(cache, folder):
    make(cache, folder).run("rank")
    pooled = make(cache, folder, "pooling.kind=ward pooling.factor=2")
    pooled.run("rank")
    changed = dict.fromkeys(("pool", "cluster", "index", "rank"), "computed")
    assert states(pooled) == {"encode documents": "cached", "encode queries": "cached"} | changed
    assert pooled.index.n_tokens == 12 * (1 + 4 // 2), "five tokens per document, the first protected, half of the others"
    assert pooled.query_vectors.lengths.tolist() == [2, 2, 2], "queries keep theirs"
    codec = make(cache, folder, "pooling.kind=ward pooling.factor=2 codec.nbits=2")
    codec.run("rank")
    assert states(codec)["pool"] == states(codec)["cluster"] == "cached"
    other = make(cache, folder, "pooling.kind=ward pooling.factor=2 pooling.definition=cosine_rows")
    assert dict(other.plan()["state"])["pool"] == "to do"


@pytest.mark.parametrize("kind", sorted(set(POOLERS) - {"none", "prune_norm"}))
def test_every_kind_runs_to_a_record(cache, folder, kind):
    share = "factor" in POOLERS[kind].model_fields
    experiment = make(cache, folder, f"pooling.kind={kind} {'pooling.factor=1.4' if share else 'pooling.threshold=1.1'}")
    assert set(experiment.record.stages) >= {"pool", "index", "rank"}
    tokens = experiment.record.index["tokens"]
    assert tokens == 12 * (1 + 2) if share else 12 <= tokens < 12 * (1 + 3)
    assert 0 < experiment.metrics["nDCG@10"] <= 1


def test_no_pooling_is_no_stage_and_no_new_name(cache, folder):
    plain = make(cache, folder)
    assert "pool" not in plain.stages
    assert "pooling" not in plain.config.identity()
    for overrides in ("pooling.kind=none", "pooling=none", "pooling={kind: none}"):
        assert make(cache, folder, overrides).id == plain.id
    pooled = make(cache, folder, "pooling.kind=sequential")
    assert pooled.id != plain.id
    assert pooled.variant("pooling.kind=none").id == plain.id
    saved = load_config(ExperimentConfig, None, pooled.config.model_dump(mode="json"))
    assert Experiment(saved, workspace=Workspace()).id == pooled.id


def test_a_name_none_that_an_axis_lacks():
    with pytest.raises(ConfigError, match=r"unknown codec kind 'none'.*Valid: centroid, exact"):
        load_config(ExperimentConfig, TINY, "codec.kind=none")


def test_a_factor_of_one_stores_the_same_bytes(cache, folder):
    for vectors in ("float32", "float16"):
        plain, same = (
            make(cache, folder, f"vectors={vectors} {pooling}") for pooling in ("", "pooling.kind=ward pooling.factor=1")
        )
        assert values_of(same.stored_documents) == values_of(plain.documents)
        assert "pool" in same.results


def test_chunks_leave_no_trace(cache, folder, tmp_path, monkeypatch):
    found = []
    for rows, name in ((65_536, "whole"), (7, "chunks")):
        monkeypatch.setattr(pool, "CHUNK_ROWS", rows)
        experiment = make(tmp_path / name, folder, "pooling.kind=kmeans pooling.factor=1.7")
        found.append(values_of(experiment.stored_documents))
    assert found[0] == found[1]


def test_the_last_stage_has_vectors_and_token_ids(cache, folder):
    overrides = ["", "reducer.kind=svd reducer.dim=8", "reducer.kind=svd reducer.dim=8 pooling.kind=prune_position"]
    encoded, reduced, pooled = (make(cache, folder, text) for text in overrides)
    assert values_of(encoded.stored_documents) == values_of(encoded.documents)
    assert reduced.stored_documents.vectors.dim == pooled.stored_documents.vectors.dim == 8
    assert values_of(reduced.stored_documents)[2:] == values_of(encoded.documents)[2:], "a projection changes no token"
    for i in range(12):
        assert np.array_equal(pooled.stored_documents.vectors[i], reduced.stored_documents.vectors[i][:3])
        assert np.array_equal(pooled.stored_documents.token_ids[i], encoded.documents.token_ids[i][:3])
    assert pooled.query_vectors.dim == 8
    assert pooled.query_vectors.n_rows == encoded.queries.vectors.n_rows


def test_the_alignment_names_the_tokens_that_are_left(cache, folder):
    experiment = make(cache, folder, f"pooling.kind=prune_idf pooling.protected=0 pooling.factor=1.25 {EXACT}")
    assert experiment.encoder.tokens(experiment.stored_documents.token_ids[1]) == ["1", "banana", "peel", "yellow"]
    table = experiment.alignment("yellow banana")
    assert (table["query_token"] == table["document_token"]).all(), "the first token of every document is gone"
    assert table["similarity"].sum() == pytest.approx(experiment.search("yellow banana").loc[1, "score"], abs=1e-4)
    merged = make(cache, folder, "pooling.kind=sequential pooling.factor=2")
    assert len(merged.plot("yellow banana").axes[0].get_yticklabels()) == 3


def test_what_was_learnt_is_kept(cache, folder):
    experiment = make(cache, folder, "pooling.kind=prune_idf pooling.factor=2")
    state = open_stored(experiment.run("pool").path).pooler_state
    assert state["document_frequency"].max() == 12
    one = TokenVectors(*(part.slice(4, 5) for part in experiment.documents))
    again = experiment.config.pooling.pool(one, state, seed=experiment.config.seed)
    assert values_of(again) == values_of(TokenVectors(*(part.slice(4, 5) for part in experiment.stored_documents)))


def test_vectors_of_one_length_stop_the_stage(cache, folder):
    with pytest.raises(ConfigError, match="prune_norm needs vectors of different lengths"):
        make(cache, folder, "pooling.kind=prune_norm").run("pool")


def test_a_wrong_factor_is_named():
    with pytest.raises(ConfigError, match=r"factor.*greater than or equal to 1.*0\.5"):
        load_config(ExperimentConfig, TINY, "pooling.kind=ward pooling.factor=0.5")


def test_a_summary_compares_with_all_tokens(cache, folder, tmp_path):
    for name, pooling in (("a", ""), ("b", "pooling.kind=prune_random pooling.factor=4")):
        make(cache, folder, f"{EXACT} {pooling}", output=tmp_path / "runs" / name).save()
    compare_rankings(tmp_path / "runs")
    table = summarize(tmp_path / "runs").set_index("pooling")
    assert list(table["tokens/document"]) == ["5.0", "2.0"]
    assert table.loc["", "overlap@10"] == "1.000"
    assert float(table.loc["prune_random 4", "overlap@10"]) < 1


def test_token_aware_centroids_are_made_of_the_tokens_that_are_left(cache, folder):
    experiment = make(cache, folder, "pooling.kind=ward pooling.factor=2 codec.method=token_aware")
    made = np.load(experiment.run("cluster").path / "centroids.npy")
    vectors, token_ids = experiment.stored_documents
    config = experiment.config
    sample, ids = np.asarray(vectors.values, np.float32), np.asarray(token_ids.values)
    assert np.array_equal(made, config.codec.cluster(sample, ids, n_tokens=len(sample), seed=config.seed))
    plain = make(cache, folder, "pooling.kind=ward pooling.factor=2").run("cluster")
    assert not np.array_equal(made, np.load(plain.path / "centroids.npy"))
    experiment.run("rank")
    assert np.array_equal(experiment.index.codec.centroids, made)
