"""Processes for the tasks of a sweep: forks of one that has imported everything, or fresh ones whose threads are pinned."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from colbert_research.executors.processes import PINNED
from colbert_research.sweep.tasks import Task

LOST = -9
"""The status of a task whose end nobody saw, because the server was killed."""


class Pool:
    """Tasks under way. `begin` returns at once; `wait` gives the number and exit status of each that has ended."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None
        self._told: set[int] = set()  # the tasks of that server that have not ended
        self._listeners: list[threading.Thread] = []
        self._fresh: list[subprocess.Popen[bytes]] = []
        self._guard = threading.Lock()
        self._ended: queue.Queue[tuple[int, int]] = queue.Queue()
        self._count = 0

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Let the server end; after an error or an interrupt, with whatever has begun, there and by itself."""
        with self._guard:
            server, self._server = self._server, None
        for process in self._fresh if kind is not None else ():
            process.terminate()
        if server is not None:
            assert server.stdin is not None
            if kind is not None:
                server.terminate()
            with suppress(OSError):
                server.stdin.close()
            server.wait()
        for process in self._fresh:
            process.wait()
        for listener in self._listeners:
            listener.join()

    def begin(self, task: Task, *, fresh: bool = False) -> int:
        """Start a task in a process of its own; a `fresh` one has its threads pinned before any library is loaded."""
        self._count += 1
        number = self._count
        if fresh:
            self._begin_fresh(number, task)
        else:
            self._tell(number, task)
        return number

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        """Number and exit status of the tasks that have ended, after at most so many seconds."""
        ended = []
        try:
            ended.append(self._ended.get(timeout=seconds))
            while True:
                ended.append(self._ended.get_nowait())
        except queue.Empty:
            pass
        return ended

    def _tell(self, number: int, task: Task) -> None:
        with self._guard:
            if self._server is None:
                command = [sys.executable, "-m", "colbert_research.sweep.server"]
                self._server = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=os.name == "posix"
                )
                self._told = set()
                self._listeners.append(threading.Thread(target=self._listen, args=(self._server, self._told), daemon=True))
                self._listeners[-1].start()
            self._told.add(number)
            assert self._server.stdin is not None
            with suppress(OSError):  # it was killed; its listener will say what is lost
                self._server.stdin.write(json.dumps({"number": number, "task": asdict(task)}) + "\n")
                self._server.stdin.flush()

    def _listen(self, server: "subprocess.Popen[str]", told: set[int]) -> None:
        """Read what a server tells until it ends; every task that it was given and has not ended is lost with it."""
        assert server.stdout is not None
        with server.stdout as lines:
            for line in lines:
                try:
                    message: Mapping[str, Any] = json.loads(line)
                    number, status = message["number"], message["status"]
                except (ValueError, KeyError, TypeError):  # printed by something that was imported
                    continue
                with self._guard:
                    told.discard(number)
                self._ended.put((number, status))
        with self._guard:
            if self._server is server:  # killed: the next task begins another
                self._server = None
                with suppress(OSError):
                    assert server.stdin is not None
                    server.stdin.close()
            lost = sorted(told)
        server.wait()
        for number in lost:
            self._ended.put((number, LOST))

    def _begin_fresh(self, number: int, task: Task) -> None:
        environment = {**os.environ, **dict.fromkeys(PINNED, str(task.threads))}
        process = subprocess.Popen(task.command(), env=environment)
        self._fresh.append(process)
        threading.Thread(target=lambda: self._ended.put((number, process.wait())), daemon=True).start()
