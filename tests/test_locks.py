"""Locks between processes: one holder, who says its name, and whose death frees the lock."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from colbert_research.locks import WAIT_VARIABLE, Lock, LockedError, locked, longest_wait

HOLDER = """
import sys, time
from pathlib import Path
from colbert_research.locks import locked

with locked(Path(sys.argv[1]), "hold on"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(path: Path, seconds: float) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_released_lock_leaves_nothing(tmp_path):
    with locked(tmp_path / "deep" / "lock") as lock:
        assert lock.held
        assert os.listdir(tmp_path / "deep") == ["lock"]
    assert not lock.held
    assert os.listdir(tmp_path / "deep") == []
    lock.release()


def test_on_a_full_disk_a_lock_still_holds_and_lets_go(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with locked(tmp_path / "lock"):
            assert not Lock(tmp_path / "lock", "").try_acquire()
    assert Lock(tmp_path / "lock", "").try_acquire()


def test_who_waits_says_for_whom_and_for_how_long(tmp_path, caplog):
    path = tmp_path / "lock"
    with holder(path, 60) as process:
        try:
            caplog.set_level(logging.INFO, "colbert_research")
            with pytest.raises(LockedError, match=rf"encode 12: waited 0.3 s for process {process.pid} on .*{WAIT_VARIABLE}"):
                Lock(path, "encode 12").acquire(0.3)
            assert caplog.text.count(f"waiting for process {process.pid}") == 1
            assert not Lock(path, "").try_acquire()
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_dead_holder_is_taken_over_from(tmp_path):
    path = tmp_path / "lock"
    process = holder(path, 60)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()
    assert path.is_file(), "it could not tidy up"
    with locked(path, wait=5):
        assert str(os.getpid()) in path.read_text()
    assert not path.exists()


def test_a_waiter_goes_on_when_the_holder_ends(tmp_path):
    with holder(tmp_path / "lock", 0.4) as process, locked(tmp_path / "lock", wait=30):
        process.wait(timeout=30)


def test_one_holder_at_a_time_among_threads(tmp_path):
    inside, most, counted = [], [], []

    def work():
        for _ in range(20):
            with locked(tmp_path / "lock", wait=30):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
            counted.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(counted) == 80
    assert max(most) == 1
    assert os.listdir(tmp_path) == []


def test_a_lock_whose_file_was_removed_is_no_longer_held(tmp_path):
    lock = Lock(tmp_path / "lock", "")
    lock.acquire()
    (tmp_path / "lock").unlink()
    assert not lock.held
    other = Lock(tmp_path / "lock", "")
    other.acquire(1)
    lock.release()
    assert other.held, "the first did not remove the other's file"
    other.release()


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\x01"])
def test_a_holder_without_a_name(tmp_path, text):
    lock = Lock(tmp_path / "lock", "")
    (tmp_path / "lock").write_text(text)
    assert str(tmp_path / "lock") in lock.holder()


def test_how_long_to_wait(monkeypatch):
    monkeypatch.delenv(WAIT_VARIABLE, raising=False)
    assert longest_wait() == 86_400
    monkeypatch.setenv(WAIT_VARIABLE, "1.5")
    assert longest_wait() == 1.5
    for wrong in ("soon", "-1", "inf", "nan"):
        monkeypatch.setenv(WAIT_VARIABLE, wrong)
        with pytest.raises(ValueError, match=f"{WAIT_VARIABLE} is a number of seconds from 0; given '{wrong}'"):
            longest_wait()


@pytest.mark.slow
def test_time_is_not_burnt_while_waiting(tmp_path):
    with holder(tmp_path / "lock", 1.0) as process:
        start = time.process_time()
        with locked(tmp_path / "lock", wait=30):
            assert time.process_time() - start < 0.5
        process.wait(timeout=30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_holds_no_lock_of_a_parent_that_is_gone(tmp_path):
    """A worker that was forked off kept the lock of a run that had been killed."""
    program = f"""
import os, time
from pathlib import Path
from colbert_research.locks import Lock
lock = Lock(Path({str(tmp_path / "lock")!r}), "hold on")
assert lock.try_acquire()
child = os.fork()
if child == 0:
    assert not lock.held
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    try:
        time.sleep(0.2)
        assert not Lock(tmp_path / "lock", "").try_acquire()
        parent.kill()
        parent.wait(timeout=30)
        assert Lock(tmp_path / "lock", "").try_acquire()
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()
