"""Encoding through an executor: the bytes, the keys and the ids of one process, whoever computes and however often."""

import os

import pytest

from colbert_research.encoders.store import SHARD_DOCUMENTS
from colbert_research.executors import EXECUTORS, Resources
from colbert_research.experiment import Experiment, elsewhere
from colbert_research.settings import ConfigError
from tests.experiment.here import HereConfig
from tests.experiment.small import make, write_folder

SHARDS = 3


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(EXECUTORS, "here", HereConfig)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A collection of several shards."""
    folder = write_folder(tmp_path_factory.mktemp("many") / "fruit")
    line = '{{"_id": "x{}", "title": "", "text": "{}"}}\n'
    words = ("apple tart", "banana", "cherry and plum", "")
    more = (line.format(i, f"{words[i % 4]} {i}") for i in range((SHARDS - 1) * SHARD_DOCUMENTS))
    with open(folder / "corpus.jsonl", "a", encoding="utf-8") as file:
        file.writelines(more)
    return folder


def encoded(experiment: Experiment) -> dict[str, bytes]:
    """The files of both sides."""
    artifacts = [experiment.run(name) for name in ("encode documents", "encode queries")]
    return {f"{a.key}/{name}": (a.path / name).read_bytes() for a in artifacts for name in a.files}


@pytest.fixture(scope="module")
def whole(many, tmp_path_factory) -> dict[str, bytes]:
    """What one process makes."""
    return encoded(make(tmp_path_factory.mktemp("whole"), many))


@pytest.mark.parametrize(
    "executor",
    [
        "{kind: here}",
        pytest.param("{kind: processes}", marks=pytest.mark.slow),
        pytest.param("{kind: ray}", marks=pytest.mark.skipif(not os.environ.get("ALL_TRIALS"), reason="half a minute")),
    ],
)
def test_the_same_bytes_under_the_same_keys(cache, many, whole, executor):
    if "ray" in executor:
        pytest.importorskip("ray")
    there = make(cache, many, f"executor={executor}")
    assert encoded(there) == whole
    assert there.id == make(cache, many).id
    notes = there.run("encode documents").notes
    assert notes["executor"] in executor
    assert notes["workers"][0]["threads"] >= 1
    assert notes["peak_memory_bytes"] > 10**7
    assert not list((cache / "encode").glob(".*")), "nothing is left behind"


def test_one_continues_what_another_began(cache, many, whole, monkeypatch):
    real = elsewhere.Encoding.encode_documents

    def stop(self, texts):
        if self._next == SHARD_DOCUMENTS:
            raise KeyboardInterrupt
        return real(self, texts)

    for first, second in (("here", "inline"), ("here", "here")):
        own = cache / second
        monkeypatch.setattr(elsewhere.Encoding, "encode_documents", stop)
        with pytest.raises(KeyboardInterrupt):
            encoded(make(own, many, f"executor={first}"))
        monkeypatch.setattr(elsewhere.Encoding, "encode_documents", real)
        again = make(own, many, f"executor={second}")
        assert encoded(again) == whole
        assert again.run("encode documents").notes["resumed_at"] == SHARD_DOCUMENTS


def test_a_worker_that_would_give_other_bytes(cache, folder, monkeypatch):
    experiment = make(cache, folder, "executor=here")
    monkeypatch.setattr(elsewhere, "rounding_of", lambda config: {"device": "cpu"})
    with pytest.raises(ConfigError, match=r"this worker would encode with {'device': 'cpu'}, and encode/.* is named by {}"):
        experiment.run("encode documents")


def test_a_worker_with_another_encoder(cache, folder, monkeypatch):
    experiment = make(cache, folder, "executor=here")
    encoder = experiment.encoder
    monkeypatch.setattr(type(encoder), "fingerprint", lambda self: "0" * 12)
    with pytest.raises(ConfigError, match=r"has the fingerprint 000000000000, expected .*: its files are others here"):
        elsewhere._encoder(experiment.config.encoder, experiment.encoder_fingerprint)


def test_what_a_worker_takes(cache, folder):
    def of(overrides: str, **rounding: str) -> Resources | None:
        stage = make(cache, folder, overrides).stages["encode documents"]
        stage.settings["rounding"].update(rounding)
        return elsewhere._resources(stage)

    assert of("executor=here") is None
    light = int(0.4e9)
    assert of("executor={kind: processes, cpus: 2}") == Resources(cpus=2, memory=light)
    assert of("executor=processes", device="cuda") == Resources(cpus=1, gpus=1, memory=light)
    assert of("executor={kind: ray, gpus: 0.5, memory: 7}", device="cuda") == Resources(cpus=1, gpus=0.5, memory=7)


def test_it_is_an_axis_like_the_others(cache, folder):
    with pytest.raises(ConfigError, match=r"unknown executor kind 'rai'.*ray"):
        make(cache, folder, "executor=rai")
    with pytest.raises(ConfigError, match=r"executor.*unknown key 'worker', .*workers"):
        make(cache, folder, "executor={kind: ray, worker: 3}")
    plain, other = make(cache, folder), make(cache, folder, "executor={kind: ray, workers: 3}")
    assert plain.id == other.id
    assert {name: stage.key for name, stage in plain.stages.items()} == {n: s.key for n, s in other.stages.items()}
    assert other.config.model_dump(mode="json")["executor"]["workers"] == 3
