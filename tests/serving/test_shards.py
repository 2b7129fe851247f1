"""An index over shards as a caller has it: texts in, documents out, in this process and by the processes of a fleet."""

import os
import shutil
import signal
import threading
import time
from contextlib import suppress

import pytest

from colbert_research import threads
from colbert_research.executors import WorkerDiffersError
from colbert_research.executors.probe import versions
from colbert_research.index import Index, IndexMissingError
from colbert_research.search import Plaid, Retriever, Warp
from colbert_research.serving import shards, shards_search
from colbert_research.serving.base import Answering
from colbert_research.serving.fleet_asking import LEAST
from colbert_research.serving.shards import Shards
from colbert_research.serving.shards_search import Opened, look
from colbert_research.settings import ConfigError
from tests.serving.conftest import N

QUERIES = ["yellow banana", "honey", "a whale in the river", "north stone orchard", "green tea"]
PLAID = Plaid(ncells=6, ndocs=60, n_exact=30)


def test_answers_are_those_of_the_retriever(index_path):
    retriever = Retriever.open(index_path, PLAID)
    with Shards.start(index_path, "inline", shards=5, strategy=PLAID) as shards:
        answering: Answering = shards
        for asked in ({}, {"filter": {"kind": "odd"}}, {"ids": ["d3", "d200"]}, {"filter": {"number": {"$lt": 0}}}):
            answer = answering.answer(QUERIES, 7, **asked)
            assert answer.hits == retriever.search_many(QUERIES, 7, **asked)
            assert (answer.answered, answer.why) == (1.0, "")
        assert repr(shards).endswith("5 shards, 1 of 1 workers)")
        for texts, error, said in (
            (["tea", " "], ValueError, "a query needs at least one word; text 1 is ' '"),
            ("tea", TypeError, "tea"),
        ):
            with pytest.raises(error, match=said):
                answering.answer(texts, 7)


def test_a_generation_stays_as_it_was_opened(index_path, tmp_path):
    """And another one in the same folder is another fleet's."""
    path = shutil.copytree(index_path, tmp_path / "index")
    with Shards.start(path, "inline", shards=3, strategy=PLAID) as shards:
        before = shards.answer(QUERIES, 7).hits
        held = Index.open(path)
        newer = held.delete([before[0][0].document_id])
        assert shards.answer(QUERIES, 7).hits == before
        with Shards.start(path, "inline", shards=3, strategy=PLAID) as other:
            assert other.answer(QUERIES, 7).hits == Retriever(newer, newer.pipeline, PLAID).search_many(QUERIES, 7)


def test_what_a_worker_does_not_see(index_path, tmp_path):
    for opened, said in (
        (
            Opened(str(tmp_path / "nowhere"), 1, ""),
            r"does not find generation 1 of the index in .*nowhere.*folder is not shared",
        ),
        (Opened(str(index_path), 7, ""), r"does not find generation 7 .*the index was changed meanwhile"),
        (Opened(str(index_path), 1, "0123"), "sees another index in .* than this process does"),
    ):
        with pytest.raises(ConfigError, match=said):
            look((opened, PLAID))
    with pytest.raises(IndexMissingError), Shards.start(tmp_path / "nowhere", "inline"):
        pass
    with pytest.raises(ConfigError, match="unknown executor kind 'rai'"), Shards.start(index_path, "rai"):
        pass


def test_a_shard_whose_files_are_damaged_is_an_error(index_path, tmp_path, monkeypatch):
    monkeypatch.setattr(shards_search, "_open", {})
    path = shutil.copytree(index_path, tmp_path / "index")
    with Shards.start(path, "inline", shards=3, strategy=PLAID) as shards:
        monkeypatch.setattr(shards_search, "_open", {})
        (path / "segment-000002" / "residuals.npy").unlink()
        with pytest.raises(Exception, match=r"residuals\.npy"):
            shards.answer(QUERIES, 3)


def test_structures_are_there_before_workers_look_for_them(index_path, tmp_path):
    path = shutil.copytree(index_path, tmp_path / "index")
    strategy = Warp(nprobe=4)
    with Shards.start(path, "inline", shards=3, strategy=strategy) as shards:
        assert (path / "structures").is_dir()
        assert shards.answer(QUERIES, 7).hits == Retriever.open(path, strategy).search_many(QUERIES, 7)


@pytest.fixture(scope="module")
def fleet(index_path):
    """Two processes, each of which answers for all of four shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "count", lambda: 2)
        with Shards.start(index_path, "processes workers=2", shards=4, replicas=2, strategy=PLAID) as shards:
            yield shards


def pid_of(shards, number: int) -> int:
    given = Opened.of(shards.retriever.index), PLAID
    return shards.fleet.call(number, look, given).result()["pid"]


@pytest.fixture
def stopped(fleet):
    """Stops a worker of the fleet, and lets it go on after the test."""
    pids = []

    def stop(number: int) -> int:
        pids.append(pid_of(fleet, number))
        os.kill(pids[-1], signal.SIGSTOP)
        return pids[-1]

    yield stop
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def asked_until(shards, shard: int, worker: int) -> None:
    """Calls are divided such that a shard's next one goes to a worker."""
    deadline = time.monotonic() + 20
    while shards.fleet.place(shard) != worker and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shards.fleet.place(shard) == worker


@pytest.mark.slow
def test_many_callers_at_once(fleet):
    expected, found = Retriever.open(fleet.retriever.index.path, PLAID).search_many(QUERIES, 7), []

    def caller(i: int) -> None:
        for _ in range(10):
            text = i % len(QUERIES)
            answer = fleet.answer([QUERIES[text]], 7)
            found.append(answer.answered == 1 and answer.hits == [expected[text]])

    callers = [threading.Thread(target=caller, args=(i,)) for i in range(8)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert found == [True] * 80


@pytest.mark.slow
def test_who_is_late_is_left_out_and_named(fleet, stopped):
    """Nothing is missing but what belongs to the shards that are named."""
    whole = Retriever.open(fleet.retriever.index.path, PLAID).search_many(QUERIES, 30)
    asked_until(fleet, 1, 1)
    stopped(1)
    answer = fleet.answer(QUERIES, 30, deadline=2)
    assert 0 < answer.answered < 1
    late = [
        shard for shard, (start, stop) in enumerate(fleet.shards) if f"{shard} (positions {start} to {stop - 1})" in answer.why
    ]
    missing = sum(fleet.shards[shard][1] - fleet.shards[shard][0] for shard in late)
    assert answer.answered == pytest.approx(1 - missing / N, abs=1e-12)
    assert f"{len(late)} of 4 shards did not answer in 2 s" in answer.why
    gone = {f"d{i}" for shard in late for i in range(*fleet.shards[shard])}
    for query, hits in enumerate(answer.hits):
        there = [hit.document_id for hit in hits]
        assert not gone & set(there)
        assert {hit.document_id for hit in whole[query]} - gone <= set(there), "fewer are left for the same places"


@pytest.mark.slow
def test_a_second_worker_is_asked_for_what_is_late(fleet, stopped):
    hedged = Shards(fleet.retriever, fleet.fleet, fleet.shards, hedge=0.9)
    expected = Retriever.open(fleet.retriever.index.path, PLAID).search_many(QUERIES, 7)
    for _ in range(LEAST // 4 + 1):
        hedged.answer(QUERIES, 7)
    stopped(0)
    answer = hedged.answer(QUERIES, 7, deadline=20)
    assert (answer.answered, answer.hits) == (1.0, expected)


@pytest.mark.slow
def test_a_worker_is_killed_with_queries_in_hand(fleet, stopped):
    expected = Retriever.open(fleet.retriever.index.path, PLAID).search_many(QUERIES, 7)
    asked_until(fleet, 0, 0)
    pid, found = stopped(0), []
    caller = threading.Thread(target=lambda: found.append(fleet.answer(QUERIES, 7)))
    caller.start()
    time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    caller.join()
    assert (found[0].answered, found[0].hits) == (1.0, expected)
    deadline = time.monotonic() + 60
    while fleet.fleet.alive < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert fleet.fleet.alive == 2, "another one was started in its place"
    assert pid_of(fleet, 0) != pid
    assert fleet.answer(QUERIES, 7).hits == expected


@pytest.mark.slow
def test_a_deadline_beyond_what_clocks_count(fleet):
    for deadline in (1e15, float("inf")):
        assert fleet.answer(QUERIES, 7, deadline=deadline).answered == 1


def test_a_worker_of_another_version_is_refused(index_path, monkeypatch):
    """As one would be that starts in place of another after an upgrade."""
    monkeypatch.setattr(shards, "versions", lambda: {**versions(), "numpy": "0.1"}, raising=False)
    with pytest.raises(WorkerDiffersError, match=r"has numpy .*, and here it is 0\.1"), Shards.start(index_path, "inline"):
        pass


def test_an_executor_without_room(index_path):
    with (
        pytest.raises(ConfigError, match="replicas=2 of a shard are on as many workers, and there is room for 1"),
        Shards.start(index_path, "processes workers=1", shards=1, replicas=2),
    ):
        pass
