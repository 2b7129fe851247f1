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
from typing import IO, Any

from colbert_research.sweep.tasks import Task

PINNED = ("COLBERT_RESEARCH_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What numerical libraries read when they are loaded."""
LOST = -9
"""The status of a task whose end nobody saw, because the server was killed."""


class Pool:
    """Tasks under way. `begin` returns at once; `wait` gives the number and exit status of each that has ended."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None
        self._ended: queue.Queue[tuple[int, int]] = queue.Queue()
        self._numbers: set[int] = set()
        self._count = 0

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Let the server end; after an error or an interrupt, with whatever it has begun."""
        if self._server is not None:
            assert self._server.stdin is not None
            if kind is not None:
                self._server.terminate()
            with suppress(OSError):
                self._server.stdin.close()
            self._server.wait()
            self._listener.join()

    @property
    def busy(self) -> int:
        """How many tasks are under way."""
        return len(self._numbers)

    def begin(self, task: Task, *, fresh: bool = False) -> int:
        """Start a task in a process of its own; a `fresh` one has its threads pinned before any library is loaded."""
        self._count += 1
        number = self._count
        self._numbers.add(number)
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
        ended = [(number, status) for number, status in ended if number in self._numbers]
        self._numbers -= {number for number, _ in ended}
        return ended

    def _tell(self, number: int, task: Task) -> None:
        if self._server is None or self._server.poll() is not None:
            command = [sys.executable, "-m", "colbert_research.sweep.server"]
            self._server = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=os.name == "posix"
            )
            self._listener = threading.Thread(target=self._listen, args=(self._server.stdout,), daemon=True)
            self._listener.start()
        assert self._server.stdin is not None
        try:
            self._server.stdin.write(json.dumps({"number": number, "task": asdict(task)}) + "\n")
            self._server.stdin.flush()
        except OSError:
            self._ended.put((number, LOST))

    def _listen(self, lines: IO[str]) -> None:
        """Read what a server tells, until it ends; then whatever was under way there is lost."""
        begun: set[int] = set()
        with lines:
            for line in lines:
                try:
                    message: Mapping[str, Any] = json.loads(line)
                    if "status" in message:
                        begun.discard(message["number"])
                        self._ended.put((message["number"], message["status"]))
                    else:
                        begun.add(message["number"])
                except (ValueError, KeyError, TypeError):  # printed by something that was imported
                    continue
        for number in begun:
            self._ended.put((number, LOST))

    def _begin_fresh(self, number: int, task: Task) -> None:
        environment = {**os.environ, **dict.fromkeys(PINNED, str(task.threads))}
        command = [sys.executable, "-c", "from colbert_research.sweep.tasks import main; main()", task.to_json()]
        process = subprocess.Popen(command, env=environment)
        threading.Thread(target=lambda: self._ended.put((number, process.wait())), daemon=True).start()
