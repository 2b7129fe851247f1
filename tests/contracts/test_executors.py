"""What every executor promises, whatever its workers are."""

import itertools
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil
import pytest

from colbert_research import threads
from colbert_research.executors import EXECUTORS, Executor, NotBegunError, Resources, WorkerDiedError
from colbert_research.settings import ConfigError
from tests.contracts import executor_functions as functions
from tests.ray_nodes import cluster_of

KINDS = [
    "inline",
    pytest.param("processes", marks=pytest.mark.slow),
    pytest.param(
        "ray",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not os.environ.get("ALL_TRIALS"), reason="a minute; see tests/sweep/test_ray_cluster.py"),
        ],
    ),
]


@pytest.fixture(scope="module")
def ray_cluster():
    """One connection for all tests, which executors use as they find it."""
    pytest.importorskip("ray")
    with cluster_of(1):
        yield


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return request.param


@pytest.fixture
def executor(kind):
    with EXECUTORS[kind]().start() as started:
        yield started


@pytest.fixture
def with_workers(kind):
    """An executor that has workers which can die."""
    if kind == "inline":
        pytest.skip("its worker is this process")
    with EXECUTORS[kind](workers=1, attempts=2).start() as started:
        yield started


def test_every_item_comes_once_with_its_result(executor):
    assert isinstance(executor, Executor)
    assert sorted(executor.map(functions.double, range(10))) == [(i, 2 * i) for i in range(10)]
    assert list(executor.map(functions.double, [])) == []
    assert list(executor.map(partial(functions.double), [4])) == [(4, 8)]
    assert sorted(executor.map(functions.double, [1, 1, 1])) == [(1, 2)] * 3, "equal items are several"


def test_items_are_taken_when_a_worker_is_free(executor):
    taken = []
    found = executor.map(functions.double, (taken.append(i) or i for i in itertools.count()))
    for _ in range(3):
        item, result = next(found)
        assert result == 2 * item
    assert len(taken) <= 3 + executor.workers()
    found.close()


def test_an_error_names_its_item_and_loses_no_other_result(executor):
    given = []
    with pytest.raises(ValueError, match="three is refused") as caught:
        given.extend(executor.map(functions.refuse_three, range(1000)))
    assert {0, 1, 2} <= {item for item, _ in given}, "they were begun before"
    assert len(given) < 1000, "no other item is begun"
    assert str(caught.value) == "three is refused"
    told = "\n".join(caught.value.__notes__)
    assert "its item was 3" in told and "refuse_three" in told and "in process" in told


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        (functions.raise_strange, RuntimeError, "StrangeError: strange"),
        (functions.leave, SystemExit, "I leave"),
        (functions.give_a_lock, TypeError, "the result, a lock, cannot be pickled"),
    ],
)
def test_errors_that_cannot_cross(kind, function, error, said):
    with EXECUTORS[kind]().start() as executor, pytest.raises(error, match=said):
        list(executor.map(function, [1]))


def test_a_result_that_cannot_be_read(executor):
    """Its worker was waited for without end, as was every later call."""
    with pytest.raises(TypeError, match=r"cannot be unpickled here \(ValueError: not here\)"):
        list(executor.map(functions.give_what_cannot_be_read, [1]))
    worker = executor.worker()
    try:
        with pytest.raises(TypeError, match="cannot be unpickled here"):
            worker.call(functions.give_what_cannot_be_read, 1).result(timeout=60)
        assert worker.call(functions.double, 2).result(timeout=60) == 4
    finally:
        worker.close()


def test_what_cannot_cross_to_a_worker(executor):
    def local(item):
        return item

    for function in (lambda item: item, local, partial(local, 1), executor.map):
        with pytest.raises(TypeError, match=r"imports its function by name.*top level of a module"):
            executor.map(function, [1])
    with pytest.raises(TypeError, match=r"item .*function.* cannot be pickled"):
        list(executor.map(functions.double, [local]))


def test_a_worker_has_the_threads_that_are_asked_for(kind, executor):
    assert list(executor.map(functions.threads_here, [0], Resources(cpus=1))) == [(0, 1)]
    if (most := threads.available()) > 1 and kind != "ray":  # whose node here has one
        assert list(executor.map(functions.threads_here, [0], Resources(cpus=most))) == [(0, most)]


def test_more_than_there_is(kind, executor):
    many = 10**5
    with pytest.raises(ConfigError, match=f"{many} "):
        executor.map(functions.double, [1], Resources(cpus=many))
    if kind != "inline":
        with EXECUTORS[kind](workers=many).start() as asked, pytest.raises(ConfigError, match=f"{many} workers.*there is room"):
            asked.workers()


def test_an_item_whose_worker_dies_is_begun_again(with_workers, tmp_path):
    items = [(str(tmp_path), i) for i in range(4)]
    assert sorted(with_workers.map(functions.die_once, items)) == [(item, item[1]) for item in items]
    assert (tmp_path / "died").exists()


def test_not_for_ever(with_workers):
    with pytest.raises(WorkerDiedError, match=r"^2 workers died with 7 in hand, the last one: .*memory"):
        list(with_workers.map(functions.die, [7]))
    assert list(with_workers.map(functions.double, [7])) == [(7, 14)], "the executor goes on"


def begun(folder: Path) -> list[int]:
    deadline = time.monotonic() + 60
    while not (found := list(folder.glob("begun.*"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [int(path.suffix[1:]) for path in found]


def gone(processes: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while (left := any(psutil.pid_exists(each) for each in processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not left


@pytest.fixture
def heard():
    """An interrupt is heard here, also where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_an_interrupt_leaves_nothing_running(with_workers, tmp_path):
    """It comes while a worker is busy."""
    interrupt = threading.Thread(target=lambda: begun(tmp_path) and os.kill(os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        list(with_workers.map(functions.wait_for, [str(tmp_path)]))
    interrupt.join()
    assert gone(begun(tmp_path))


def test_a_worker_stays_with_what_it_holds(kind):
    """Calls are performed in their order, whoever makes them, and one that fails spoils no other."""
    with EXECUTORS[kind]().start() as executor:
        worker = executor.worker()
        try:
            first = worker.call(functions.remember, -1).result()
            calls = [worker.call(functions.remember, i) for i in range(5)]
            failed = worker.call(functions.refuse_three, 3)
            assert worker.call(functions.remember, 5).result() == [*first, *range(6)]
            assert [call.result() for call in calls] == [[*first, *range(i + 1)] for i in range(5)]
            with pytest.raises(ValueError, match="three is refused") as caught:
                failed.result()
            assert "in process" in caught.value.__notes__[0]
            assert worker.where
            with pytest.raises(TypeError, match="imports its function by name"):
                worker.call(lambda item: item, 1)
            with pytest.raises(TypeError, match="cannot be pickled"):
                worker.call(functions.double, lambda: 1)
        finally:
            worker.close()


def test_a_worker_that_dies_fails_what_it_has_in_hand_and_all_later_calls(kind, with_workers):
    worker = with_workers.worker()
    calls = [worker.call(functions.die, 1), worker.call(functions.double, 2)]
    for call in calls:
        with pytest.raises(WorkerDiedError, match=r"^a worker died: .*(killed by signal 9|actor)"):
            call.result()
    assert not isinstance(calls[0].exception(), NotBegunError)
    assert kind == "ray" or isinstance(calls[1].exception(), NotBegunError)
    with pytest.raises(WorkerDiedError, match="a worker died"):
        worker.call(functions.double, 3).result()
    worker.close()
    other = with_workers.worker()
    waiting = other.call(functions.double, 1)
    assert waiting.result() == 2
    other.close()
    with pytest.raises(WorkerDiedError):
        other.call(functions.double, 1).result()


def test_a_call_that_is_withdrawn_is_not_performed(kind, with_workers, tmp_path):
    """But for the next one, which the worker may have already."""
    worker = with_workers.worker()
    try:
        busy = worker.call(functions.wait_for, str(tmp_path))
        begun(tmp_path)
        calls = [worker.call(functions.remember, i) for i in range(5)]
        left = [i for i, call in enumerate(calls) if not call.cancel()]
        assert left in ([], [0])
        (tmp_path / "go").touch()
        busy.result(timeout=60)
        assert worker.call(functions.remember, 9).result(timeout=60) == [*left, 9]
    finally:
        worker.close()


def test_executors_of_ray_share_a_connection(monkeypatch):
    """It ended with the first of them, and the workers of the others with it."""
    from colbert_research.executors import on_ray

    class Fake:
        connected = False

        def is_initialized(self):
            return self.connected

        def init(self, **given):
            self.connected = True

        def shutdown(self):
            self.connected = False

    ray = Fake()
    monkeypatch.setattr(on_ray, "_ray", lambda: ray)
    one, other = EXECUTORS["ray"]().start(), EXECUTORS["ray"]().start()
    with ExitStack() as stack:
        with one:
            stack.enter_context(other)
        assert ray.connected
    assert not ray.connected
    ray.connected = True
    with EXECUTORS["ray"]().start():
        pass
    assert ray.connected, "it was there before"


@pytest.mark.slow
def test_processes_do_not_outlive_who_started_them(tmp_path):
    from tests.warm import Program

    source = (
        "import sys\nfrom colbert_research.executors import EXECUTORS\n"
        "from tests.contracts.executor_functions import wait_for\n"
        "with EXECUTORS['processes'](workers=1).start() as executor: list(executor.map(wait_for, [sys.argv[1]]))"
    )
    with Program(source, tmp_path) as program:
        workers = begun(tmp_path)
        assert workers
        program.kill()
    assert gone(workers)


@pytest.mark.slow
def test_importing_executors_imports_no_ray():
    import subprocess

    program = "import sys, colbert_research.executors, colbert_research.experiment; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)
