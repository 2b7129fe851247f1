"""Fleets of workers that are threads: what dies, is late or does not start, and what is said of it."""

import logging
import threading
import time
from concurrent.futures import Future

import pytest

from colbert_research.executors import NotBegunError, WorkerDiedError, WorkerDiffersError
from colbert_research.serving import fleet as fleets
from colbert_research.serving import fleet_asking
from colbert_research.serving.fleet import Fleet
from colbert_research.serving.fleet_asking import LEAST, Hedge, ask
from colbert_research.serving.placing import homes
from colbert_research.settings import ConfigError


class Threaded:
    """A worker that does what the script of its executor says of an item: a value to answer with, or an event to wait for, or
    the error of a death."""

    def __init__(self, executor, number):
        self.executor, self.number, self.where = executor, number, f"machine {number % 2}"
        self.dead, self.closed = False, False

    def call(self, function, item):
        future = Future()
        threading.Thread(target=self._perform, args=(function, item, future), daemon=True).start()
        return future

    def _perform(self, function, item, future):
        with self.executor.lock:
            self.executor.asked.append((self.number, item))
            script = self.executor.script.get(self.number, [])
            act = script.pop(0) if script else None
        if isinstance(act, threading.Event):
            act.wait(30)
        if not future.set_running_or_notify_cancel():
            return
        self.executor.performed.append(item)
        if act == "dies before":
            future.set_exception(NotBegunError(f"worker {self.number} was killed"))
            return
        if act == "dies":
            self.dead = True
        if self.dead:
            future.set_exception(WorkerDiedError(f"worker {self.number} was killed"))
        else:
            try:
                future.set_result(function(item))
            except ValueError as error:
                future.set_exception(error)

    def close(self):
        self.closed = True


class Threads:
    """An executor. `script`: worker -> what it does with one call after another; `refuses`: what starting raises, in turn."""

    def __init__(self, script=None):
        self.script, self.refuses, self.asked, self.made, self.lock = script or {}, [], [], [], threading.Lock()
        self.performed = []

    def worker(self, resources=None, *, number=0):
        if self.refuses and len(self.made) >= self.first:
            error = self.refuses.pop(0)
            if error is not None:
                raise error
        self.made.append(Threaded(self, number))
        return self.made[-1]

    first = 0


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(fleets, "PAUSES", (0.01,))


def double(item):
    if item == 13:
        raise ValueError("13 is refused")
    return 2 * item


def started(executor, workers, shards, replicas=1, prepare=lambda worker: None):
    return Fleet(executor, prepare, workers=workers, shards=shards, replicas=replicas)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


def test_homes_are_on_different_machines_and_shared_evenly():
    assert homes(["a", "a", "b", "b"], 4, 2) == [[0, 2], [1, 3], [0, 2], [1, 3]]
    assert homes(["a", "a", "b"], 2, 2) == [[0, 2], [1, 2]]
    for where in (["a"] * 5, ["a", "b", "c", "a", "b", "c"]):
        found = homes(where, 7, 3)
        assert all(len(set(each)) == 3 for each in found)
        loads = [sum(worker in each for each in found) for worker in range(len(where))]
        assert max(loads) - min(loads) <= 1
        assert len(set(where)) < 3 or all(len({where[worker] for worker in each}) == 3 for each in found)


def test_every_shard_is_asked_at_home():
    executor = Threads()
    fleet = started(executor, 2, 4)
    assert ask(fleet, double, {0: 10, 1: 11, 2: 12, 3: 1}, hedge=Hedge()) == {0: 20, 1: 22, 2: 24, 3: 2}
    assert sorted(executor.asked) == [(0, 10), (0, 12), (1, 1), (1, 11)]
    with pytest.raises(ValueError, match="13 is refused"):
        ask(fleet, double, {0: 13, 1: 11}, hedge=Hedge())
    fleet.close()
    assert all(worker.closed for worker in executor.made)


def test_others_answer_for_a_worker_that_dies_until_there_is_another(caplog):
    executor = Threads({0: ["dies"]})
    executor.first, gate = 2, threading.Event()
    real = executor.worker
    executor.worker = lambda resources=None, *, number=0: (len(executor.made) < 2 or gate.wait(30)) and real(number=number)
    fleet = started(executor, 2, 2)
    assert ask(fleet, double, {0: 10, 1: 11}, hedge=Hedge()) == {0: 20, 1: 22}
    assert (fleet.alive, len(fleet)) == (1, 2)
    assert [number for number, item in executor.asked if item == 10] == [0, 1]
    assert "a worker of shards [0] is gone (worker 0 was killed); others answer for it" in caplog.text
    gate.set()
    until(lambda: fleet.alive == 2)
    assert executor.made[0].closed, "what is left of the dead one is removed"
    ask(fleet, double, {0: 5}, hedge=Hedge())
    assert executor.asked[-1] == (0, 5)
    fleet.close()


def test_a_deadline_leaves_out_who_is_late():
    late = threading.Event()
    executor = Threads({1: [late]})
    fleet = started(executor, 2, 2)
    begun = time.monotonic()
    assert ask(fleet, double, {0: 10, 1: 11}, until=begun + 0.1, hedge=Hedge()) == {0: 20}
    assert ask(fleet, double, {0: 10}, until=begun, hedge=Hedge()) == {}
    assert fleet.place(1, besides=[0]) == 1
    late.set()
    assert ask(fleet, double, {0: 10, 1: 12}, hedge=Hedge()) == {0: 20, 1: 24}
    assert 11 not in executor.performed, "nobody waits for it any more"
    fleet.close()


def test_what_is_withdrawn_is_counted_until_the_worker_answers():
    """One that does not answer would have the fewest calls, and be asked again and again."""
    late = threading.Event()
    executor = Threads({0: [late]})
    fleet = started(executor, 2, 1, replicas=2)
    assert ask(fleet, double, {0: 10}, until=time.monotonic() + 0.05, hedge=Hedge()) == {}
    assert fleet.place(0) == 1
    assert fleet.call(0, double, 11).result(timeout=30) == 22
    until(lambda: fleet.place(0) == 0)
    late.set()
    fleet.close()


def test_a_deadline_that_passes_while_this_process_answers(monkeypatch):
    """A worker in the process of who asks performs each call before it is asked for the next."""
    now = [0.0]

    class Here:
        where = "this process"

        def call(self, function, item):
            now[0] += 1
            future = Future()
            future.set_result(function(item))
            return future

        def close(self):
            pass

    class Inline:
        def worker(self, resources=None, *, number=0):
            return Here()

    monkeypatch.setattr(fleet_asking.time, "monotonic", lambda: now[0])
    fleet = started(Inline(), 1, 9)
    assert ask(fleet, double, {i: i for i in range(9)}, until=3.5, hedge=Hedge()) == {0: 0, 1: 2, 2: 4, 3: 6}
    fleet.close()


def test_who_waits_for_a_worker_is_told_that_there_will_be_none():
    """When the fleet is closed; he waited without end."""
    executor, gate, told = Threads({0: ["dies"]}), threading.Event(), []
    real = executor.worker
    executor.worker = lambda resources=None, *, number=0: (not executor.made or gate.wait(30)) and real(number=number)
    fleet = started(executor, 1, 1)

    def waits():
        with pytest.raises(WorkerDiedError, match="the workers were closed"):
            ask(fleet, double, {0: 7}, hedge=Hedge())
        told.append(True)

    waiting = threading.Thread(target=waits, daemon=True)
    waiting.start()
    until(lambda: executor.asked and fleet.alive == 0)
    fleet.close()
    waiting.join(10)
    gate.set()
    assert told


def test_a_call_that_cannot_be_sent_is_not_under_way():
    fleet = started(Threads(), 2, 1, replicas=2)
    for seat in fleet._seats:
        seat.worker.call = lambda function, item: item.missing
    for _ in range(2):
        with pytest.raises(AttributeError):
            fleet.call(0, double, 7)
    assert fleet.place(0) == 0
    fleet.close()


def test_a_second_worker_is_asked_for_what_is_late():
    late = threading.Event()
    executor = Threads()
    fleet, hedge = started(executor, 2, 1, replicas=2), Hedge(0.9)
    for i in range(LEAST):
        assert hedge.after is None
        ask(fleet, double, {0: 20 + i}, hedge=hedge)
    until(lambda: not any(seat.calls for seat in fleet._seats))
    executor.script[0] = [late]
    assert hedge.after is not None
    assert ask(fleet, double, {0: 100}, hedge=hedge) == {0: 200}
    assert {number for number, item in executor.asked if item == 100} == {0, 1}
    late.set()
    fleet.close()


def test_what_kills_three_workers_is_an_error():
    executor = Threads({0: ["dies"] * 5, 1: ["dies"] * 5})
    fleet = started(executor, 2, 1)
    with pytest.raises(WorkerDiedError, match=r"^3 workers died with 7 in hand, the last one: worker . was killed"):
        ask(fleet, double, {0: 7}, hedge=Hedge())
    executor.script.clear()
    assert ask(fleet, double, {0: 8}, hedge=Hedge()) == {0: 16}, "the fleet goes on"
    fleet.close()


def test_what_another_request_kills_its_workers_with_is_no_error():
    """However many die with that one in hand while this one is behind it."""
    executor = Threads({number: ["dies before"] * 5 for number in range(2)})
    fleet = started(executor, 2, 1)
    assert ask(fleet, double, {0: 7}, hedge=Hedge()) == {0: 14}
    assert len(executor.asked) >= 6
    fleet.close()


def test_no_other_can_be_started(caplog):
    executor = Threads({0: ["dies"]})
    executor.first, executor.refuses = 1, [ConfigError("no room"), ConfigError("no room"), None]
    fleet = started(executor, 1, 1)
    with pytest.raises(WorkerDiedError, match="all 1 workers died, and no other could be started: no room"):
        ask(fleet, double, {0: 7}, hedge=Hedge())
    until(lambda: fleet.alive == 1)
    assert ask(fleet, double, {0: 7}, hedge=Hedge()) == {0: 14}
    assert "no worker could be started in place of one that died: no room" in caplog.text
    fleet.close()


def test_a_worker_that_differs_is_not_tried_again():
    executor = Threads({0: ["dies"]})
    executor.first, executor.refuses = 2, [WorkerDiffersError("has numpy 1, and here it is 2")]
    fleet = started(executor, 2, 2)
    assert ask(fleet, double, {0: 7}, hedge=Hedge()) == {0: 14}
    until(lambda: not executor.refuses)
    time.sleep(0.05)
    assert fleet.alive == 1
    assert len(executor.made) == 2
    fleet.close()


def test_what_one_cannot_prepare_ends_all():
    executor = Threads()

    def prepare(worker):
        if worker.number == 1:
            raise ConfigError("this folder is not shared")

    with pytest.raises(ConfigError, match="not shared"):
        started(executor, 3, 3, prepare=prepare)
    assert all(worker.closed for worker in executor.made)


def test_one_that_dies_while_it_begins_is_started_again(caplog):
    executor = Threads()
    executor.refuses = [WorkerDiedError("its node is lost")] * 2 + [None]
    fleet = started(executor, 1, 1)
    assert ask(fleet, double, {0: 7}, hedge=Hedge()) == {0: 14}
    assert caplog.text.count("started again: its node is lost") == 2
    fleet.close()

    executor = Threads()
    executor.refuses = [WorkerDiedError("out of memory")] * 5
    with pytest.raises(WorkerDiedError, match=r"^out of memory$"):
        started(executor, 1, 1)
    assert len(executor.refuses) == 2, "three times, not for ever"


def test_many_ask_at_once(caplog):
    """While one worker after another dies."""
    caplog.set_level(logging.ERROR)
    executor = Threads({number: [None] * (10 + 50 * number) + ["dies"] for number in range(3)})
    fleet, found = started(executor, 3, 3, replicas=2), []

    def client(first):
        for _ in range(20):
            expected = {shard: 2 * (first + shard) for shard in range(3)}
            found.append(ask(fleet, double, {shard: first + shard for shard in range(3)}, hedge=Hedge(0.5)) == expected)

    clients = [threading.Thread(target=client, args=(100 * n,)) for n in range(1, 7)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert found == [True] * 120
    until(lambda: fleet.alive == 3)
    assert len(executor.made) > 3, "some died, and others came"
    fleet.close()
