"""Artifacts of other code are taken over where a sample of them has the same bytes today, and only there."""

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from colbert_research.artifacts import read_json
from colbert_research.cli import main
from colbert_research.experiment import stage as stage_module
from colbert_research.experiment.adopt import adopt
from colbert_research.experiment.stages.differs import DiffersError, expect_same
from tests.experiment.small import SETTINGS, TINY, make, states

EVERYTHING = "reducer={kind: svd, dim: 8} pooling={kind: prune_idf, factor: 1.5} search={kind: warp, nprobe: 8}"


@pytest.fixture
def updated(monkeypatch):
    """As if the package had been updated: every source hash is another, and all code does what it did."""
    real = stage_module.sources_of

    def update():
        monkeypatch.setattr(stage_module, "sources_of", lambda kind, settings: {**real(kind, settings), "hash": "updated"})

    return update


@pytest.mark.slow
@pytest.mark.parametrize("overrides", ["", EVERYTHING, "codec={kind: exact} search={kind: exhaustive}"])
def test_an_update_that_changes_no_bytes_costs_a_sample(cache, folder, updated, overrides):
    before = make(cache, folder, f"{overrides} latency={{}}")
    before.run("latency")
    ranking = (before.run("rank").path / "ranking.parquet").read_bytes()
    updated()
    experiment = make(cache, folder, f"{overrides} latency={{}}")
    assert set(experiment.plan()["state"]) == {"to do"}
    found = {each.stage: each for each in adopt(experiment)}
    assert {name for name, each in found.items() if each.state != "adopted"} == {"latency"}
    assert found["latency"].state == "absent"
    again = make(cache, folder, f"{overrides} latency={{}}")
    again.run("rank")
    assert set(states(again).values()) == set(again.plan()["state"][:-1]) == {"adopted"}
    made = again.save()
    assert set(made.measured["adopted"]) == {*states(again)} - {"latency"}
    assert made.table().loc["stages made by other code, a sample compared"].item().startswith("encode documents, ")
    artifact = again.run("rank")
    assert (artifact.path / "ranking.parquet").read_bytes() == ranking
    artifact.verify()
    assert artifact.notes["adopted_from"] == [before.stages["rank"].key]
    assert artifact.notes["origin"] == before.run("rank").notes["origin"], "computed by the code of then"
    assert artifact.notes["adopted"]["by"]["commit"], "compared by the code of now"
    assert artifact.notes["adopted"]["made_with"] == before.stages["rank"].sources
    assert [each.state for each in adopt(again)][:-1] == ["cached"] * (len(found) - 1)


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("encode", "vectors.npy"),
        ("reduce", "projection.npy"),
        ("pool", "vectors.npy"),
        ("pool", "token_ids.npy"),
        ("pool", "projection.npy"),
        ("cluster", "centroids.npy"),
        ("index", "index/segment-000001/inverted_documents.npy"),
        ("index", "index/segment-000001/offsets.npy"),
        ("index", "index/pipeline/arrays.safetensors"),
        ("rank", "ranking.parquet"),
    ],
)
def test_what_today_is_computed_otherwise_is_not_adopted(cache, folder, updated, kind, file):
    """The artifact is whole; the code that made it computed something else."""
    experiment = make(cache, folder, EVERYTHING)
    experiment.run("rank")
    stage = next(s for s in experiment.stages.values() if s.kind == kind and s.settings.get("side") != "queries")

    def fill(target: Path):
        source = experiment.workspace.path(stage)
        for name in experiment.workspace.find(stage).files:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(source / name, target / name)
        (target / file).unlink()
        if file.endswith(".parquet"):
            import pandas as pd

            frame = pd.read_parquet(source / file)
            frame["score"] += 1
            frame.to_parquet(target / file, index=False)
        elif file.endswith(".safetensors"):
            data = bytearray((source / file).read_bytes())
            data[-1] ^= 1
            (target / file).write_bytes(data)
        else:
            array = np.load(source / file)
            array[-2:] += np.asarray([1, 0.25 if array.dtype.kind == "f" else -1], array.dtype).reshape(
                2, *[1] * (array.ndim - 1)
            )
            np.save(target / file, array)
        return experiment.workspace.find(stage).notes

    experiment.workspace.cache.put(stage.kind, stage.key, fill)
    updated()
    found = adopt(make(cache, folder, EVERYTHING))
    bad = next(each for each in found if each.state == "differs")
    assert stage.key in bad.reason
    assert make(cache, folder, EVERYTHING).stages[bad.stage].kind == kind
    for later in found[found.index(bad) + 1 :]:
        assert later.state in ("adopted", "absent")
    assert found[-1].state != "adopted"


def test_code_that_cannot_be_compared_is_a_reason_not_a_crash(cache, folder, updated, monkeypatch):
    experiment = make(cache, folder)
    experiment.run("rank")
    updated()
    monkeypatch.setattr(type(experiment.config.codec), "fit", lambda self, sample: 1 / 0)  # its arguments are others now
    found = {each.stage: each for each in adopt(make(cache, folder))}
    assert found["index"].state == "differs"
    assert "it cannot be compared: TypeError: " in found["index"].reason
    assert found["encode documents"].state == "adopted"


def test_a_state_of_other_names_differs():
    one, two = {"a": np.zeros(2)}, {"b": np.zeros(2)}
    for stored, computed in ((one, two), (one, {**one, **two}), ({**one, **two}, one)):
        with pytest.raises(DiffersError, match=r"state: \[.*\] instead of \["):
            expect_same("state", stored, computed)
    expect_same("state", one, dict(one))


def test_nothing_to_adopt(cache, folder):
    assert {each.state for each in adopt(make(cache, folder))} == {"absent"}


def test_a_damaged_artifact_is_not_adopted(cache, folder, updated):
    artifact = make(cache, folder).run("encode documents")
    data = bytearray((artifact.path / "offsets.npy").read_bytes())
    data[-8] ^= 1
    (artifact.path / "offsets.npy").write_bytes(data)
    updated()
    (first, *_) = adopt(make(cache, folder))
    assert first.state == "differs"
    assert "SHA-256 differs" in first.reason


def test_from_the_shell(folder, updated, tmp_path, monkeypatch):
    cache = Path(os.environ["COLBERT_RESEARCH_CACHE"])
    make(cache, folder).run("rank")
    updated()
    run = CliRunner().invoke(main, ["cache", "adopt", str(TINY), f"dataset.path={folder} {SETTINGS}"])
    assert run.exit_code == 0, run.output
    assert [line.split()[-0 if False else 0] for line in run.output.splitlines()] == [
        "encode",
        "encode",
        "cluster",
        "index",
        "rank",
    ]
    assert run.output.count("adopted") == 5
    notes = read_json(next((cache / "rank").glob("*/done.json")))
    assert notes["origin"]["commit"]
    wrong = CliRunner().invoke(main, ["cache", "adopt", str(TINY), "codec.nbit=2"])
    assert wrong.exit_code == 1
    assert wrong.output.startswith(f"Error: {TINY} with its overrides is not valid: ")
