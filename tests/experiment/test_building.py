"""An index whose segments workers write: the bytes, the keys and the ids of one process, whoever computes and however often."""

import os

import pytest

from colbert_research.executors import EXECUTORS, Resources
from colbert_research.experiment import Experiment, building
from tests.experiment.here import HereConfig
from tests.experiment.small import make

SEVERAL = "index.segment_tokens=12 index.chunk_tokens=5"
CODECS = (
    "codec={kind: residual, nbits: 4, centroids: 8}",
    "codec={kind: exact} search.kind=exhaustive",
    "codec={kind: product, m: 4} search.kind=exhaustive",
)


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(EXECUTORS, "here", HereConfig)


def files_of(experiment: Experiment) -> dict[str, bytes]:
    artifact = experiment.run("index")
    return {f"{artifact.key}/{name}": (artifact.path / name).read_bytes() for name in artifact.files}


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
def test_the_same_bytes_under_the_same_keys(cache, folder, codec):
    plain = make(cache / "one", folder, (codec, SEVERAL))
    there = make(cache / "other", folder, (codec, SEVERAL, "executor=here"))
    assert files_of(there) == files_of(plain)
    assert there.id == plain.id
    assert len(there.index.segments) > 2
    there.index.verify()
    notes, own = there.run("index").notes, plain.run("index").notes
    assert {name: notes[name] for name in ("tokens", "bytes", "anisotropy")} == {
        name: own[name] for name in ("tokens", "bytes", "anisotropy")
    }
    assert (notes["executor"], len(notes["workers"])) == ("here", 1)
    assert not list((cache / "other" / "index").glob(".*")), "nothing is left behind"


@pytest.mark.parametrize(
    "executor",
    [
        pytest.param("processes", marks=pytest.mark.slow),
        pytest.param("ray", marks=pytest.mark.skipif(not os.environ.get("ALL_TRIALS"), reason="half a minute")),
    ],
)
def test_by_other_processes(cache, folder, executor):
    if executor == "ray":
        pytest.importorskip("ray")
    plain = make(cache / "one", folder, (CODECS[0], SEVERAL))
    there = make(cache / "other", folder, (CODECS[0], SEVERAL))
    there.run("cluster")
    again = make(cache / "other", folder, (CODECS[0], SEVERAL, f"executor={{kind: {executor}, workers: 1}}"))
    assert files_of(again) == files_of(plain)


def test_one_segment_is_built_without_workers(cache, folder):
    assert "workers" not in make(cache, folder, "executor=here").run("index").notes


def test_one_that_is_interrupted_leaves_nothing(cache, folder, monkeypatch):
    real, calls = building.write_segment, []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    plain = files_of(make(cache / "one", folder, SEVERAL))
    monkeypatch.setattr(building, "write_segment", stop)
    with pytest.raises(KeyboardInterrupt):
        files_of(make(cache / "other", folder, (SEVERAL, "executor=here")))
    monkeypatch.setattr(building, "write_segment", real)
    assert files_of(make(cache / "other", folder, (SEVERAL, "executor=here"))) == plain


def test_what_a_worker_takes(cache, folder):
    def of(overrides: str) -> Resources | None:
        experiment = make(cache, folder, overrides)
        stage = experiment.stages["index"]
        return building._resources(stage, experiment.documents.vectors)

    assert of("executor=here") is None
    taken = of("executor={kind: processes, cpus: 2}")
    assert taken.cpus == 2
    assert taken.memory > int(0.4e9)
    assert of("executor={kind: ray, memory: 7}") == Resources(memory=7)
