"""An index that changes under a server: whoever asks gets one whole generation, the newest that can be opened."""

import shutil
import threading
from contextlib import contextmanager

import pytest

from colbert_research.encoders import HashingConfig
from colbert_research.index import Index
from colbert_research.search import Retriever
from colbert_research.serving.current import Current
from colbert_research.serving.local import Local, newest, shared
from tests.serving.served import built, client_of, collection_of, current_of, until


@pytest.fixture
def path(tmp_path):
    return built(tmp_path / "index")


def found(current, text):
    with current.use() as answering:
        return answering.answer([text], 1).hits[0][0].document_id


def test_the_newest_generation_is_put_in_place(path):
    current = current_of(path)
    assert not current.follow()
    Index.open(path).add(collection_of(10, first=30))
    assert found(current, "note 35") != "d35", "not before it is looked"
    assert current.follow()
    assert found(current, "note 35") == "d35"
    assert current.retriever.index.generation == 2
    assert not current.follow()


def test_what_generations_share_is_not_opened_again(path):
    before = shared(Retriever.open(path))
    assert newest(before) is before
    Index.open(path).add(collection_of(10, first=30))
    after = newest(before)
    assert after.index.segments[0] is before.index.segments[0]
    assert after.pipeline is before.pipeline


def test_whoever_uses_one_keeps_it_and_the_last_closes_it(path):
    events = []

    @contextmanager
    def opening(retriever):
        yield Local(retriever)
        events.append(f"closed {retriever.index.generation}")

    current = Current(shared(Retriever.open(path)), opening)
    with current.use() as old:
        Index.open(path).delete(["d3"])
        assert current.follow()
        assert "d3" in {hit.document_id for hit in old.answer(["note 3"], 30).hits[0]}
        with current.use() as new:
            assert "d3" not in {hit.document_id for hit in new.answer(["note 3"], 30).hits[0]}
        assert events == []
    assert events == ["closed 1"]
    current.close()
    assert events == ["closed 1", "closed 2"]


def test_the_end_waits_for_nobody(path):
    """And what is opened just then is closed."""
    events, opens, go = [], threading.Event(), threading.Event()

    @contextmanager
    def opening(retriever):
        if retriever.index.generation > 1:
            opens.set()
            assert go.wait(30)
        yield Local(retriever)
        events.append(f"closed {retriever.index.generation}")

    current = Current(shared(Retriever.open(path)), opening)
    Index.open(path).delete(["d3"])
    follower = threading.Thread(target=current.follow)
    with current.use():
        follower.start()
        assert opens.wait(30)
        current.close()
        assert events == ["closed 1"]
        go.set()
        follower.join()
    assert events == ["closed 1", "closed 2"]


def test_a_generation_that_cannot_be_opened_leaves_the_one_before_it(path, caplog):
    current = current_of(path)
    Index.open(path).add(collection_of(10, first=30))
    (segment,) = path.glob("segment-000002")
    moved = segment.rename(path.parent / "elsewhere")
    with client_of(current) as client:
        for _ in range(3):
            assert not current.follow()
        assert len(caplog.records) == 1, "said once"
        told = client.get("/health").json()
        assert (told["status"], told["generation"]) == ("behind", 1)
        assert told["fault"] == "generation 1 answers: the newest cannot be opened, of which the server's log says more"
        assert str(segment) in caplog.text, "no file is named to who needs no token to ask"
        assert client.post("/search", json={"query": "note 5", "k": 1}).json()["generation"] == 1
        moved.rename(segment)
        assert current.follow(), "tried again although the manifest is the same"
        assert client.get("/health").json() == {"status": "ok", "generation": 2, "documents": 40, "fault": ""}
        assert client.post("/search", json={"query": "note 35", "k": 1}).json()["generation"] == 2


def test_a_folder_that_was_replaced(path, tmp_path):
    current = current_of(path)
    shutil.rmtree(path)
    assert not current.follow()
    assert "cannot be opened" in current.fault
    assert found(current, "note 5") == "d5", "what is open stays readable"
    built(tmp_path / "new", n=40).rename(path)
    assert current.follow(), "though its generation has the same number"
    assert (current.retriever.index.n_documents, current.fault) == (40, "")
    shutil.rmtree(path)
    built(path, encoder=HashingConfig(dim=32, seed=1))
    assert not current.follow()
    assert "the encoder handed in did not make these vectors" in current.fault
    assert current.retriever.index.n_documents == 40


def test_a_server_looks_by_itself(path):
    with client_of(current_of(path), follow=0.01) as client:
        Index.open(path).delete(["d3"])
        until(lambda: client.get("/health").json()["generation"] == 2)
        assert client.get("/health").json()["documents"] == 29
