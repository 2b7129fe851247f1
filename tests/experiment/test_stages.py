"""Stages are values: equal, hashable, pickled, planned without loading anything, computed by whoever has them."""

import logging
import pickle
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from colbert_research import fingerprints
from colbert_research.cache import StageCache
from colbert_research.config import load_config
from colbert_research.experiment import Experiment, ExperimentConfig, Workspace
from colbert_research.experiment import stage as stage_module
from colbert_research.experiment.sources import SourceChangedError
from colbert_research.experiment.stage import Stage, union
from colbert_research.experiment.workspace import DataChangedError
from tests.experiment.small import ROOT, TINY, make

GRID = [
    f"codec.nbits={nbits} codec.centroids={k} search.ncells={cells}"
    for nbits in (1, 2, 4, 8)
    for k in (4, 5, 6, 7, 8, 9, 10, 11, 12)
    for cells in (2, 4)
]


def compute(stage: Stage, root: Path) -> str:
    return Workspace(StageCache(root)).run(stage)[0].key


def test_they_are_equal_by_kind_and_key(cache, folder):
    one, other = (make(cache, folder).stages for _ in range(2))
    assert one == other
    assert one["index"] is not other["index"]
    assert len({*one.values(), *other.values()}) == len(one)
    assert make(cache, folder, "codec.nbits=1").stages["index"] != one["index"]
    assert one["encode documents"] != one["encode queries"]


@pytest.mark.slow
def test_another_process_computes_a_pickled_stage_with_what_it_needs(cache, folder):
    stage = make(cache, folder).stages["rank"]
    copied = pickle.loads(pickle.dumps(stage))
    assert copied == stage
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(compute, stage, cache).result(timeout=120) == stage.key
    experiment = make(cache, folder)
    experiment.run("rank")
    assert set(experiment.status()["state"]) == {"cached"}


def test_a_worker_with_other_code_refuses(cache, folder, monkeypatch):
    stage = pickle.loads(pickle.dumps(make(cache, folder).stages["encode documents"]))
    assert stage.key
    real = stage_module.sources_of
    monkeypatch.setattr(stage_module, "sources_of", lambda kind, settings: {**real(kind, settings), "hash": "other"})
    with pytest.raises(SourceChangedError, match=f"{stage.name} was planned with other code"):
        Workspace(StageCache(cache)).run(stage)


def test_a_plan_of_many_is_their_union(cache, folder):
    workspace = Workspace(StageCache(cache))
    experiments = [make(workspace, folder, overrides) for overrides in GRID]
    stages = union(stage for experiment in experiments for stage in experiment.stages.values())
    counts = {kind: sum(stage.kind == kind for stage in stages) for kind in ("encode", "cluster", "index", "rank")}
    assert counts == {"encode": 2, "cluster": 9, "index": 36, "rank": 72}
    place = {stage: i for i, stage in enumerate(stages)}
    assert all(place[needed] < place[stage] for stage in stages for needed in stage.inputs.values())


def test_a_grid_in_one_process_loads_one_encoder_and_one_collection(cache, folder, monkeypatch):
    loads = {"encoder": 0, "collection": 0}
    config = load_config(ExperimentConfig, TINY, f"dataset.path={folder}")
    for name, part in (("encoder", config.encoder), ("collection", config.dataset)):
        real = type(part).load

        def counted(self, name=name, real=real):
            loads[name] += 1
            return real(self)

        monkeypatch.setattr(type(part), "load", counted)
    workspace = Workspace(StageCache(cache))
    for overrides in GRID[:4]:
        assert make(workspace, folder, overrides).metrics["RR@10"] > 0
    assert loads == {"encoder": 1, "collection": 1}


@pytest.mark.slow
def test_planning_imports_no_framework():
    program = f"""
import sys
from colbert_research.config import load_config
from colbert_research.experiment import Experiment, ExperimentConfig
Experiment(load_config(ExperimentConfig, {str(ROOT / "configs" / "exact.yaml")!r})).plan()
print([name for name in ("torch", "transformers", "sentence_transformers", "faiss", "datasets") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_corpus_that_did_not_change_is_not_read_again(cache, folder, monkeypatch):
    monkeypatch.setattr(fingerprints.time, "time_ns", lambda now=time.time_ns: now() + 60 * 10**9)  # they have settled
    first = make(cache, folder)
    facts = first.facts
    with monkeypatch.context() as patch:
        patch.setattr(type(first.config.dataset), "load", lambda self: 1 / 0)
        again = make(cache, folder)
        assert again.facts == facts
        assert again.stages == first.stages
        assert again.id == first.id
    corpus = folder / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("note 3", "note 8"))
    changed = make(cache, folder)
    assert changed.facts.fingerprint != facts.fingerprint
    assert changed.id != first.id
    assert changed.stages["encode documents"] != first.stages["encode documents"]
    assert changed.stages["encode queries"] == first.stages["encode queries"]


def test_a_corpus_that_was_edited_is_seen_by_a_process_that_goes_on(cache, folder):
    """The next experiment of the same workspace read the judgements of before, without a word."""
    workspace = Workspace(StageCache(cache))
    before = make(workspace, folder)
    assert before.metrics["RR@10"] == 1.0
    judgements = folder / "qrels" / "test.tsv"
    judgements.write_text("query-id\tcorpus-id\tscore\nq0\td1\t1\n")
    after = make(workspace, folder)
    assert after.id != before.id
    assert after.facts.n_judgements == 1
    assert after.metrics["RR@10"] < 1.0
    assert after.metrics == make(cache, folder).metrics


def test_a_stage_that_was_planned_elsewhere_for_what_the_files_hold_now(cache, folder):
    """A workspace that had read them before handed out what it had read."""
    workspace = Workspace(StageCache(cache))
    old = workspace.collection(make(workspace, folder).config.dataset)
    corpus = folder / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("note 3", "note 8"))
    stage = make(cache, folder).stages["encode documents"]
    assert workspace.collection_of(stage).texts != old.texts


def test_a_collection_that_changes_between_plan_and_run(cache, folder):
    workspace = Workspace(StageCache(cache))
    planned, late, corpus = make(workspace, folder), make(workspace, folder), folder / "corpus.jsonl"
    stages = planned.stages
    workspace._collections.clear()  # as where the fingerprint is remembered, and the files are not read to plan
    corpus.write_text(corpus.read_text().replace("note 3", "note 8"))
    with pytest.raises(DataChangedError, match=r"is not the one that encode/.* was planned for"):
        planned.run("rank")
    with pytest.raises(DataChangedError, match="'fruit' was changed since this experiment was made"):
        _ = late.stages
    with pytest.raises(DataChangedError, match="'fruit' was changed since this experiment was made"):
        _ = planned.collection
    with pytest.raises(DataChangedError, match=r"is not the one that encode/.* was planned for"):
        Workspace(StageCache(cache)).run(stages["encode documents"])
    assert list((cache / "encode").iterdir()) == []


def test_an_encoder_that_changes_between_plan_and_run(cache, folder):
    planned = make(cache, folder)
    stage = planned.stages["encode documents"]
    other = make(cache, folder, "encoder.seed=4").config.encoder
    with pytest.raises(DataChangedError, match=r"encoder's files were changed since encode/.* was planned"):
        planned.workspace.encoder_of(replace(stage, means={**stage.means, "encoder": other}))


def test_a_workspace_outlives_its_cache(cache, folder):
    workspace = Workspace(StageCache(cache))
    before = make(workspace, folder).metrics
    shutil.rmtree(cache)
    assert make(workspace, folder).metrics == before
    assert make(workspace, folder, "codec.nbits=1").metrics["RR@10"] > 0


def test_bytes_do_not_depend_on_the_threads_of_blas(cache, folder, monkeypatch):
    """With several, BLAS cuts products otherwise."""
    from threadpoolctl import threadpool_info, threadpool_limits

    experiment, seen = make(cache, folder, "reducer={kind: svd, dim: 8} search={kind: muvera} latency={}"), {}
    for name, stage in experiment.stages.items():

        def counted(*given, name=name, real=stage.module.compute):
            seen[name] = {entry["num_threads"] for entry in threadpool_info() if entry["user_api"] == "blas"}
            return real(*given)

        monkeypatch.setattr(stage.module, "compute", counted)
    with threadpool_limits(limits=2, user_api="blas"):
        experiment.save()
    assert seen.pop("latency") == {experiment.results["latency"][0].notes["threads"]}
    assert seen and set(map(frozenset, seen.values())) == {frozenset({1})}


def test_fresh_computes_everything_once_more(cache, folder):
    make(cache, folder).run("rank")
    workspace = Workspace(StageCache(cache), fresh=True)
    fresh = make(workspace, folder)
    fresh.run("rank")
    assert set(fresh.status()["state"]) == {"computed"}
    variant = make(workspace, folder, "codec.nbits=1")
    variant.run("rank")
    assert variant.status()["state"]["encode documents"] == "cached", "once for each workspace"
    assert set(make(cache, folder).plan()["state"]) == {"cached"}


def test_two_threads_count_differently_rank_the_same(cache, folder, tmp_path):
    from colbert_research.threads import available, pinned_threads

    found = []
    for threads in (1, available()):
        with pinned_threads(threads):
            found.append((make(tmp_path / str(threads), folder).run("rank").path / "ranking.parquet").read_bytes())
    assert found[0] == found[1]


def test_token_ids_and_projection_travel_with_the_vectors(cache, folder):
    settings = "reducer={kind: svd, dim: 8, centre: true} pooling={kind: prune_position}"
    experiment = make(cache, folder, settings)
    experiment.run("index")
    from colbert_research.encoders.stored import open_stored

    reduced, pooled = (open_stored(experiment.run(name).path) for name in ("reduce", "pool"))
    same = dict.fromkeys(("projection", "mean"), True)
    for other in (pooled.projection, experiment.index.pipeline.projection):
        parts = other.arrays()
        assert {name: np.array_equal(array, parts[name]) for name, array in reduced.projection.arrays().items()} == same
    assert reduced.tokens.token_ids.n_rows == reduced.tokens.vectors.n_rows
    import shutil

    for kind in ("encode", "reduce", "pool", "cluster"):  # the index has all that a search needs
        for path in (cache / kind).iterdir():
            if path != experiment.run("encode queries").path:
                shutil.rmtree(path)
    again = make(cache, folder, settings)
    artifact, hit = again.workspace.run(again.stages["rank"])
    assert not hit
    assert artifact.notes["queries"] == 3


def test_who_waits_for_a_stage_says_so(cache, folder, caplog, monkeypatch):
    from colbert_research.locks import LockedError, locked

    caplog.set_level(logging.INFO, "colbert_research")
    monkeypatch.setenv("COLBERT_RESEARCH_WAIT", "0.2")
    experiment = make(cache, folder)
    stage = experiment.stages["encode documents"]
    lock = cache / "encode" / f".{stage.key}.lock"
    with locked(lock, "another run"), pytest.raises(LockedError, match=rf"encode {stage.key}: waited 0.2 s for process \d+ on"):
        experiment.run("encode documents")
    assert f"encode {stage.key}: waiting for process" in caplog.text
    assert Experiment(experiment.config, workspace=Workspace(StageCache(cache))).run("encode documents")
