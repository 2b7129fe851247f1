"""What holds of workers that are processes of this machine."""

import os
import signal
import sys
import threading
from contextlib import suppress

import pytest

from colbert_research import threads
from colbert_research.executors import EXECUTORS, Resources, WorkerDiedError
from colbert_research.settings import ConfigError
from tests.contracts import executor_functions as functions


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="stops a process by a signal")
def test_a_worker_that_reads_nothing_keeps_nobody_waiting():
    """Neither who calls, with more than a pipe takes, nor who closes it."""
    with EXECUTORS["processes"](workers=1).start() as executor:
        worker, calls = executor.worker(), []
        process = worker.call(functions.pid, 0).result()
        os.kill(process, signal.SIGSTOP)
        caller = threading.Thread(target=lambda: calls.extend(worker.call(len, bytes(2**20)) for _ in range(5)), daemon=True)
        closer = threading.Thread(target=worker.close, daemon=True)
        try:
            for each in (caller, closer):
                each.start()
                each.join(10)
                assert not each.is_alive()
        finally:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for call in calls:
            with pytest.raises(WorkerDiedError, match="was closed"):
                call.result(timeout=10)


@pytest.mark.slow
def test_what_a_function_prints_is_no_answer(capfd):
    with EXECUTORS["processes"](workers=1).start() as executor:
        assert list(executor.map(functions.speak, [1])) == [(1, "")]
    assert capfd.readouterr().out == ""


def test_memory_is_divided(monkeypatch, caplog):
    from colbert_research.executors import processes

    monkeypatch.setattr(processes, "available_memory", lambda: int(5e9))
    monkeypatch.setattr(threads, "count", lambda: 8)
    with EXECUTORS["processes"](memory=2 * 10**9).start() as executor:
        assert executor.workers() == 2
        assert executor.workers(Resources(cpus=3)) == 2
        assert not caplog.records
        assert executor.workers(Resources(memory=6 * 10**9)) == 1, "less is not to be had"
    assert caplog.messages == ["it may not fit into memory: 6.0 GB a worker, 5.0 GB are available"]
    with EXECUTORS["processes"](memory=2 * 10**9, workers=3).start() as executor, pytest.raises(ConfigError) as error:
        executor.workers()
    assert str(error.value) == (
        "executor processes: 3 workers, each with 2.0 GB of the 5.0 GB that are available: there is room for 2"
    )


def test_gpus_are_divided(monkeypatch):
    from colbert_research.executors import processes

    monkeypatch.setattr(threads, "count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,7")
    assert processes._shares(1) == ["2", "3", "7"]
    assert processes._shares(2) == ["2,3"]
    assert processes._shares(0.5) == ["2", "3", "7"] * 2
    with EXECUTORS["processes"](gpus=1).start() as executor:
        assert executor.workers() == 3
        with pytest.raises(ConfigError, match="1 workers, each with 4 of the 3 GPUs: there is room for 0"):
            executor.workers(Resources(gpus=4))
    with pytest.raises(ValueError, match=r"a part of one GPU, or whole ones; given 1\.5"):
        Resources(gpus=1.5)


def test_an_answer_that_comes_when_its_worker_was_closed():
    """It was taken from an empty line, and ended the thread that listens with a traceback."""
    with EXECUTORS["processes"](workers=1).start() as executor:
        worker = executor.worker()
        assert worker.call(abs, -3).result(timeout=60) == 3
        worker.close()
        worker.put((None, b"late"))
        with pytest.raises(WorkerDiedError):
            worker.call(abs, -3).result(timeout=60)
