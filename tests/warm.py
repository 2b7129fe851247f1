"""Programs in processes of their own that need not import what this package imports: forks of a process that has.

`Program(source, *arguments)` is to the tests what `subprocess.Popen([sys.executable, "-c", source, *arguments])` is: a process
with its own standard streams, folder and environment, which can be killed at any instant. What starts in a second or five that
way starts at once. What is tested of the start itself (a command line, a module that is imported late) takes `subprocess`.
"""

import io
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path

from colbert_research.sweep import pool
from colbert_research.sweep.server import serve

ROOT = Path(__file__).resolve().parents[1]
PAPERMILL = """
import sys
from papermill.cli import papermill
from papermill.engines import papermill_engines
from colbert_research.sweep.engine import InProcess

papermill_engines.register("in-process", InProcess)
papermill([*sys.argv[1:], "--engine", "in-process", "--no-progress-bar"])
"""
"""Papermill's own command, without a kernel; that it shows what a kernel does is tested in tests/sweep/test_engine.py."""

COMMAND = """
import sys
from tests.warm import fork_servers
from colbert_research.cli import main

fork_servers()
main(sys.argv[1:])
"""
"""The command of this package, whose sweeps have servers that need not import what it has imported."""

_context = multiprocessing.get_context("forkserver") if sys.platform != "win32" else None


def _start_the_process_that_has_imported_everything() -> None:
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), before))
    try:
        _context.set_forkserver_preload(["tests.preloaded"])
        forkserver.ensure_running()
    finally:
        os.environ["PYTHONPATH"] = before


class Program:
    """A program under way, with what of `subprocess.Popen` the tests use."""

    def __init__(
        self, source: str, *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None,
        stderr: int | None = subprocess.PIPE,
    ) -> None:  # fmt: skip
        _start_the_process_that_has_imported_everything()
        (stdin, ours), (theirs, stdout), (also, errors) = (_context.Pipe(duplex=False) for _ in range(3))
        given = source, [str(each) for each in arguments], dict(env or os.environ), str(cwd or Path.cwd())
        self._process = _context.Process(target=_perform, args=(*given, stdin, stdout, errors if stderr else None))
        self._process.start()
        for end in (stdin, stdout, errors):
            end.close()
        self.stdin = os.fdopen(os.dup(ours.fileno()), "w")
        self.stdout = os.fdopen(os.dup(theirs.fileno()))
        self.stderr = os.fdopen(os.dup(also.fileno())) if stderr else None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a program of the tests", timeout)
        return self.returncode

    def communicate(self, text: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        with ThreadPoolExecutor(2) as pool:
            said = [pool.submit(stream.read) for stream in (self.stdout, self.stderr) if stream is not None]
            if not self.stdin.closed:
                if text is not None:
                    self.stdin.write(text)
                self.stdin.close()
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            found = [each.result() for each in said]
        self._close()
        return found[0], "".join(found[1:])

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self.wait()

    def _close(self) -> None:
        for stream in filter(None, (self.stdin, self.stdout, self.stderr)):
            with suppress(BrokenPipeError):
                stream.close()


class _Server:
    """What `colbert_research.sweep.pool` asks of the process of a server, by a fork of this one."""

    def __init__(self) -> None:
        (tasks, ours), (theirs, told) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.setsid()
                os.dup2(tasks, 0)
                os.dup2(told, 1)
                os.closerange(3, 1024)  # among them the other end of its input, which would have no end otherwise
                sys.stdout = os.fdopen(1, "w", closefd=False)
                logging.getLogger().handlers.clear()  # those of the command
                serve()
                status = 0
            finally:
                os._exit(status)
        os.close(tasks)
        os.close(told)
        self.stdin, self.stdout, self._status = os.fdopen(ours, "w"), os.fdopen(theirs), None

    def wait(self) -> int:
        with suppress(ChildProcessError):  # its listener has waited for it
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)


class _Subprocess:
    PIPE = subprocess.PIPE

    @staticmethod
    def Popen(command: list[str], **more: object) -> object:
        return _Server() if command[-1] == "colbert_research.sweep.server" else subprocess.Popen(command, **more)


def fork_servers() -> None:
    """Let the servers of this process's sweeps be forks of it."""
    pool.subprocess = _Subprocess


def _perform(source: str, arguments: list[str], env: dict[str, str], cwd: str, *ends) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored by what runs in the background of a shell
    for number, end in enumerate(ends):
        if end is not None:
            os.dup2(end.fileno(), number)
            end.close()
    sys.stdin, sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, mode, closefd=False), encoding="utf-8", line_buffering=True, write_through=True)
        for number, mode in enumerate("rww")
    )
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["-c", *arguments]
    exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})
