"""Over HTTP, shards answer as one process does, and say what is missing."""

import pytest

from colbert_research.cli_serve import _opening
from colbert_research.executors import WorkerDiedError
from colbert_research.search import Exhaustive, Retriever
from colbert_research.serving.base import Answer
from colbert_research.serving.current import Current
from colbert_research.serving.local import shared
from tests.serving.served import WORDS, answering, built, client_of, current_of


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return built(tmp_path_factory.mktemp("served") / "index")


@pytest.mark.parametrize("executor", ["inline", pytest.param("processes workers=2", marks=pytest.mark.slow)])
def test_shards_answer_as_one_process(path, executor):
    asked = {"queries": WORDS[:4], "k": 7, "filter": {"even": True}, "deadline_ms": 60_000}
    with client_of(current_of(path)) as client:
        expected = client.post("/search", json=asked).json()
    current = Current(shared(Retriever.open(path, Exhaustive())), _opening(3, executor, 1, None))
    with client_of(current) as client:
        found = client.post("/search", json=asked)
    assert found.status_code == 200
    assert found.json()["results"] == expected["results"]
    assert (found.json()["answered"], found.json()["why"]) == (1.0, "")


def test_what_did_not_answer_in_time_is_said(path):
    late = lambda answer, texts, *asked: Answer(answer(texts, *asked).hits, 0.75, "1 of 4 shards did not answer")  # noqa: E731
    with answering(path, late) as client:
        reply = client.post("/search", json={"query": "fig", "k": 1}).json()
        assert (reply["answered"], reply["why"]) == (0.75, "1 of 4 shards did not answer")
        assert "0.75" in client.get("/metrics").text


def test_shards_without_workers_are_said_to_be(path, caplog):
    def dead(answer, texts, *asked):
        raise WorkerDiedError("3 workers died with 1 queries to documents 0 to 9 of /a/secret/place in hand")

    with answering(path, dead) as client:
        reply = client.post("/search", json={"query": "fig", "k": 1})
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
    sentence, _, number = reply.json()["error"].removesuffix("; try again").rpartition(" ")
    assert sentence == "shards of the index have lost their workers, of which the server's log says more under"
    assert f"error {number}: 3 workers died with 1 queries to documents 0 to 9 of /a/secret/place" in caplog.text
